"""How near to the fluid bound whole nodes come when nothing goes wrong, in virtual time.

``python -m simulations.exact --mib 16``: one source, equal thin links, and everybody wants the same
blob at once.  The nodes are those of ``simulations.history``, with handshakes, ledgers and real
bytes: slower to play than ``simulations.swarm``, and a check of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from simulations.history import Play
from simulations.plan import CORE, LinkSpec, NodeSpec, Plan, Step
from simulations.signing import signatures

BEGIN = 10.0  # seconds: by then all are linked
MIB = 1 << 20
MBIT = 125_000.0
PATIENCE = 40.0  # times the bound
DATA_MIN = 4096  # bytes: below that a segment is overhead, not data


@dataclass(frozen=True)
class Outcome:
    """What one run gave.  Times are seconds after everybody began."""

    bound: float
    times: tuple[float, ...]
    source_copies: float

    @property
    def share(self) -> float:
        """The share of the fluid bound that the slowest receiver reached."""
        return self.bound / max(self.times)


def plan_for(
    up: Sequence[float], down: Sequence[float], size: int, rtt: float, *, reading: bool, seed: int
) -> Plan:
    """Return the plan: the first node has the blob, all others want it at once."""
    count = len(up)
    links = [LinkSpec(one, two, rtt / 2, 0.0, 3) for two in range(count) for one in range(two)]
    steps = [Step(1.0, "publish", (0, 0, "blob"))]
    steps += [Step(BEGIN, "want", (node, 0, 1, int(reading))) for node in range(1, count)]
    nodes = tuple(NodeSpec(CORE, out, into) for out, into in zip(up, down, strict=True))
    return Plan(seed, nodes, tuple(links), (size,), tuple(steps), BEGIN)


def run(plan: Plan) -> Outcome:
    """Play it until everybody has the blob.  Raises ViolationError, TimeoutError."""
    outcome: list[Outcome] = []

    async def main() -> None:
        stage = Play(plan)
        try:
            outcome.append(_measure(stage, plan))
        finally:
            stage.close()

    with signatures(real=False):
        trio.run(main)
    return outcome[0]


def _measure(stage: Play, plan: Plan) -> Outcome:
    ups, size = [node.up for node in plan.nodes], plan.blobs[0]
    bound = max(
        size / ups[0],
        size / min(node.down for node in plan.nodes[1:]),
        (len(ups) - 1) * size / sum(ups),
    )
    stage.begin()
    limit = BEGIN + PATIENCE * bound
    finished = stage.checker.completed_at
    while len(finished) < len(ups) - 1:
        if stage.world.now > limit:
            raise TimeoutError(f"only {len(finished)} have it after {limit:.0f} s")
        stage.world.run(stage.world.now + 0.25)
    times = tuple(at - BEGIN for at in finished.values())
    sent = sum(path.carried for (one, _), path in stage.network.paths.items() if one == "n0")
    return Outcome(bound, times, sent / size)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser("python -m simulations.exact", description=__doc__)
    parser.add_argument("--receivers", type=int, default=4)
    parser.add_argument("--mib", type=int, default=16)
    parser.add_argument("--mbit", type=float, default=20.0)
    parser.add_argument("--rtt", type=float, default=0.05)
    parser.add_argument("--source", type=float, default=1.0, help="uplink of the source, times")
    parser.add_argument("--reading", action="store_true", help="clients read it in order")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rate = options.mbit * MBIT
    up = [rate * options.source, *([rate] * options.receivers)]
    for seed in range(options.runs):
        down = [max(up)] * len(up) if options.source > 1 else [rate] * len(up)
        plan = plan_for(
            up, down, options.mib * MIB, options.rtt, reading=options.reading, seed=seed
        )
        outcome = run(plan)
        times = " ".join(f"{each:.1f}" for each in sorted(outcome.times))
        print(
            f"seed {seed}: {outcome.share:.0%} of the bound ({outcome.bound:.1f} s): {times} s; "
            f"the source sent {outcome.source_copies:.2f} copies",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
