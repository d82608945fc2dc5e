"""A long partition: seven nodes at three sites, parted for a virtual month, then joined again.

On every side: publishes, deletes, yanks, tags, settings and grants, new keys, guests that are
invited; where most owners are: evictions, of nodes of other sides too, which go on writing; where
they are not: proposals, which must not take effect.  Sides change during the month.  Every night
all hosts sleep, so that clocks and time-outs see all of it.

What must never happen is looked for at every step (``simulations.checkers``).  In the end every
node has the same catalog, every conflict that the history made is listed and no other, and those
who met when the sides came together had agreed within ROUNDS_MAX round trips.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from simulations import rivals
from simulations.checkers import Checker
from simulations.history import REPOSITORY, Play, Result, play
from simulations.life import Subject
from simulations.membership import TURN
from simulations.plan import CORE, GUEST, LIAR, VICTIM, LinkSpec, NodeSpec, Plan, Step
from simulations.report import line, summarise
from simulations.world import ViolationError
from store.facts import Resolve, Restore, Setting

DAY = 86400.0  # seconds
AWAKE = 14.0  # seconds of each day in which hosts are up
LAN, WAN = 0.001, 0.5  # seconds of delay
ROUNDS_MAX = 6.0  # round trips in which two nodes that meet agree (docs/mesh.md §7)
SITES = ("north", "north", "north", "east", "east", "west", "west", "north", "west")
KINDS = (CORE, CORE, VICTIM, CORE, CORE, CORE, LIAR, GUEST, GUEST)
OWNERS = (0, 3, 5)  # one at each site: two of them must sign
DELEGATES = (1, 4)
REMOVED = (2, 6)
GUESTS = (7, 8)
EVERYBODY = range(len(SITES))
PATHS = 5  # immutable files at stake, so few that sides choose the same ones
LIES = ("overreach", "outworn", "usurp", "replay", "forge", "impersonate")
WORK = ("file", "file", "file", "delete", "point", "point", "flag", "setting", "grant")


@dataclass
class _Drawing:
    rng: random.Random
    days: int
    steps: list[Step] = field(default_factory=list[Step])

    def step(self, day: int, what: str, *args: float | str | tuple[int, ...]) -> None:
        at = day * AWAKE + self.rng.uniform(1.0, AWAKE - 3.0)
        self.steps.append(Step(round(at, 3), what, args))

    def draw(self) -> None:
        """Draw who is parted from whom, day by day, and what everybody does meanwhile."""
        rng, day = self.rng, 1
        while day < self.days:
            last = min(self.days, day + rng.randint(4, 12))
            for side in self._sides():
                length = (last - day) * AWAKE
                self.steps.append(Step(day * AWAKE, "part", (side, length)))
            day = last + (rng.random() < 0.3)
        for day in range(self.days):
            self.steps.append(Step((day + 1) * AWAKE - 0.01, "sleep", (DAY - AWAKE,)))
            for _ in range(rng.randint(2, 6)):
                self._work(day)
            self._govern(day)
        early = range(1, max(2, self.days // 2))
        self.step(rng.choice(early), "invite", GUESTS[0], 1, "writer", "*")
        self.step(rng.choice(early), "invite", GUESTS[1], rng.choice(DELEGATES), "mirror", "gen*")
        if rng.random() < 0.5:
            self.step(0, "home", 0, rng.choice(SITES))

    def _sides(self) -> list[tuple[int, ...]]:
        """Part one site, or each of them, or the mesh right through the sites."""
        rng = self.rng
        if rng.random() < 0.3:
            return [tuple(sorted(rng.sample(EVERYBODY, rng.randint(2, 5))))]
        apart = rng.sample(("north", "east", "west"), rng.choice((1, 2)))
        return [tuple(n for n in EVERYBODY if SITES[n] == site) for site in apart]

    def _work(self, day: int) -> None:
        rng = self.rng
        author, what = rng.choice(EVERYBODY), rng.choice((*WORK, "restore", "resolve"))
        name, value = f"p{rng.randrange(PATHS)}", rng.choice(("1", "2", "3"))
        if author == KINDS.index(LIAR) and rng.random() < 0.5:
            self.step(day, "lie", author, rng.choice(LIES))
        self.step(day, what, author, name, value)

    def _govern(self, day: int) -> None:
        """New keys anywhere; removals and votes by owners, wherever they are."""
        rng = self.rng
        if rng.random() < 0.25:
            self.step(day, "rotate", rng.choice((0, 1, 2, 3, 4, 5, 7)))
            self.step(day, "lie", KINDS.index(LIAR), "outworn")
        if day > self.days // 4 and rng.random() < 0.3:
            what, victim = rng.choice(("evict", "narrow")), rng.choice(REMOVED)
            self.step(day, what, victim, rng.choice(OWNERS), int(rng.random() < 0.3))
        for owner in OWNERS:
            if rng.random() < 0.5:
                self.step(day, "vote", owner)


def draw(seed: int, days: int = 30) -> Plan:
    """Draw the month of a seed."""
    drawing = _Drawing(random.Random(f"{seed} partition"), days)
    drawing.draw()
    nodes = tuple(
        NodeSpec(kind, site=site, scopes=(REPOSITORY,) if kind == LIAR else ())
        for kind, site in zip(KINDS, SITES, strict=True)
    )
    links = tuple(
        LinkSpec(a, b, LAN if SITES[a] == SITES[b] else WAN) for b in EVERYBODY for a in range(b)
    )
    steps = tuple(sorted(drawing.steps, key=lambda s: (s.at, s.what, str(s.args))))
    return Plan(seed, nodes, links, (), steps, days * AWAKE, owners=OWNERS, delegates=DELEGATES)


class Watch(Checker):
    """Counts, beside all that every checker does, in how many round trips those who meet agree."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[bytes, Subject] = {}
        self.healed = False
        self.rounds: dict[tuple[str, str], float] = {}
        self._waiting: dict[tuple[str, str], tuple[float, Subject, set[bytes]]] = {}

    def linked(self, node: Subject, peer: bytes) -> None:
        """A link is up: what the other one has now must soon be here."""
        other = self.nodes[peer]
        pair = (node.name, other.name)
        sites = {SITES[int(each.name[1:])] for each in (node, other)}
        far = len(sites) > 1 and node.honest and other.honest and other.alive
        if self.healed and far and pair not in self.rounds:  # a link that breaks begins anew
            self._waiting[pair] = (node.world.now, other, self.counting(other))

    def stepped(self, node: Subject) -> None:
        """See whether it is."""
        super().stepped(node)
        mine = [pair for pair in self._waiting if pair[0] == node.name and pair not in self.rounds]
        if mine and node.alive:
            stored = self.stored(node)
            for pair in mine:
                since, other, wanted = self._waiting[pair]
                if not (wanted - stored) & self.counting(other):
                    self.rounds[pair] = (node.world.now - since) / (2 * WAN)

    def unfinished(self) -> list[tuple[str, str]]:
        """Return who has met and lacks what the other one had; who is out is told nothing more."""
        left = [pair for pair in self._waiting if pair not in self.rounds]
        named = {node.name: node for node in self.nodes.values()}
        return sorted((one, other) for one, other in left if self._owed(named[one], named[other]))

    def _owed(self, node: Subject, other: Subject) -> bool:
        return other.life.ledger.authority.is_member(node.identity.node)


