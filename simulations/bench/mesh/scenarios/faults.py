"""B8, B9, B10: a receiver is killed, the source vanishes, a peer is ill."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from simulations.bench.mesh.bounds import fluid_bound, others
from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import Event, Watch, distribute
from simulations.bench.mesh.systems.base import System
from simulations.lab.shaping import MBIT, Change, Outage, Scenario, uniform

MIB = 1 << 20
RATE, RTT = 20 * MBIT, 0.05
PATIENCE = 240.0
AWAY = 1.0  # seconds that a killed receiver is gone
RECOVERY = 15.0  # seconds that those who are left have to share what they hold
FAULT_AT = 1.5
PIECE, EVERY = 1 << 16, 100  # one byte in every hundredth piece of 64 KiB is wrong: 1 %


# --- B8 -----------------------------------------------------------------------------------------
def killed(options: Options) -> list[Case]:
    """One pair."""
    size = options.sizes[0] if options.sizes else (6 if options.quick else 24) * MIB
    links = uniform(2, rate=RATE, rtt=RTT, congestion=options.congestion)
    return [Case("kill -9 of the receiver", links, size, size / RATE, patience=PATIENCE)]


def kill_once(round_: int, system: System, case: Case) -> Sequence[Event]:
    """Kill the receiver at a moment that the round decides; start it again."""
    at = random.Random(round_).uniform(0.2, 0.8) * case.bound
    receiver = case.receivers[0]
    return (at, lambda: system.kill(receiver)), (at + AWAY, lambda: system.restart(receiver))


def count_twice(run: Run, watch: Watch, case: Case) -> None:
    """Add what was fetched twice, in seconds of the link's rate; framing counts in it."""
    run.values["refetch_seconds"] = max(0, watch.had[0] - case.size) / RATE


def play_kill(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system whose receiver is killed."""
    events = partial(kill_once, round_)
    return distribute("B8", case, kind, round_, events=events, measure=count_twice)


B8 = Experiment(
    key="B8",
    title="kill -9 of a receiver at a random moment, back after a second",
    cases=killed,
    systems=("atoll", "curl", "rsync", "syncthing", "libtorrent"),
    play=play_kill,
    target=Target("refetch_seconds", 2.0),
    metrics=("seconds", "overhead"),
)


# --- B9 -----------------------------------------------------------------------------------------
def vanished(options: Options) -> list[Case]:
    """The source goes away after 0.5, 0.8 and 1.05 times F/u."""
    size = options.sizes[0] if options.sizes else (4 if options.quick else 16) * MIB
    links = uniform(5, rate=RATE, rtt=RTT, congestion=options.congestion)
    bound, found = fluid_bound(size, links), []
    for factor in (0.5, 0.8, 1.05):
        at = factor * bound
        case = Case(
            f"source gone at {factor:g} F/u",
            links,
            size,
            bound,
            receivers=others(5, (0,)),
            patience=at + RECOVERY,
            extra={"at": at},
        )
        found.append(case)
    return found


def vanish(system: System, case: Case) -> Sequence[Event]:
    """Cut the source off for good."""
    pairs = [(0, receiver) for receiver in case.receivers]
    return ((case.extra["at"], lambda: system.stage.net.block(pairs)),)


def count_recovered(run: Run, watch: Watch, case: Case) -> None:
    """Add what the poorest of those who are left has in the end."""
    run.values["recoverable"] = min(1.0, min(watch.had) / case.size)
    run.values["whole"] = float(len(run.times))


def play_vanish(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system whose source vanishes."""
    return distribute("B9", case, kind, round_, events=vanish, measure=count_recovered, whole=False)


B9 = Experiment(
    key="B9",
    title="the source vanishes; four receivers share what they have",
    cases=vanished,
    systems=("atoll", "atoll-policy", "libtorrent", "libtorrent-super"),
    play=play_vanish,
    metrics=("recoverable", "whole", "source_copies"),
)


# --- B10 ----------------------------------------------------------------------------------------
def ill(options: Options) -> list[Case]:
    """Two sources and three receivers; the second source falls ill."""
    size = options.sizes[0] if options.sizes else (6 if options.quick else 16) * MIB
    healthy = uniform(5, rate=RATE, rtt=RTT, congestion=options.congestion)
    pairs = tuple((1, other) for other in (0, 2, 3, 4))
    plans = {
        "all well": healthy,
        "one at 1 % of its rate": changed(healthy, changes=(Change(FAULT_AT, 1, 0.01),)),
        "one black-holes": changed(healthy, outages=(Outage(FAULT_AT, 1e6, pairs),)),
        "one corrupts 1 %": healthy,
    }
    bound = fluid_bound(size, healthy, (0,), (2, 3, 4))
    return [
        Case(name, links, size, bound, (0, 1), (2, 3, 4), patience=120.0)
        for name, links in plans.items()
    ]


def changed(
    links: Scenario, *, changes: tuple[Change, ...] = (), outages: tuple[Outage, ...] = ()
) -> Scenario:
    """Return the same links with something that happens to them."""
    return Scenario(
        up=links.up,
        down=links.down,
        delay=links.delay,
        loss=links.loss,
        outages=outages,
        changes=changes,
        congestion=links.congestion,
    )


def spoil(system: System) -> None:
    """Change a byte in each hundredth piece of what the second source holds."""
    with system.held(1).open("r+b") as file:
        for at in range(PIECE // 2, system.stage.case.size, PIECE * EVERY):
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 0xFF]))


def play_ill(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system with an ill peer."""
    corrupts = case.name.startswith("one corrupts")
    ready: Callable[[System], None] = spoil if corrupts else lambda _system: None
    return distribute("B10", case, kind, round_, ready=ready)


B10 = Experiment(
    key="B10",
    title="two sources, three receivers, 20 Mbit/s; the second source falls ill after 1.5 s",
    cases=ill,
    systems=("atoll", "libtorrent", "syncthing"),
    play=play_ill,
    target=Target("slowdown", 1.2),
    metrics=("seconds", "share", "overhead"),
    baseline="all well",
)
