"""B7: the link goes away and comes back: how soon do bytes move again, what is fetched twice?"""

from __future__ import annotations

from simulations.bench.mesh.bounds import finish, lags, middle
from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import Watch, distribute
from simulations.bench.mesh.systems.base import System
from simulations.lab.shaping import MBIT, Outage, flapping, uniform

MIB = 1 << 20
RATE, RTT = 20 * MBIT, 0.05
PATIENCE = 240.0


def cases(options: Options) -> list[Case]:
    """One outage of 2, 8 and 30 s, and a link that is up 5 s and down 5 s by turns."""
    size = options.sizes[0] if options.sizes else 24 * MIB
    single = {f"outage of {length:g} s": (Outage(4.0, length),) for length in (2.0, 8.0, 30.0)}
    plans = {**single, "5 s on, 5 s off": flapping(5.0, 5.0, 5.0, PATIENCE)}
    if options.quick:
        plans = {"outage of 2 s": (Outage(1.0, 2.0),)}
        size = options.sizes[0] if options.sizes else 6 * MIB
    found = []
    for name, outages in plans.items():
        links = uniform(2, rate=RATE, rtt=RTT, outages=outages, congestion=options.congestion)
        bound = finish(size / RATE, outages)
        found.append(Case(name, links, size, bound, patience=PATIENCE))
    return found


def measure(run: Run, watch: Watch, case: Case) -> None:
    """Add the lag after each outage, and what was fetched beyond the blob."""
    found = lags(watch.timeline, case.links.outages)
    run.values["lag"] = middle(found)
    run.values["lag_worst"] = max(found, default=float("nan"))
    run.values["outages"] = float(len(found))


def play(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system over a link with outages."""
    return distribute("B7", case, kind, round_, measure=measure)


B7 = Experiment(
    key="B7",
    title="outages of 2, 8, 30 s; 5 s on, 5 s off; 20 Mbit/s, 50 ms",
    cases=cases,
    systems=("atoll", "curl", "rsync", "syncthing", "libtorrent"),
    play=play,
    target=Target("lag", 1.05),
    metrics=("lag_worst", "share", "seconds", "overhead", "outages"),
)
