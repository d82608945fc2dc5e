"""Play histories: ``python -m simulations --seeds 20``, or ``--seeds 100..199``, or ``--seed 17``.

A seed stands for one history of nodes, links, work, faults and lies, replayed to the last byte by
the same commit.  The exit status is 1 when one of them goes wrong.  ``python -m simulations swarm``
judges the scheduler instead: see ``simulations.swarm``; ``python -m simulations partition`` parts a
mesh for a month: see ``simulations.partition``; ``python -m simulations soak`` lets one work for a
day: see ``simulations.soak``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from simulations import partition, soak, swarm
from simulations.history import Result, play
from simulations.plan import draw
from simulations.report import commit, line, summarise
from simulations.shrink import shrink

TAIL = 40  # lines of history shown for a failure
SHARE = 20  # histories handed to a process at a time
FAILURES_SHOWN = 5  # in full; all are listed in the end


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m simulations", description=__doc__)
    parser.add_argument("--seeds", default="20", help="how many histories, or which: 100..199")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", help="write a report to this file")
    parser.add_argument("--seed", type=int, help="play this one, and show its plan and its end")
    parser.add_argument("--tail", type=int, default=TAIL, help="lines of history shown")
    parser.add_argument("--shrink", action="store_true", help="make a failing plan smaller")
    parser.add_argument("--quiet", action="store_true", help="print failures and the summary only")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> range:
    """Return the seeds that the command line asks for.  Raises SystemExit."""
    first, dots, last = options.seeds.partition("..")
    try:
        if dots:
            return range(int(first), int(last) + 1)
        return range(options.first, options.first + int(first))
    except ValueError:
        raise SystemExit(f"--seeds {options.seeds}: give a number, or two as in 100..199") from None


def show_failure(result: Result, tail: int) -> None:
    """Say what went wrong, and how to see it again."""
    print(f"\nseed {result.seed} failed at commit {commit()}: {result.failure}")
    print(result.details)
    print("\n".join(result.history[-tail:]))
    print(f"\nsee it again: python -m simulations --seed {result.seed} --shrink")


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


def play_seed(seed: int) -> Result:
    """Play one seed; only a failure brings its history along."""
    result = play(draw(seed))
    if not result.failure:
        result.history.clear()
    return result


def results(seeds: range, jobs: int) -> Iterator[Result]:
    """Play seeds, in this process or in several."""
    if jobs <= 1:
        yield from map(play_seed, seeds)
        return
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(play_seed, seeds, chunksize=min(SHARE, -(-len(seeds) // jobs)))


def play_many(options: argparse.Namespace) -> int:
    """Play a range of seeds; stop at nothing."""
    started, seeds = time.perf_counter(), chosen(options)
    played, failed = [], 0
    for result in results(seeds, options.jobs):
        played.append(result)
        failed += bool(result.failure)
        if result.failure and failed <= FAILURES_SHOWN:
            show_failure(result, options.tail)
        elif not options.quiet:
            print(line(result), flush=True)
    report = summarise(played, time.perf_counter() - started)
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    print(report)
    return int(bool(failed))


def judge(arguments: list[str]) -> int:
    """Play swarms."""
    parser = argparse.ArgumentParser("python -m simulations swarm", description=swarm.__doc__)
    swarm.add_arguments(parser)
    return swarm.run(parser.parse_args(arguments))


def part(arguments: list[str]) -> int:
    """Play long partitions."""
    parser = argparse.ArgumentParser(
        "python -m simulations partition",
        description=partition.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    partition.add_arguments(parser)
    return partition.run(parser.parse_args(arguments))


def last(arguments: list[str]) -> int:
    """Play a long day."""
    parser = argparse.ArgumentParser(
        "python -m simulations soak",
        description=soak.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    soak.add_arguments(parser)
    return soak.run(parser.parse_args(arguments))


def main() -> int:
    """Play what the command line asks for."""
    if sys.argv[1:2] == ["soak"]:
        return last(sys.argv[2:])
    if sys.argv[1:2] == ["partition"]:
        return part(sys.argv[2:])
    if sys.argv[1:2] == ["swarm"]:
        return judge(sys.argv[2:])
    options = parse(sys.argv[1:])
    return play_one(options) if options.seed is not None else play_many(options)


if __name__ == "__main__":
    sys.exit(main())
