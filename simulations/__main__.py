"""Play histories: ``python -m simulations --seeds 20``, or one again: ``--seed 17``.

A seed stands for one history of nodes, links, work, faults and lies, replayed to the last byte by
the same commit.  The exit status is 1 when one of them goes wrong.  ``python -m simulations swarm``
judges the scheduler instead: see ``simulations.swarm``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from simulations import swarm
from simulations.history import Result, play
from simulations.plan import draw
from simulations.shrink import shrink

TAIL = 40  # lines of history shown for a failure


def commit() -> str:
    """Return the commit that is checked out, marked if files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m simulations", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many histories to play")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play this one, and show its plan and its end")
    parser.add_argument("--tail", type=int, default=TAIL, help="lines of history shown")
    parser.add_argument("--shrink", action="store_true", help="make a failing plan smaller")
    parser.add_argument("--quiet", action="store_true", help="print failures and the summary only")
    return parser.parse_args(arguments)


def show_failure(result: Result, tail: int) -> None:
    """Say what went wrong, and how to see it again."""
    print(f"\nseed {result.seed} failed at commit {commit()}: {result.failure}")
    print(result.details)
    print("\n".join(result.history[-tail:]))
    print(f"\nsee it again: python -m simulations --seed {result.seed}")


def line(result: Result) -> str:
    """Return one history in one line."""
    verdict = "FAILED" if result.failure else "ok"
    return (
        f"seed {result.seed:6d} {verdict:6s} {result.steps:7d} events, "
        f"{result.bytes_carried / 1e6:6.1f} MB, right after {result.recovered:5.1f} s, "
        f"history {result.digest}, {result.seconds:5.2f} s"
    )


def play_one(options: argparse.Namespace) -> int:
    """Replay one history and show it."""
    plan = draw(options.seed)
    result = play(plan)
    if result.failure and options.shrink:
        plan = shrink(plan, result.failure, lambda smaller: play(smaller).failure)
        result = play(plan)
    print(plan)
    if result.failure:
        show_failure(result, options.tail)
    else:
        print("\n".join(result.history[-options.tail :]))
    print(line(result))
    return int(bool(result.failure))


def play_many(options: argparse.Namespace) -> int:
    """Play a range of seeds; stop at nothing."""
    started = time.perf_counter()
    results = []
    for seed in range(options.start, options.start + options.seeds):
        result = play(draw(seed))
        results.append(result)
        if result.failure:
            show_failure(result, options.tail)
        elif not options.quiet:
            print(line(result), flush=True)
    failed = [result.seed for result in results if result.failure]
    recovered = [result.recovered for result in results if not result.failure] or [0.0]
    print(
        f"{len(results)} histories in {time.perf_counter() - started:.1f} s at commit {commit()}: "
        f"{len(failed)} failed{f' {failed}' if failed else ''}; all was right again after "
        f"{statistics.median(recovered):.1f} s (median), {max(recovered):.1f} s (worst)"
    )
    return int(bool(failed))


def judge(arguments: list[str]) -> int:
    """Play swarms."""
    parser = argparse.ArgumentParser("python -m simulations swarm", description=swarm.__doc__)
    swarm.add_arguments(parser)
    return swarm.run(parser.parse_args(arguments))


def main() -> int:
    """Play what the command line asks for."""
    if sys.argv[1:2] == ["swarm"]:
        return judge(sys.argv[2:])
    options = parse(sys.argv[1:])
    return play_one(options) if options.seed is not None else play_many(options)


if __name__ == "__main__":
    sys.exit(main())
