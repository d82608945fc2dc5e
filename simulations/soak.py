"""A virtual day of work over flapping links: does anything that a node holds in memory grow?

``python -m simulations soak --hours 24``.  Four nodes, all linked; every few seconds a link is cut,
swallows one direction, or is forgotten by a box; every few minutes something is published, wanted
elsewhere, and no longer wanted; records are written, keys change.  Every ten minutes each node is
looked at: what its life holds, its sockets, and blobs on their way.  Everything that the other
histories look for is looked for here, too.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import msgspec

from simulations.checkers import Checker
from simulations.disk import Disk
from simulations.history import Play, Result, play
from simulations.network import Network
from simulations.node import Node
from simulations.plan import CORE, LinkSpec, NodeSpec, Plan, Step
from simulations.report import line
from simulations.world import World

HOUR = 3600.0
NODES = 4
SIZES = (4 << 10, 100 << 10, 700 << 10)  # bytes of blobs
BLOBS = 12  # wanted again and again: who has one already finds that it is here
PAUSE = (4.0, 30.0)  # seconds between two outages
OUTAGE = (1.0, 10.0)
WORK = 240.0  # seconds between two publishes
LOOK = 600.0
SURVEY = 1200.0  # seconds between comparisons of all that counts
STEPS_MAX = 100_000_000
GROWTH_MAX = 0.05  # from the second quarter to the last
ROOM = {"objects": 500, "size": 100_000, "sockets": 6, "partials": 1, "streams": 12, "timers": 60}
# What others hold is not this node's memory.
BEYOND = (World, Network, Disk, Checker, Node, ModuleType, FunctionType, BuiltinFunctionType, type)


@dataclass(frozen=True, slots=True)
class Look:
    """One node, or the world between them (-1), at one moment.  ``size`` in bytes."""

    at: float
    node: int
    figures: dict[str, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure: its greatest value in the second quarter and in the last."""

    node: int
    figure: str
    early: int
    late: int
    flat: bool


def draw(seed: int, hours: float) -> Plan:
    """Draw a day."""
    rng, end = random.Random(f"{seed} soak"), hours * HOUR
    nodes = tuple(NodeSpec(CORE) for _ in range(NODES))
    links = tuple(LinkSpec(a, b, 0.025) for b in range(NODES) for a in range(b))
    steps, at = list[Step](), 5.0
    while at < end - OUTAGE[1]:
        pair = rng.choice(links)
        ends = rng.sample((pair.one, pair.two), 2)
        what = rng.choice(("cut", "cut", "cut", "oneway", "forget", "halfopen"))
        lasting = (round(rng.uniform(*OUTAGE), 2),) if what in ("cut", "oneway") else ()
        steps.append(Step(round(at, 2), what, (*ends, *lasting)))
        at += rng.uniform(*PAUSE)
    for number in range(int(end / WORK)):
        steps += _work(rng, number)
    blobs = tuple(rng.choice(SIZES) for _ in range(BLOBS))
    return Plan(seed, nodes, links, blobs, tuple(sorted(steps, key=lambda s: s.at)), end)


def _work(rng: random.Random, number: int) -> list[Step]:
    """Draw what happens in one turn."""
    at, blob = number * WORK + rng.uniform(1.0, WORK / 2), number % BLOBS
    author, reader = rng.sample(range(NODES), 2)
    found = [
        Step(at, "publish", (author, blob, f"p{number}")),
        Step(at + 2.0, "want", (reader, blob, 1, int(rng.random() < 0.5))),
        Step(at + WORK / 3, "unwant", (reader, blob)),
    ]
    what = rng.choice(("file", "point", "flag", "setting", "delete"))
    found.append(Step(at + 1.0, what, (rng.randrange(NODES), f"n{number % 20}", "1")))
    if number % 90 == 45:
        found.append(Step(at + 3.0, "rotate", (rng.randrange(1, NODES),)))
    return found


