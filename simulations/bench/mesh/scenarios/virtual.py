"""B19: many nodes in virtual time: the product's cores in the simulator's swarm."""

from __future__ import annotations

from simulations.bench.mesh.model import Case, Experiment, Options, Run
from simulations.bench.mesh.systems.base import System
from simulations.lab.shaping import uniform
from simulations.scenes import wide
from simulations.swarm import play as play_scene

MIB, KIB = 1 << 20, 1 << 10
COUNTS = (10, 100, 1000, 10_000)
CHUNK = 72 * KIB
COARSE = 1000  # nodes from which on chunks are larger, so that a run ends within the hour


def cases(options: Options) -> list[Case]:
    """10 to 10,000 nodes in 20 sites."""
    size = options.sizes[0] if options.sizes else 16 * MIB
    links = uniform(2, rate=1.0, rtt=0.0)  # none of the lab's
    counts = COUNTS[:2] if options.quick else COUNTS
    return [
        Case(f"{count} nodes", links, size, 1.0, extra={"count": count}, systems=("simulator",))
        for count in counts
    ]


def play(case: Case, _kind: type[System], round_: int) -> Run:
    """Play one crowd."""
    count = case.extra["count"]
    scene = wide(count, case.size, round_, chunk=CHUNK if count < COARSE else 4 * CHUNK)
    outcome = play_scene(scene)
    run = Run("B19", case.name, "simulator", round_, outcome.bound, [outcome.makespan], {})
    run.failed = outcome.failure
    run.values = {
        "share": outcome.share,
        "seconds": outcome.makespan,
        "wan_copies": outcome.wan_copies,
        "source_copies": outcome.source_copies,
        "control_per_node": outcome.control,
    }
    return run


B19 = Experiment(
    key="B19",
    title="the simulator: nodes in 20 sites, 100 Mbit/s each and per site, 50 ms",
    cases=cases,
    systems=("simulator",),
    play=play,
    metrics=("share", "seconds", "wan_copies", "source_copies", "control_per_node"),
)
