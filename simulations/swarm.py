"""Judge the scheduler: ``python -m simulations swarm``, and see how near to the bound it comes.

Plays the scenes of the benchmarks in virtual time with the product's own cores and nothing else
(``simulations.crowd``): no TCP, no processor, no disk in the way, so the figures are upper
estimates, and the same for the same commit.  ``--nodes 10,100,1000,10000`` plays B19 instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from simulations.crowd import KIB, Crowd, Scene
from simulations.scenes import CHUNK, MIB, SCENES, wide

PATIENCE = 40.0  # times the bound


@dataclass(frozen=True)
class Outcome:
    """What one run of a scene gave.  Times are seconds, sizes bytes."""

    scene: str
    seed: int
    nodes: int
    bound: float
    makespan: float
    median: float  # until half of the receivers had it
    source_copies: float  # that left who had it at first
    wan_copies: float  # that entered a site where nobody had it at first; of the worst one
    control: float  # bytes sent per node, of anything but chunks
    seconds: float  # of this machine's time
    failure: str = ""

    @property
    def share(self) -> float:
        """The share of the fluid bound that the slowest receiver reached."""
        return self.bound / self.makespan


def play(scene: Scene) -> Outcome:
    """Play one scene until everybody has the blob."""
    started, crowd, failure = time.perf_counter(), Crowd(scene), ""
    crowd.begin()
    try:
        crowd.run(PATIENCE)
    except TimeoutError as error:
        failure = str(error)
    members = crowd.members
    done = [m.done_at if m.done_at >= 0 else crowd.world.now for m in members if m.seat.wants]
    sources = [member for member in members if member.seat.have >= 1]
    away = {member.seat.site for member in members} - {member.seat.site for member in sources}
    return Outcome(
        scene.name,
        scene.seed,
        len(members),
        scene.bound,
        max(done),
        statistics.median(done),
        sum(member.up.carried for member in sources) / scene.size,
        max((crowd.downs[site].carried / scene.size for site in away), default=0.0),
        sum(member.control_sent for member in members) / len(members),
        time.perf_counter() - started,
        failure,
    )


def line(outcome: Outcome) -> str:
    """Return one run in one line."""
    text = (
        f"{outcome.scene:10s} seed {outcome.seed}: {outcome.share:4.0%} of the bound, "
        f"{outcome.makespan:6.2f} s of {outcome.bound:6.2f} (half by {outcome.median:6.2f}), "
        f"source {outcome.source_copies:5.2f} copies, site {outcome.wan_copies:5.2f}, "
        f"control {outcome.control / 1000:6.1f} kB/node, {outcome.seconds:6.1f} s here"
    )
    return f"{text} FAILED: {outcome.failure}" if outcome.failure else text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("scenes", nargs="*", help=f"of {' '.join(SCENES)}; all if none is named")
    parser.add_argument("--nodes", default="", help="play B19 with these numbers of nodes: 10,100")
    parser.add_argument("--mib", type=float, default=16.0, help="size of the blob")
    parser.add_argument("--chunk-kib", type=float, default=CHUNK / KIB, help="average chunk of B19")
    parser.add_argument("--runs", type=int, default=3, help="seeds per scene")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", help="write the figures to this file")


def chosen(options: argparse.Namespace) -> list[Scene]:
    """Return the scenes that the command line asks for.  Raises SystemExit."""
    size, seeds = int(options.mib * MIB), range(options.runs)
    if options.nodes:
        counts, chunk = map(int, options.nodes.split(",")), int(options.chunk_kib * KIB)
        return [wide(count, size, seed, chunk=chunk) for count in counts for seed in seeds]
    unknown = set(options.scenes) - set(SCENES)
    if unknown:
        raise SystemExit(f"no such scene: {', '.join(sorted(unknown))}; there are {list(SCENES)}")
    makers: Sequence[Callable[[int, int], Scene]] = [
        SCENES[name] for name in options.scenes or SCENES
    ]
    return [make(size, seed) for make in makers for seed in seeds]


def run(options: argparse.Namespace) -> int:
    """Play what the command line asks for; 1 if somebody never got the blob."""
    outcomes = list[Outcome]()
    with ProcessPoolExecutor(max_workers=max(1, options.jobs)) as pool:
        for outcome in pool.map(play, chosen(options)):
            outcomes.append(outcome)
            print(line(outcome), flush=True)
    for name in dict.fromkeys(outcome.scene for outcome in outcomes):
        shares = [outcome.share for outcome in outcomes if outcome.scene == name]
        print(f"{name:10s} {statistics.mean(shares):6.1%} of the bound, worst {min(shares):.1%}")
    if options.json:
        rows = [{**asdict(outcome), "share": outcome.share} for outcome in outcomes]
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(outcome.failure for outcome in outcomes))