def held(root: object) -> tuple[int, int]:
    """Count the objects that one holds, and their bytes; what is shared with others is not."""
    seen, waiting, size = {id(root)}, deque([root]), 0
    while waiting:
        each = waiting.popleft()
        size += sys.getsizeof(each)
        for other in gc.get_referents(each):
            if id(other) not in seen and not isinstance(other, BEYOND):
                seen.add(id(other))
                waiting.append(other)
    return len(seen), size


@dataclass
class Watched:
    """What was seen of a day."""

    looks: list[Look] = field(default_factory=list[Look])

    def verdicts(self) -> list[Verdict]:
        """Compare the second quarter with the last one."""
        end = max((each.at for each in self.looks), default=0.0)
        found: list[Verdict] = []
        for node in sorted({each.node for each in self.looks}):
            mine = [each for each in self.looks if each.node == node]
            second = [each.figures for each in mine if end / 4 <= each.at < end / 2]
            fourth = [each.figures for each in mine if each.at >= end * 3 / 4]
            for figure in second[0] if second and fourth else ():
                early, late = (_middle([f[figure] for f in part]) for part in (second, fourth))
                allowed = early * (1 + GROWTH_MAX) + ROOM[figure]
                found.append(Verdict(node, figure, early, late, late <= allowed))
        return found


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]


class Day(Play):
    """A day under way."""

    def __init__(self, plan: Plan, watched: Watched) -> None:
        super().__init__(plan)
        self.world.steps_max = STEPS_MAX
        self.watched = watched

    def begin(self) -> None:
        """Start it, and look now and then."""
        super().begin()
        self.world.after(LOOK, self._look)

    def _survey(self) -> None:
        for node in self.nodes:
            self.checker.survey(node)
        self.world.after(SURVEY, self._survey)

    def _look(self) -> None:
        gc.collect()
        now, looks = self.world.now, self.watched.looks
        for number, node in enumerate(self.nodes):
            objects, size = held(node.life)
            sockets, partials = len(node.life.links.all), len(node.disk.parts)
            figures = {"objects": objects, "size": size, "sockets": sockets, "partials": partials}
            looks.append(Look(now, number, figures))
        streams = sum(each.open for each in self.network.streams)
        planned = sum(step.at > now for step in self.plan.steps)
        timers = self.world.pending - planned
        looks.append(Look(now, -1, {"streams": streams, "timers": timers}))
        self.world.after(LOOK, self._look)


def play_day(seed: int, hours: float) -> tuple[Result, Watched]:
    """Play a day; what came of it, and what was seen."""
    watched = Watched()
    return play(draw(seed, hours), lambda plan: Day(plan, watched)), watched


def report(found: Sequence[Verdict]) -> str:
    """Lines of Markdown."""
    lines = ["| node | figure | second quarter | last quarter | flat |", "|---|---|---|---|---|"]
    for each in found:
        name = "all" if each.node < 0 else f"n{each.node}"
        flat = "yes" if each.flat else "NO"
        lines.append(f"| {name} | {each.figure} | {each.early:,} | {each.late:,} | {flat} |")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--hours", type=float, default=24.0, help="virtual ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="write all that was seen to this file")


def run(options: argparse.Namespace) -> int:
    """Play a day and judge it; 1 if something went wrong or grew."""
    started = time.perf_counter()
    result, watched = play_day(options.seed, options.hours)
    print(line(result))
    if result.failure:
        print(result.failure, result.details, sep="\n")
    found = watched.verdicts()
    print(report(found))
    outages = sum(count for what, count in result.seen.items() if what in OUTAGES)
    print(f"{options.hours:g} h, {outages} outages, {time.perf_counter() - started:.0f} s")
    if options.json:
        looks: Any = [asdict(each) for each in watched.looks]
        told = {"looks": looks, "verdicts": [asdict(each) for each in found]}
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(told)))
    return int(bool(result.failure) or not found or not all(each.flat for each in found))


OUTAGES = frozenset(f"step {what}" for what in ("cut", "oneway", "forget", "halfopen"))
