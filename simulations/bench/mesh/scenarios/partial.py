"""B5: a fast peer has half of it, a slow one everything: does a receiver use both?"""

from __future__ import annotations

from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import Event, Watch, distribute
from simulations.bench.mesh.stage import until
from simulations.bench.mesh.systems.base import System
from simulations.lab.shaping import MBIT, Change, Scenario

MIB = 1 << 20
FAST, SLOW, RTT = 20 * MBIT, 2 * MBIT, 0.05
SOURCE, PARTIAL, RECEIVER = 0, 1, 2
SHARE = 0.5  # that the fast peer has


def cases(options: Options) -> list[Case]:
    """The source is fast until the fast peer has its half, and slow from the beginning on."""
    size = options.sizes[0] if options.sizes else (4 if options.quick else 12) * MIB
    flat = ((RTT / 2,) * 3,) * 3
    links = Scenario(
        up=(FAST,) * 3,
        down=(FAST,) * 3,
        delay=flat,
        loss=((0.0,) * 3,) * 3,
        changes=(Change(0.0, SOURCE, SLOW / FAST),),
        congestion=options.congestion,
    )
    bound = (1 - SHARE) * size / SLOW
    name = f"{size // MIB} MiB, half at 20 Mbit/s, all at 2"
    return [Case(name, links, size, bound, receivers=(RECEIVER,), patience=12 * bound)]


def give_half(system: System) -> None:
    """Let the fast peer have its half, and cut it off from the source then."""
    stage = system.stage
    net, size = stage.net, stage.case.size
    before = net.counts().payload[SOURCE][PARTIAL]
    net.block([(SOURCE, RECEIVER), (PARTIAL, RECEIVER)])
    system.begin(PARTIAL)
    until(
        lambda: net.counts().payload[SOURCE][PARTIAL] - before >= SHARE * size,
        120,
        "the fast peer does not get its half",
    )
    net.block([(SOURCE, PARTIAL), (PARTIAL, RECEIVER), (SOURCE, RECEIVER)])
    stage.settle(2.0)


def meet(system: System, _case: Case) -> list[Event]:
    """Let the receiver meet both peers as soon as the clock runs.

    Not before: devices that take all that there is, and nodes that pass on what a neighbour wants,
    would begin too early.
    """
    return [(0.0, lambda: system.stage.net.block([(SOURCE, PARTIAL)]))]


def measure(run: Run, _watch: Watch, case: Case) -> None:
    """Compare with one who knows the rates and asks each for its half."""
    if run.times:
        run.values["versus_oracle"] = max(run.times) / case.bound


def play(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system with a partial peer."""
    return distribute("B5", case, kind, round_, ready=give_half, events=meet, measure=measure)


B5 = Experiment(
    key="B5",
    title="a fast partial and a slow complete peer",
    cases=cases,
    systems=("atoll", "syncthing", "libtorrent"),
    play=play,
    target=Target("versus_oracle", 1.15),
    metrics=("seconds", "source_copies", "overhead"),
)
