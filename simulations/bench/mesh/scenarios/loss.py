"""B6: one pair over a lossy line: how much of the rate arrives?"""

from __future__ import annotations

from contextlib import suppress

from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import Watch, reject, staged
from simulations.bench.mesh.systems.base import System
from simulations.lab.net import LabError
from simulations.lab.shaping import MBIT, uniform

MIB = 1 << 20
RATE = 20 * MBIT
WINDOW = 12.0  # seconds that are looked at, slow start included
SIZE = 48 * MIB  # more than the rate carries in that time
LOSSES, TRIPS = (0.0, 0.001, 0.01, 0.03), (0.02, 0.05, 0.2)


def cases(options: Options) -> list[Case]:
    """Every loss and every round trip, under Cubic and BBR, both pinned."""
    grid = [(loss, rtt) for rtt in TRIPS for loss in LOSSES]
    if options.quick:
        grid = [(0.01, 0.05)]
    found = []
    for congestion in ("cubic", "bbr"):
        for loss, rtt in grid:
            links = uniform(2, rate=RATE, rtt=rtt, loss=loss, congestion=congestion)
            name = f"{congestion}, {loss:.1%} loss, {rtt * 1e3:.0f} ms"
            found.append(Case(name, links, SIZE, SIZE / RATE))
    return found


def play(case: Case, kind: type[System], round_: int) -> Run:
    """Let one system fetch for a while."""
    run = Run("B6", case.name, kind.name, round_, case.bound, [], {})
    with staged(case, kind) as (stage, system, doubts):
        for doubt in doubts:
            reject(run, doubt)
        watch = Watch(stage)
        system.begin(case.receivers[0])

        def done(receiver: int) -> bool:
            with suppress(LabError):  # a client that gives up has had what it has had
                return system.done(receiver)
            return False

        watch.wait(done, case.receivers, WINDOW)
        elapsed = watch.elapsed
        watch.finish(run)
        run.values["goodput"] = watch.had[0] / elapsed / RATE
    return run


B6 = Experiment(
    key="B6",
    title="one pair, 20 Mbit/s, loss 0 to 3 %, 20 to 200 ms: payload in the first 12 s",
    cases=cases,
    systems=("atoll", "curl", "aria2", "rsync", "libtorrent-utp"),
    play=play,
    target=Target("versus_best", 1.0, more_is_better=True),
    metrics=("goodput", "cpu_seconds"),
    rivalry="goodput",
)
