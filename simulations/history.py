"""Play a plan: faults first, and nothing may go wrong for good; then none, and all must come right.

Safety is looked for at every step (``simulations.checkers``).  Liveness is what remains when the
faults have ended: within bounds, equal ledgers everywhere, and every blob where it is wanted.
"""

from __future__ import annotations

import hashlib
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa
import trio

from simulations.checkers import Checker
from simulations.disk import at_once, make_blob
from simulations.faults import FAULTS, Faults
from simulations.forgery import Forger
from simulations.liars import VICES, Honest
from simulations.network import Access, Network, Path
from simulations.node import EPOCH, Node
from simulations.plan import CORE, LIAR, VICTIM, LinkSpec, Plan, Step
from simulations.signing import identity, signatures
from simulations.world import ViolationError, World
from store import chain, root
from store.chain import Anchor
from store.errors import RegistryError, UnavailableError
from store.facts import Delete, Fact, File, Flag, Point, Publish, Setting
from store.identity import Identity
from store.root import Member

REPOSITORY = "generic"
SURVEY = 7.0  # seconds between looks at all that counts
LIVENESS = 180.0  # seconds after the last fault until everything must be right
POLL = 1.0
REVIVE = 2.0  # seconds until a node that could not start is started again


@dataclass(slots=True)
class Result:
    """What became of a history.  ``failure`` is "" when all was right."""

    seed: int
    failure: str = ""
    details: str = ""
    digest: str = ""
    steps: int = 0
    recovered: float = 0.0  # seconds from the last fault until all was right
    bytes_carried: int = 0
    seconds: float = 0.0  # of this machine's processor
    seen: Counter[str] = field(default_factory=Counter[str])  # what was done, and what came of it
    history: list[str] = field(default_factory=list[str])


