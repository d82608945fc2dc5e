"""The plan of one history: who there is, how they are joined, what is done, and what goes wrong.

All of it is drawn from the seed beforehand, as a list of steps that can be read, dropped one by one
(``simulations.shrink``) and played again.  Every fault ends before ``calm``; what must be true then
is a matter of time only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from simulations.forgery import LIES
from simulations.liars import VICES
from simulations.scales import LARGE, SCALES, Scale
from simulations.signing import REAL_EVERY

CORE, LIAR, VICTIM = "core", "liar", "victim"  # a victim is honest, and evicted some day
GUEST = "guest"  # honest, and invited some day
COURIER = "courier"  # travels; a liar among them has the vice of one
LACKING = 2  # for "reading" of a want: nobody waits, but it belongs there, and couriers hear of it
COURIERS_SHARE = 0.04  # of histories in which some travel
STAY = (12.0, 20.0)  # seconds that a courier stays at a place
SITES = 3  # of a large history; the first node of each is its gateway
FAULTS = (
    "cut",
    "oneway",
    "part",
    "forget",
    "forgetful",
    "slow",
    "loss",
    "crash",
    "trap",
    "trap",
    "clock",
    "full",
    "unwritable",
    "unreadable",
    "halfopen",
    "flap",
)
JUMP_MAX = 300.0  # seconds by which a clock goes wrong; the ledger holds what is 600 s ahead


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node.  ``up`` and ``down`` are bytes per second, ``skew`` seconds."""

    kind: str = CORE
    up: float = 2e6
    down: float = 4e6
    skew: float = 0.0
    vice: str = ""
    cap: float = 0.0  # bytes per second that it allows itself to send; 0 is no cap
    site: str = ""
    scopes: tuple[str, ...] = ()  # other than its kind has


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """Two nodes that can reach each other; ``dial`` says from which side: 1, 2 or 3 for both."""

    one: int
    two: int
    delay: float = 0.02
    loss: float = 0.0
    dial: int = 3


@dataclass(frozen=True, slots=True)
class Voyage:
    """A courier that is linked with one of two nodes at a time, for ``stay`` seconds each."""

    courier: int
    home: int
    far: int
    stay: float = 15.0


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens at a moment."""

    at: float
    what: str
    args: tuple[int | float | str | tuple[int, ...], ...] = ()

    def __str__(self) -> str:
        return f"{self.at:7.2f} {self.what} {' '.join(map(str, self.args))}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One history, before it is played.  ``blobs`` are sizes; a negative one repeats its parts."""

    seed: int
    nodes: tuple[NodeSpec, ...]
    links: tuple[LinkSpec, ...]
    blobs: tuple[int, ...]
    steps: tuple[Step, ...]
    calm: float
    real: bool = False  # with Ed25519 and all of SQLAlchemy (simulations.signing)
    owners: tuple[int, ...] = (0,)  # most of them must sign root documents
    delegates: tuple[int, ...] = ()
    voyages: tuple[Voyage, ...] = ()

    @property
    def asleep(self) -> float:
        """The seconds in which all hosts sleep."""
        naps = [each.args[0] for each in self.steps if each.what == "sleep"]
        return sum(float(nap) for nap in naps if isinstance(nap, int | float))

    def without(self, dropped: set[Step]) -> Plan:
        """Return the same plan with some steps left out."""
        return replace(self, steps=tuple(step for step in self.steps if step not in dropped))

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.nodes)} nodes, calm from {self.calm:.0f} s"]
        lines += [f"  n{number} {node}" for number, node in enumerate(self.nodes)]
        lines += [f"  {link}" for link in self.links]
        return "\n".join([*lines, *(f"  {step}" for step in self.steps)])


