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
from simulations.disk import make_blob
from simulations.faults import FAULTS, Faults
from simulations.forgery import Forger
from simulations.law import Law
from simulations.liars import COURIER_VICES, VICES
from simulations.membership import Membership, founder
from simulations.network import Access, Network, Path
from simulations.node import EPOCH, Node
from simulations.plan import CORE, COURIER, GUEST, LACKING, LIAR, VICTIM, LinkSpec, Plan, Step
from simulations.signing import signatures
from simulations.voyages import Voyages
from simulations.world import ViolationError, World
from store import chain, revising, root
from store.chain import Anchor
from store.errors import RegistryError, UnavailableError
from store.facts import Delete, Fact, File, Flag, Point, Publish, Setting
from store.root import Member, SignedRoot

REPOSITORY = "generic"
SURVEY = 7.0  # seconds between looks at all that counts
LIVENESS = 180.0  # seconds after the last fault until everything must be right
BY_COURIER = 400.0  # the same where couriers carry between some nodes
POLL = 1.0
CENTURY = 100 * 365 * 86400.0  # seconds
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

    def __init__(self, plan: Plan, checker: Checker | None = None) -> None:
        self.plan = plan
        self.world = World(random.Random(plan.seed))
        self.network = Network(self.world)
        self.checker = checker or Checker()
        self.blobs = [self._blob(number, size) for number, size in enumerate(plan.blobs)]
        self.nodes: list[Node] = []
        self.forgers: dict[int, Forger] = {}
        self.liveness = BY_COURIER if plan.voyages else LIVENESS
        self.found: Counter[str] = Counter()
        self.wants: dict[tuple[int, int], tuple[int, int]] = {}
        self.published: set[int] = set()
        self.membership = Membership(self.world, self.nodes, self.checker, plan.seed)
        self.faults = Faults(self.world, self.network, self.nodes, self.revive)
        self._populate()
        self._found()
        self.voyages = Voyages(self.world, self.network, self.nodes, plan.voyages)

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
            node = Node(
                self.world,
                self.network,
                name := f"n{number}",
                founder(self.plan.seed, name, real=self.plan.real),
                places,
                self.checker,
                skew=spec.skew,
                vice=(VICES | COURIER_VICES)[spec.vice](),
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

    def _member(self, number: int) -> Member:
        spec, node = self.plan.nodes[number], self.nodes[number]
        roles = {CORE: root.ROLES, COURIER: (root.COURIER,)}.get(spec.kind, (root.WRITER,))
        scopes = spec.scopes or ((REPOSITORY, "lagoon") if spec.kind == LIAR else ("*",))
        self.checker.grant(node.identity.node, roles, scopes)
        return root.member_of(
            node.identity, roles=roles, scopes=scopes, site=spec.site, name=node.name
        )

    def _found(self) -> None:
        """Found the mesh: its owners' keys, and two root documents on every disk."""
        plan, owner = self.plan, self.nodes[0].identity
        first = root.genesis(owner, site=plan.nodes[0].site, name="n0", now=EPOCH, nonce=bytes(16))
        mesh = self.checker.mesh = first.id.hex()
        guests = {number for number, spec in enumerate(plan.nodes) if spec.kind == GUEST}
        members = [self._member(n) for n in range(len(self.nodes)) if n not in guests]
        draft = revising.revise(
            mesh,
            {first.id: root.read_document(first.document)},
            members=members,
            heads={},
            now=EPOCH,
            owners=tuple(self.nodes[number].identity.key for number in plan.owners),
            threshold=len(plan.owners) // 2 + 1,
            delegations=tuple(self._delegation(number) for number in plan.delegates),
        )
        second = root.sign(draft, owner)
        for number, node in enumerate(self.nodes):
            if number in guests:
                alone = root.genesis(node.identity, name=node.name, now=EPOCH, nonce=bytes(16))
                self._settle_in(node, alone.id.hex(), [alone])
            else:
                self._settle_in(node, mesh, [first, second])

    def _delegation(self, number: int) -> root.Delegation:
        node, roles = self.nodes[number].identity.node, (root.MIRROR, root.WRITER)
        return root.Delegation(node, roles, ("*",), ("*",), int((EPOCH + CENTURY) * 1000), 20)

    def _settle_in(self, node: Node, mesh: str, documents: list[SignedRoot]) -> None:
        def unit(connection: sa.Connection) -> None:
            for version, signed in enumerate(documents, 1):
                chain.store_root(connection, mesh, signed, version)
            anchor = Anchor(int(EPOCH), mesh)
            chain.write_anchor(connection, node.identity.node, node.identity.key, anchor)

        node.disk.port.look(unit)

    # --- time ----------------------------------------------------------------------------------
    def begin(self) -> None:
        """Start every node, and plan every step."""
        self.voyages.begin()
        for number, node in enumerate(self.nodes):
            node.boot()
            if not node.honest:
                stolen = self.membership.stolen
                self.forgers[number] = Forger(node, self.checker, stolen)
        for step in self.plan.steps:
            self.world.after(step.at, lambda step=step: self._step(step))  # type: ignore[misc]  # mypy infers no type for lambdas with defaults
        self.world.after(SURVEY, self._survey)

    def run(self) -> float:
        """Play it all; return how long it took to come right.  Raises what goes wrong."""
        self.begin()
        self.world.run(self.plan.calm + self.plan.asleep)
        self.world.note("calm")
        self.calm()
        return self.come_right()

    def calm(self) -> None:
        """The last fault is over."""

    def come_right(self) -> float:
        """Wait until everything is right, and look; return how long it took."""
        begun = self.world.now
        while (reason := self.unsettled()) and self.world.now < begun + self.liveness:
            self.world.run(self.world.now + POLL)
        if reason:
            raise ViolationError(f"{self.liveness:.0f} s after the last fault: {reason}")
        self._final()
        return self.world.now - begun

    def _survey(self) -> None:
        for node in [node for node in self.nodes if node.honest and node.alive]:
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
        act: Callable[..., None] = getattr(self, f"_do_{step.what}", self.membership.undone)
        act = getattr(self.membership, step.what, act)
        try:
            act(*step.args)
        except UnavailableError as error:
            self.world.note(f"{step.what} fails: {error}")

    def _append(self, number: int, fact: Fact) -> None:
        node = self.nodes[number]
        here = self.plan.nodes[number].kind != GUEST or self.membership.joined(number)
        if node.alive and here:
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
        named = File(path, "file", self.digest_of(value), len(value))
        self._append(number, Publish(REPOSITORY, "files", "1", (named,)))

    def digest_of(self, value: str) -> str:
        """Return what stands for the bytes of a file."""
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"

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
        if blob in self.published and (self.nodes[number].alive or self.voyages.ends_at(number)):
            self.wants[number, blob] = (signed, reading)
            self._want(number, blob)

    def _want(self, number: int, blob: int) -> None:
        node, (signed, reading) = self.nodes[number], self.wants[number, blob]
        manifest = self.checker.blobs[self.blobs[blob][0]][0]
        named = (manifest.size, manifest.id) if signed else (0, b"")
        if reading == LACKING:
            node.lacking[manifest.blob.raw] = named
        elif node.alive:
            node.life.transfers.want(manifest.blob.raw, *named, reading=bool(reading))

    def _do_unwant(self, number: int, blob: int) -> None:
        if self.wants.pop((number, blob), None) is not None and self.nodes[number].alive:
            self.nodes[number].life.transfers.unwant(self.blobs[blob][0])

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
        found = self.found + Counter(f"step {step.what}" for step in self.plan.steps)
        found.update({f"refused: {why}": n for why, n in self.checker.refusals.items()})
        found["blobs completed"] = len(self.checker.completed_at)
        found["records written"] = len(self.checker.written)
        found["lives"] = sum(node.lives for node in self.nodes)
        return found

    # --- what must be true in the end ----------------------------------------------------------
    def core(self) -> list[Node]:
        """Return the nodes that everything must come right for."""
        kept = {n for n, spec in enumerate(self.plan.nodes) if spec.kind == CORE}
        return [self.nodes[number] for number in sorted(kept | self.membership.invited)]

    def unsettled(self) -> str:
        """Return what is not right yet, or "" when everything is."""
        for node in self.core():
            if not node.alive:
                return f"{node.name} is down"
        for number in sorted(self.membership.invited):
            if not self.membership.joined(number):
                return f"n{number} has not come in"
        for number, blob in self.wants:
            kind, raw = self.plan.nodes[number].kind, self.blobs[blob][0]
            if kind == CORE and self.voyages.owed(number, raw):
                return f"n{number} lacks blob {raw.hex()[:8]}"
        return self._disagreement()

    def _disagreement(self) -> str:
        """Return about what the nodes differ, or who is out and does not know it."""
        core = self.core()
        laws = [self.checker.law(node) for node in core]
        if len({law.version for law in laws}) > 1:
            return f"root versions {sorted({law.version for law in laws})}"
        if len({node.life.ledger.authority.digest for node in core}) > 1:
            return "other documents, statements or proposals"
        liars = {node.id for node in self.nodes if node not in core}
        reached = {
            tuple(sorted((k, v) for k, v in n.life.ledgers.core.heads.items() if k[0] not in liars))
            for n in core
        }
        if len(reached) > 1:
            return "ledgers differ"
        states = {self.checker.survey(node) for node in core}
        if len(states) > 1:
            return "equal ledgers, but other records count"
        return self._unaware(laws[0])

    def _unaware(self, law: Law) -> str:
        """Return who is out and could know it, and does not."""
        core = {number for number, spec in enumerate(self.plan.nodes) if spec.kind == CORE}
        for number, spec in enumerate(self.plan.nodes):
            node = self.nodes[number]
            if spec.kind != VICTIM or node.identity.node not in law.evicted or not node.alive:
                continue
            reaches = any(
                (link.one == number and link.two in core and link.dial & 1)
                or (link.two == number and link.one in core and link.dial & 2)
                for link in self.plan.links
            )
            if reaches and node.identity.node not in self.checker.law(node).evicted:
                return f"{node.name} does not know that it is out"
        return ""

    def _final(self) -> None:
        """Every acknowledged record of an honest member counts, everywhere."""
        owed = self.checker.owed({node.identity.node for node in self.core()}, self.core()[0])
        for node in self.core():
            missing = self.checker.lost(node, owed)
            if missing:
                raise ViolationError(f"{node.name}: {missing} acknowledged records are lost")


def play(plan: Plan, stage_of: Callable[[Plan], Play] = Play) -> Result:
    """Play a plan to its end or its failure.  Never raises for what goes wrong in it."""
    result, started = Result(plan.seed), time.process_time()

    async def main() -> None:
        stage = stage_of(plan)
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