class Play:
    """One history under way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = World(random.Random(plan.seed))
        self.network = Network(self.world)
        self.checker = Checker()
        self.blobs = [self._blob(number, size) for number, size in enumerate(plan.blobs)]
        self.nodes: list[Node] = []
        self.forgers: dict[int, Forger] = {}
        self.wants: dict[tuple[int, int], tuple[bool, bool]] = {}
        self.published: set[int] = set()
        self.removed: set[int] = set()
        self.faults = Faults(self.world, self.network, self.nodes, self.revive)
        self._populate()
        self._found()

    # --- before time begins --------------------------------------------------------------------
    def _blob(self, number: int, size: int) -> tuple[bytes, bytes]:
        """Make a blob: random bytes, or the same ones again and again, on top of an older blob."""
        rng = self.world.rng
        data = rng.randbytes(max(size, 0)) if size >= 0 else rng.randbytes(-size // 4) * 4
        if number and size > 0 and rng.random() < 0.5:
            data = self.checker.blobs[min(self.checker.blobs)][1][: size // 2] + data
        manifest, data = make_blob(data)
        self.checker.blobs[manifest.blob.raw] = (manifest, data)
        return manifest.blob.raw, data

    def _populate(self) -> None:
        places: dict[bytes, str] = {}
        for number, spec in enumerate(self.plan.nodes):
            name = f"n{number}"
            seed = hashlib.sha256(f"{self.plan.seed} {name}".encode()).digest()
            node = Node(
                self.world,
                self.network,
                name,
                identity(seed, real=self.plan.real),
                places,
                self.checker,
                skew=spec.skew,
                vice=VICES[spec.vice]() if spec.vice else Honest(),
                honest=spec.kind != LIAR,
                uplink_cap=spec.cap,
                real=self.plan.real,
            )
            places[node.id] = name
            self.nodes.append(node)
            self.network.hosts[name] = node
            self.network.access[name] = Access(spec.up, spec.down)
            if spec.kind == LIAR:
                self.checker.liars.add(node.id)
        for link in self.plan.links:
            self._join(link)

    def _join(self, link: LinkSpec) -> None:
        one, two = self.nodes[link.one].name, self.nodes[link.two].name
        self.network.paths[one, two] = Path(link.delay, link.loss, bool(link.dial & 1))
        self.network.paths[two, one] = Path(link.delay, link.loss, bool(link.dial & 2))

    def _member(self, number: int, roles: tuple[str, ...] | None = None) -> Member:
        kind, node = self.plan.nodes[number].kind, self.nodes[number]
        given = {CORE: root.ROLES, VICTIM: (root.WRITER,), LIAR: (root.WRITER,)}[kind]
        scopes = (REPOSITORY, "lagoon") if kind == LIAR else ("*",)
        return root.member_of(node.identity, roles=roles or given, scopes=scopes, name=node.name)

    def _found(self) -> None:
        """Found the mesh: the first node owns it, and every disk holds its two root documents."""
        owner = self.nodes[0].identity
        first = root.genesis(owner, name="n0", now=EPOCH, nonce=bytes(16))
        mesh = first.id.hex()
        members = [self._member(number) for number in range(len(self.nodes))]
        draft = root.revise(
            mesh,
            {first.id: root.read_document(first.document)},
            members=members,
            heads={},
            now=EPOCH,
        )
        second = root.sign(draft, owner)
        self.checker.roots = {first.id, second.id}
        for node in self.nodes:

            def unit(connection: sa.Connection, who: Identity = node.identity) -> None:
                chain.store_root(connection, mesh, first, 1)
                chain.store_root(connection, mesh, second, 2)
                chain.write_anchor(connection, who.node, who.key, Anchor(int(EPOCH), mesh))

            node.disk.port.look(unit)

    # --- time ----------------------------------------------------------------------------------
    def begin(self) -> None:
        """Start every node, and plan every step."""
        for number, node in enumerate(self.nodes):
            node.boot()
            if not node.honest:
                self.forgers[number] = Forger(node, self.checker.appended)
        for step in self.plan.steps:
            self.world.after(step.at, lambda step=step: self._step(step))  # type: ignore[misc]
        self.world.after(SURVEY, self._survey)

    def run(self) -> float:
        """Play it all; return how long it took to come right.  Raises what goes wrong."""
        self.begin()
        self.world.run(self.plan.calm)
        self.world.note("calm")
        while (reason := self.unsettled()) and self.world.now < self.plan.calm + LIVENESS:
            self.world.run(self.world.now + POLL)
        if reason:
            raise ViolationError(f"{LIVENESS:.0f} s after the last fault: {reason}")
        self._final()
        return self.world.now - self.plan.calm

    def _survey(self) -> None:
        for node in self.nodes:
            if node.honest and node.alive:
                self.checker.survey(node)
        self.world.after(SURVEY, self._survey)

    def close(self) -> None:
        """Give the memory back."""
        for node in self.nodes:
            node.disk.port.close()

    # --- steps ---------------------------------------------------------------------------------
    def _step(self, step: Step) -> None:
        self.world.note(f"* {step.what} {step.args}")
        if step.what in FAULTS:
            self.faults.strike(step)
            return
        act: Callable[..., None] = getattr(self, f"_do_{step.what}")
        try:
            act(*step.args)
        except UnavailableError as error:
            self.world.note(f"{step.what} fails: {error}")

    def _append(self, number: int, fact: Fact) -> None:
        node = self.nodes[number]
        if node.alive:
            try:
                node.append([fact])
            except RegistryError as error:
                node.note(f"may not write: {error}")

    def _do_publish(self, number: int, blob: int, path: str) -> None:
        raw, data = self.blobs[blob]
        node, manifest = self.nodes[number], self.checker.blobs[raw][0]
        if node.alive:
            node.disk.store(manifest, data)
            self.published.add(blob)
            named = File(path, "file", str(manifest.blob), manifest.size, manifest.id)
            self._append(number, Publish(REPOSITORY, "blobs", "1", (named,)))

    def _do_file(self, number: int, path: str, value: str) -> None:
        digest = f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
        named = File(path, "file", digest, len(value))
        self._append(number, Publish(REPOSITORY, "files", "1", (named,)))

    def _do_delete(self, number: int, path: str, value: str) -> None:
        self._append(number, Delete(REPOSITORY, path, (), value))

    def _do_point(self, number: int, name: str, value: str) -> None:
        self._append(number, Point(REPOSITORY, "files", name, value.encode() or None))

    def _do_flag(self, number: int, name: str, value: str) -> None:
        self._append(number, Flag(REPOSITORY, "files", "1", "", name, value.encode() or None))

    def _do_setting(self, number: int, name: str, value: str) -> None:
        text = msgspec.json.encode({"disabled": value == "1", "value": value}) if value else None
        self._append(number, Setting("user", name, text))

    def _do_want(self, number: int, blob: int, signed: int, reading: int) -> None:
        if blob in self.published and self.nodes[number].alive:
            self.wants[number, blob] = (bool(signed), bool(reading))
            self._want(number, blob)

    def _want(self, number: int, blob: int) -> None:
        node, (signed, reading) = self.nodes[number], self.wants[number, blob]
        manifest = self.checker.blobs[self.blobs[blob][0]][0]
        named = (manifest.size, manifest.id) if signed else (0, b"")
        node.life.transfers.want(manifest.blob.raw, *named, reading=reading)

    def _do_unwant(self, number: int, blob: int) -> None:
        if self.wants.pop((number, blob), None) is not None and self.nodes[number].alive:
            self.nodes[number].life.transfers.unwant(self.blobs[blob][0])

    def _do_evict(self, number: int) -> None:
        self._revise(number, None)

    def _do_narrow(self, number: int) -> None:
        self._revise(number, (root.MIRROR,))

    def _revise(self, victim: int, roles: tuple[str, ...] | None) -> None:
        """The owner takes a member's rights away, some or all."""
        owner = self.nodes[0]
        if not owner.alive:
            return
        ledger = owner.life.ledger
        members = [
            self._member(number, roles if number == victim else None)
            for number in range(len(self.nodes))
            if (number != victim or roles) and number not in self.removed
        ]
        heads = at_once(ledger.heads())
        draft = root.revise(
            ledger.mesh, ledger.authority.in_force, members=members, heads=heads, now=owner.clock()
        )
        signed = root.sign(draft, owner.identity)
        self.checker.roots.add(signed.id)
        node = self.nodes[victim].identity.node
        seqs = {
            incarnation: seq for (author, incarnation), (seq, _) in heads.items() if author == node
        }
        self.checker.horizons[node] = (draft.version, seqs)
        self.removed.add(victim)
        at_once(ledger.adopt(signed))
        owner.roots_changed()
        owner.life.ledgers.catch_up()

    def _do_lie(self, number: int, what: str) -> None:
        if self.nodes[number].alive:
            self.forgers[number].lie(what)

    def revive(self, number: int) -> None:
        """Let a node live again, as soon as its disk can be used; its clients come again, too."""
        try:
            self.nodes[number].boot()
        except UnavailableError as error:
            self.nodes[number].note(f"cannot start: {error}")
            self.nodes[number].crash(self.world.rng)
            self.world.after(REVIVE, lambda: self.revive(number))
            return
        for node, blob in self.wants:
            if node == number:
                self._want(node, blob)

    def seen(self) -> Counter[str]:
        """Count what was done, and what came of it: a fault that never bites tests nothing."""
        found = Counter(f"step {step.what}" for step in self.plan.steps)
        found.update({f"refused: {why}": n for why, n in self.checker.refusals.items()})
        found["blobs completed"] = len(self.checker.completed_at)
        found["records written"] = len(self.checker.written)
        found["lives"] = sum(node.lives for node in self.nodes)
        return found

    # --- what must be true in the end ----------------------------------------------------------
    def core(self) -> list[Node]:
        """Return the nodes that everything must come right for."""
        kept = [n for n, spec in enumerate(self.plan.nodes) if spec.kind == CORE]
        return [self.nodes[number] for number in kept]

    def unsettled(self) -> str:
        """Return what is not right yet, or "" when everything is."""
        core = self.core()
        for node in core:
            if not node.alive:
                return f"{node.name} is down"
        roots = {node.life.ledger.authority.version for node in core}
        if len(roots) > 1:
            return f"root versions {sorted(roots)}"
        liars = {node.id for node in self.nodes if node not in core}
        reached = {
            tuple(sorted((k, v) for k, v in n.life.ledgers.core.heads.items() if k[0] not in liars))
            for n in core
        }
        if len(reached) > 1:
            return "ledgers differ"
        for number, blob in self.wants:
            kind = self.plan.nodes[number].kind
            if kind == CORE and self.blobs[blob][0] not in self.nodes[number].disk.whole:
                return f"n{number} lacks blob {self.blobs[blob][0].hex()[:8]}"
        states = {self.checker.survey(node) for node in core}
        return "" if len(states) == 1 else "equal ledgers, but other records count"

    def _final(self) -> None:
        """Every acknowledged record of an honest member counts, everywhere."""
        core = {node.name for node in self.core()}
        owed = [record for record, (name, _, _) in self.checker.written.items() if name in core]
        for node in self.core():
            missing = self.checker.lost(node, owed)
            if missing:
                raise ViolationError(f"{node.name}: {missing} acknowledged records are lost")


def play(plan: Plan) -> Result:
    """Play a plan to its end or its failure.  Never raises for what goes wrong in it."""
    result = Result(plan.seed)
    started = time.process_time()

    async def main() -> None:
        stage = Play(plan)
        try:
            result.recovered = stage.run()
        except Exception as error:  # noqa: BLE001  whatever a core raises is a finding
            result.failure = f"{type(error).__name__}: {error}"
            result.details = traceback.format_exc()
        finally:
            result.digest, result.steps = stage.world.digest, stage.world.steps
            result.history = list(stage.world.history)
            result.bytes_carried = sum(path.carried for path in stage.network.paths.values())
            result.seen = stage.seen()
            stage.close()

    with signatures(real=plan.real):
        trio.run(main)
    result.seconds = time.process_time() - started
    return result
