"""B16: A meets B, later B meets C, A never meets C."""

from __future__ import annotations

from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import Watch, check, reject, staged
from simulations.bench.mesh.systems.base import System
from simulations.lab.shaping import MBIT, uniform

MIB = 1 << 20
RATE, RTT = 20 * MBIT, 0.05
A, B, C = 0, 1, 2
PATIENCE = 120.0


def cases(options: Options) -> list[Case]:
    """Two hops, one after the other."""
    size = options.sizes[0] if options.sizes else (2 if options.quick else 16) * MIB
    links = uniform(3, rate=RATE, rtt=RTT, congestion=options.congestion)
    return [Case(f"{size // MIB} MiB, A–B, then B–C", links, size, 2 * size / RATE, (A,), (B, C))]


def play(case: Case, kind: type[System], round_: int) -> Run:
    """Let the blob travel with B."""
    run = Run("B16", case.name, kind.name, round_, case.bound, [], {})
    with staged(case, kind) as (stage, system, doubts):
        for doubt in doubts:
            reject(run, doubt)
        stage.net.block([(A, C), (B, C)])
        stage.settle(1.0)
        watch = Watch(stage)
        system.begin(B)
        first = watch.wait(system.done, (B,), PATIENCE)
        stage.net.block([(A, C), (A, B)])
        met = watch.elapsed
        second = watch.wait(system.done, (C,), met + PATIENCE) if first else {}
        watch.finish(run)
        if not second:
            run.failed = "C never had it" if first else "B never had it"
            return run
        check(system, stage)
        run.times = [round(first[B], 2), round(second[C], 2)]
        hops = (run.carried[A][B] / case.size, run.carried[B][C] / case.size)
        hop = case.size / RATE
        run.values |= {
            "seconds": second[C],
            "share": case.bound / second[C],
            "hop_copies": max(hops),
            "second_hop": (second[C] - met) / hop,
        }
    return run


B16 = Experiment(
    key="B16",
    title="courier: A–B up, then B–C, never A–C",
    cases=cases,
    systems=("atoll-policy", "syncthing"),
    play=play,
    target=Target("hop_copies", 1.1),
    metrics=("seconds", "share", "second_hop"),
)