@dataclass
class _Drawing:
    """Draws one plan."""

    rng: random.Random
    scale: Scale
    core: int = 0
    nodes: list[NodeSpec] = field(default_factory=list[NodeSpec])
    links: list[LinkSpec] = field(default_factory=list[LinkSpec])
    steps: list[Step] = field(default_factory=list[Step])
    voyages: list[Voyage] = field(default_factory=list[Voyage])

    # --- who and where -------------------------------------------------------------------------
    def draw_nodes(self) -> None:
        rng = self.rng
        self.core = rng.choice(self.scale.core)
        liars = rng.choice(self.scale.liars) if self.core > 2 else 0
        victims = int(rng.random() < 0.4)
        kinds = [CORE] * self.core + [LIAR] * liars + [VICTIM] * victims
        for kind in kinds:
            up = rng.choice((150e3, 500e3, 1e6, 4e6, 12e6))
            down = max(up, rng.choice((500e3, 2e6, 12e6)))
            skew = rng.choice((0.0, 0.0, rng.uniform(-2, 2), rng.uniform(-60, 60)))
            vice = rng.choice([*VICES, ""]) if kind == LIAR else ""
            cap = 0.8 * up if rng.random() < 0.25 else 0.0
            self.nodes.append(NodeSpec(kind, up, down, skew, vice, cap))

    def draw_links(self) -> None:
        """Join the core by itself, so that no liar stands between honest nodes."""
        rng, shape = self.rng, self.rng.choice(("mesh", "line", "star", "tree", "sparse"))
        if self.scale is LARGE:
            shape = "sites"
        for number in range(1, len(self.nodes)):
            if number >= self.core:
                for other in rng.sample(range(self.core), rng.randint(1, self.core)):
                    self._link(other, number)
            elif shape == "sites":
                self._join_site(number)
            elif shape == "mesh":
                for other in range(number):
                    self._link(other, number)
            else:
                parents = {"line": number - 1, "star": 0}
                first = parents.get(shape, rng.randrange(number))
                self._link(first, number)
                others = [other for other in range(number) if other != first]
                if shape == "sparse" and others and rng.random() < 0.5:
                    self._link(rng.choice(others), number)

    def _join_site(self, number: int) -> None:
        """Join a node with all of its site, and by a gateway with the sites before it."""
        for other in range(number):
            if other % SITES == number % SITES:
                self.links.append(LinkSpec(other, number, 0.001))
            elif other < SITES and number < SITES:
                self._link(other, number)

    def _link(self, one: int, two: int) -> None:
        rng = self.rng
        delay = rng.choice((0.001, 0.01, 0.03, 0.08, 0.2))
        loss = rng.choice((0.0, 0.0, 0.001, 0.01, 0.03))
        self.links.append(LinkSpec(one, two, delay, loss, rng.choice((3, 3, 3, 1, 2))))

    # --- what is done --------------------------------------------------------------------------
    def draw_work(self, blobs: int, calm: float) -> None:
        rng, eager = self.rng, self.rng.choice((0.0, 0.7, 0.7, 1.0))
        for number in range(blobs):
            author = rng.randrange(self.core)
            at = rng.uniform(0, calm / 2)
            self._step(at, "publish", author, number, f"p{rng.randrange(4)}")
            for node in range(len(self.nodes)):
                if node != author and rng.random() < eager:
                    signed, reading = int(rng.random() < 0.7), int(rng.random() < 0.4)
                    when = rng.uniform(at + 0.1, calm)
                    self._step(when, "want", node, number, signed, reading)
                    if rng.random() < 0.15:
                        self._step(rng.uniform(when, calm), "unwant", node, number)
        for _ in range(rng.randint(*self.scale.records)):
            self._draw_record(rng.uniform(0, calm))
        for number, spec in enumerate(self.nodes):
            if spec.kind == VICTIM:
                self._step(rng.uniform(calm / 4, calm), rng.choice(("evict", "narrow")), number)
            if spec.kind == LIAR:
                for _ in range(rng.randint(0, 5)):
                    self._step(rng.uniform(1, calm), "lie", number, rng.choice(LIES))

    def _draw_record(self, at: float) -> None:
        rng = self.rng
        author = rng.choice([n for n, node in enumerate(self.nodes) if node.kind != LIAR])
        what = rng.choice(("file", "file", "file", "delete", "point", "point", "flag", "setting"))
        name, value = f"p{rng.randrange(2)}", rng.choice(("", "1", "2"))
        if what == "setting" and self.nodes[author].kind == VICTIM:
            what = "file"
        self._step(at, what, author, name, value)
        if rng.random() < self.scale.bursts:
            for _ in range(rng.randint(5, 30)):  # a burst, longer than one batch
                self._step(at + rng.random(), "file", author, f"b{rng.randrange(99)}", value)

    # --- who comes, and with what keys ---------------------------------------------------------
    def draw_changes(self, calm: float) -> None:
        """Draw new keys and a guest, by dice of their own: the rest of a history stays as it is."""
        rng = self.rng
        thieves = [number for number, spec in enumerate(self.nodes) if spec.kind == LIAR]
        for number, spec in enumerate(self.nodes):
            for _ in range(3 if spec.kind in (CORE, VICTIM) else 0):
                if rng.random() < 0.1:
                    at = rng.uniform(0.5, calm)
                    self._step(at, "rotate", number)
                    for thief in thieves:  # before everybody has heard of it, and after
                        self._step(at + rng.choice((0.001, 0.02, 1.0)), "lie", thief, "outworn")
        if rng.random() < 0.15 and self.core > 1:
            self._draw_guest(calm)

    def _draw_guest(self, calm: float) -> None:
        rng, number = self.rng, len(self.nodes)
        self.nodes.append(NodeSpec(GUEST, skew=rng.choice((0.0, rng.uniform(-60, 60)))))
        host = rng.randrange(2)  # the owner, or its delegate
        for other in {host, *rng.sample(range(self.core), rng.randint(1, self.core))}:
            self.links.append(LinkSpec(other, number, rng.choice((0.001, 0.03, 0.2))))
        at = rng.uniform(0.5, calm / 2)
        self._step(at, "invite", number, host, "writer", "*")
        for _ in range(rng.randint(1, 6)):
            name, value = f"p{rng.randrange(2)}", rng.choice(("", "1", "2"))
            what = rng.choice(("file", "point", "flag", "delete"))
            self._step(rng.uniform(at, calm), what, number, name, value)
        for what in ("crash", "trap"):
            if rng.random() < 0.3:
                extra = (rng.randint(1, 40),) if what == "trap" else ()
                self._step(rng.uniform(at, calm - 0.5), what, number, *extra, 2.0)

    # --- who travels ---------------------------------------------------------------------------
    def draw_couriers(self, calm: float) -> None:
        """Draw a node that nobody but couriers ever meets, by dice of their own, in few histories.

        It wants what is published elsewhere, as its neighbour in spirit does, which they visit.
        """
        rng, far = self.rng, len(self.nodes)
        if rng.random() >= COURIERS_SHARE:
            return
        home = rng.randrange(self.core)
        self.nodes.append(NodeSpec(CORE, skew=rng.choice((0.0, rng.uniform(-60, 60)))))
        hoarders = rng.choice((0, 0, 2))
        for number in range(far + 1, far + 2 + rng.randint(0, 1) + hoarders):
            vice = "hoarder" if number <= far + hoarders else ""
            self.nodes.append(NodeSpec(LIAR if vice else COURIER, vice=vice))
            self.links += [LinkSpec(end, number, 0.005) for end in (home, far)]
            self.voyages.append(Voyage(number, home, far, round(rng.uniform(*STAY), 1)))
        for step in [step for step in self.steps if step.what == "publish"]:
            for node in {home, far} - {step.args[0]}:
                when = rng.uniform(step.at + 0.1, calm + 0.2)
                how = LACKING if node == far and rng.random() < 0.7 else 0
                self._step(when, "want", node, int(str(step.args[1])), 1, how)
        for _ in range(rng.randint(0, 3)):
            self._step(rng.uniform(0, calm), "file", far, f"p{rng.randrange(2)}", "3")

    # --- what goes wrong -----------------------------------------------------------------------
    def draw_faults(self, calm: float) -> None:
        rng = self.rng
        intensity = rng.choice(self.scale.faults)
        for _ in range(intensity):
            at = rng.uniform(0.5, calm - 1)
            longest = calm - at
            duration = min(longest, rng.choice((0.3, 2.0, 8.0, 30.0)) * (0.5 + rng.random()))
            self._draw_fault(at, duration)

    def _draw_fault(self, at: float, duration: float) -> None:
        rng, what = self.rng, self.rng.choice(FAULTS)
        if what == "forgetful":
            self._step(at, what, rng.randrange(len(self.nodes)))
        elif what == "trap":
            self._step(at, what, rng.randrange(len(self.nodes)), rng.randint(1, 60), duration)
        elif what == "clock":
            jump = round(rng.uniform(-JUMP_MAX, JUMP_MAX), 1)
            self._step(at, what, rng.randrange(len(self.nodes)), duration, jump)
        elif what in ("crash", "full", "unwritable", "unreadable"):
            self._step(at, what, rng.randrange(len(self.nodes)), duration)
        elif what == "part":
            count = len(self.nodes)
            group = tuple(sorted(rng.sample(range(count), rng.randint(1, count - 1))))
            self._step(at, what, group, duration)
        else:
            self._draw_link_fault(what, at, duration)

    def _draw_link_fault(self, what: str, at: float, duration: float) -> None:
        rng = self.rng
        link = rng.choice(self.links)
        ends = (link.one, link.two) if rng.random() < 0.5 else (link.two, link.one)
        if what in ("forget", "halfopen"):
            self._step(at, what, *ends)
        elif what == "slow":
            self._step(at, what, *ends, duration, rng.choice((3.0, 20.0)))
        elif what == "loss":
            self._step(at, what, *ends, duration, rng.choice((0.1, 0.5)))
        elif what == "flap":
            period = rng.uniform(0.5, 5.0)
            for number in range(int(duration / period / 2) + 1):
                start = at + 2 * period * number
                self._step(start, "cut", *ends, period)
        else:
            self._step(at, what, *ends, duration)

    def _step(self, at: float, what: str, *args: float | str | tuple[int, ...]) -> None:
        self.steps.append(Step(round(at, 3), what, args))