class Month(Play):
    """One partition under way."""

    def __init__(self, plan: Plan) -> None:
        self.watch = Watch()
        super().__init__(plan, self.watch)
        self.watch.nodes = {node.id: node for node in self.nodes}
        self.liveness = 900.0  # seconds: after days of silence peers are dialled every five minutes

    def calm(self) -> None:
        """The sides meet."""
        self.watch.healed = True

    def run(self) -> float:
        """Play it all; where rivals are in force in the end, let the owners settle them."""
        took = super().run()
        if any(len(self.checker.law(node).in_force) > 1 for node in self.core()):
            self.membership.settle(OWNERS)
            self.world.run(self.world.now + TURN * len(OWNERS))
            super().come_right()
            if any(len(self.checker.law(node).in_force) > 1 for node in self.core()):
                raise ViolationError("rivals that all owners have settled are still in force")
        return took

    # --- steps ---------------------------------------------------------------------------------
    def _do_sleep(self, seconds: float) -> None:
        self.world.leap(seconds)

    def _do_restore(self, number: int, path: str, value: str) -> None:
        self._append(number, Restore(REPOSITORY, path, ()))

    def _do_resolve(self, number: int, path: str, value: str) -> None:
        self._append(number, Resolve(REPOSITORY, path, self.digest_of(value), ()))

    def _do_home(self, number: int, site: str) -> None:
        value = msgspec.json.encode({"home": site})
        self._append(number, Setting("repository", REPOSITORY, value))

    def _do_grant(self, number: int, name: str, value: str) -> None:
        text = msgspec.json.encode({"roles": [value], "revoked": value == "1"})
        self._append(number, Setting("grant", name, text))

    # --- what must be true in the end ----------------------------------------------------------
    def _final(self) -> None:
        super()._final()
        for node in self.core():
            contested = len(self.checker.law(node).in_force) > 1
            if node.life.ledger.authority.contested is not contested:
                raise ViolationError(f"{node.name}: does not show that rivals are in force")
            rivals.check(node, self.checker.written)
        slow = max(self.watch.rounds.values(), default=0.0)
        if slow > ROUNDS_MAX:
            raise ViolationError(f"two nodes that met agreed after {slow:.1f} round trips")
        if self.watch.unfinished():
            raise ViolationError(f"who met and never agreed: {self.watch.unfinished()}")
        self.found["rounds, at worst"] = math.ceil(slow)
        self.found["conflicts"] = sum(map(len, rivals.made(self.core()[0])))


def play_month(seed: int, days: int = 30) -> Result:
    """Play the month of a seed."""
    return play(draw(seed, days), Month)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--seed", type=int, help="play this month, and show its end")
    parser.add_argument("--seeds", type=int, default=10, help="how many months")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument("--days", type=int, default=30, help="length of each")
    parser.add_argument("--tail", type=int, default=40, help="lines of history shown")
    parser.add_argument("--json", help="write a report to this file")


def run(options: argparse.Namespace) -> int:
    """Play months, and say what came of each; 1 if one went wrong."""
    started, played = time.perf_counter(), list[Result]()
    many = range(options.first, options.first + options.seeds)
    for seed in many if options.seed is None else [options.seed]:
        result = play_month(seed, options.days)
        played.append(result)
        rounds, rivalries = result.seen["rounds, at worst"], result.seen["conflicts"]
        print(f"{line(result)}; {rivalries} conflicts, {rounds} round trips", flush=True)
        if result.failure or options.seed is not None:
            print(result.failure, result.details, *result.history[-options.tail :], sep="\n")
    report = summarise(played, time.perf_counter() - started)
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    print(report)
    return int(any(result.failure for result in played))