def draw(seed: int) -> Plan:
    """Draw the plan of a seed."""
    rng = random.Random(seed)
    scale = rng.choices(SCALES, [each.share for each in SCALES])[0]
    drawing = _Drawing(rng, scale)
    drawing.draw_nodes()
    drawing.draw_links()
    calm = rng.choice(scale.calm)
    blobs = tuple(rng.choice(scale.sizes) for _ in range(rng.randint(*scale.blobs)))
    drawing.draw_work(len(blobs), calm)
    drawing.draw_faults(calm)
    drawing.rng = random.Random(f"{seed} changes")
    drawing.draw_changes(calm)
    drawing.rng = random.Random(f"{seed} couriers")
    drawing.draw_couriers(calm)
    ends = [step.at + _duration(step) for step in drawing.steps]
    steps = tuple(sorted(drawing.steps, key=lambda s: (s.at, s.what, str(s.args))))
    nodes, links, real = tuple(drawing.nodes), tuple(drawing.links), seed % REAL_EVERY == 0
    voyages = tuple(drawing.voyages)
    calm = max([calm, *ends])
    return Plan(seed, nodes, links, blobs, steps, calm, real, delegates=(1,), voyages=voyages)


PLACE_OF_DURATION = {
    **dict.fromkeys(("crash", "full", "unwritable", "unreadable", "part", "clock"), 1),
    **dict.fromkeys(("cut", "oneway", "slow", "loss"), 2),
    "trap": 2,
}


def _duration(step: Step) -> float:
    """Return how long a fault lasts.  A trap may spring at its end, and is a crash then."""
    place = PLACE_OF_DURATION.get(step.what)
    found = step.args[place] if place is not None else 0.0
    assert isinstance(found, int | float)
    return float(found) * (2 if step.what == "trap" else 1)
