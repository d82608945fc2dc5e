"""Couriers in a history: the product's wishes, cargo and leases, wired by events.

Time is short here: a lease lasts seconds instead of a day.  That a peer holds a blob is looked up
at the peer, where nodes hear of it from each other; that a holder keeps its copy is its word.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa

from mesh.cargo import CARRY_MAX, Brought, Carry, Carrying, Lack, Lacks
from mesh.couriers import HOPS_MAX, LIFE, Assembly, Cargo, statement
from mesh.leases import CARRIERS, Doubts, Leases
from mesh.messages import COURIER, REPAIR, Message
from mesh.placement import score
from simulations.disk import Disk
from simulations.transfers import Transfers
from simulations.world import ViolationError
from store import schema

MESSAGES = (Lacks, Brought, Carry, Carrying)
LOOK = 1.0  # seconds between looks at what there is to do
SAVE = 10.0  # seconds of memory that a crash may take
ANSWER = 5.0  # seconds that a holder has to answer
LEASE, TURN, DOUBT = 30.0, 210.0, 90.0  # seconds; a day, a week and three days in the product
PATIENCE = 5  # looks at which nothing has come of a blob, until a fetch has failed
BUDGET = 2_400_000  # bytes that a courier carries: any one blob of a plan, and not two large ones


class Shell(Protocol):
    """What this needs of its node, and what watches it."""

    hoards: bool

    @property
    def couriers(self) -> Collection[bytes]: ...
    @property
    def lacking(self) -> Mapping[bytes, tuple[int, bytes]]: ...
    def clock(self) -> float: ...
    def later(self, delay: float, action: Callable[[], None]) -> object: ...
    def note(self, text: str) -> None: ...
    def send(self, peer: bytes, message: Message) -> None: ...
    def linked_peers(self) -> list[bytes]: ...
    def is_member(self, node: bytes) -> bool: ...
    def held_by(self, peer: bytes, blob: bytes) -> bool: ...
    def granted(self, courier: bytes, blobs: Sequence[bytes]) -> None: ...
    def dropped(self, blob: bytes) -> None: ...


class Grants:
    """What holders have granted, counted apart from them: a blob to so few at a time."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, bytes], dict[bytes, float]] = {}

    def note(self, place: tuple[str, int, bytes], courier: bytes, now: float) -> None:
        """Somebody may carry what a holder has, in this life of its.  Raises ViolationError."""
        known = self._known.setdefault(place, {})
        for other in [other for other, until in known.items() if until <= now]:
            del known[other]
        known.setdefault(courier, now + LEASE)
        if len(known) > CARRIERS:
            raise ViolationError(f"{place[0]}: lets {len(known)} couriers carry one blob")


@dataclass(slots=True)
class Question:
    """What a holder was asked: may we carry these?"""

    holder: bytes
    sizes: dict[bytes, tuple[int, bytes]]  # blob → size, manifest id
    deadline: float


@dataclass
class Porter:
    """One life of a node's part in carrying."""

    name: bytes
    disk: Disk
    transfers: Transfers
    shell: Shell
    cargo: Cargo = field(init=False)
    leases: Leases = field(default_factory=lambda: Leases(life=LEASE, turn=TURN))
    doubts: Doubts = field(default_factory=lambda: Doubts(life=DOUBT))
    _tried: dict[bytes, tuple[int, int]] = field(default_factory=dict[bytes, tuple[int, int]])
    _assemblies: dict[bytes, Assembly] = field(default_factory=dict[bytes, Assembly])
    _told: dict[bytes, frozenset[bytes]] = field(default_factory=dict[bytes, frozenset[bytes]])
    _asked: dict[int, Question] = field(default_factory=dict[int, Question])
    _request: int = 0

    def __post_init__(self) -> None:
        """Take up what was saved."""
        saved = self.disk.saved
        self.cargo = copy.deepcopy(saved) if isinstance(saved, Cargo) else Cargo(self.name, BUDGET)
        for blob in [blob for blob in self.cargo.carried if blob not in self.disk.whole]:
            self.cargo.gone(blob, self.shell.clock())
        for blob in list(self.cargo.coming):
            self.cargo.put_off(blob, self.shell.clock())
        if self.shell.couriers:
            self.shell.later(LOOK, self._look)
        if self.carrying:
            self.shell.later(SAVE, self._save)

    @property
    def carrying(self) -> bool:
        """Whether this node carries for others."""
        return self.name in self.shell.couriers

    def _save(self) -> None:
        self.shell.later(SAVE, self._save)
        self.disk.saved = copy.deepcopy(self.cargo)

    def _look(self) -> None:
        """Do once what there is to do."""
        self.shell.later(LOOK, self._look)
        now, cargo = self.shell.clock(), self.cargo
        cargo.expire(now)
        cargo.keep(self.shell.is_member)
        self._repair()
        for peer in self.shell.linked_peers():
            if peer in self.shell.couriers:
                self._state(peer, now)
        if self.shell.hoards:
            self._hoard()
        elif self.carrying:
            self._lapse(now)
            self._bring()
            self._load(now)
            self._let_go(now)
        load = sum(cargo.carried.values()) + sum(cargo.coming.values())
        if load > cargo.budget:
            raise ViolationError(f"a courier carries {load} of {cargo.budget} bytes")

    # --- links ---------------------------------------------------------------------------------
    def unlinked(self, peer: bytes) -> None:
        """What was said on a link is said again on the next."""
        self._assemblies.pop(peer, None)
        self._told.pop(peer, None)

    def heard(self, peer: bytes, message: Message) -> None:
        """Take a message."""
        now = self.shell.clock()
        match message:
            case Lacks() if self.carrying:
                whole = self._assemblies.setdefault(peer, Assembly()).take(message)
                if whole is not None:
                    self.cargo.stated(peer, message.stated_ms, whole, now, self.shell.is_member)
            case Carry():
                pairs = zip(message.blobs, message.targets, strict=False)
                linked = self.shell.linked_peers()
                away = [blob for blob, target in pairs if target not in linked]
                courier = peer in self.shell.couriers
                granted = self.leases.grant(peer, away, now) if courier else ()
                self.shell.granted(peer, granted)
                self.shell.send(peer, Carrying(message.request, granted))
            case Carrying():
                self._answered(peer, message, now)
            case Brought():
                for blob in sorted(self._missing().keys() & set(message.blobs)):
                    named = self.shell.lacking.get(blob, (0, b""))
                    self.transfers.want(blob, *named, reading=False, priority=REPAIR)
            case _:
                pass

    # --- lacking -------------------------------------------------------------------------------
    def _missing(self) -> dict[bytes, int]:
        """Return what clients wait for or what belongs here, and is not here: blob → size."""
        wished = {**self.shell.lacking, **self.transfers.wanted}
        return {b: size for b, (size, _) in wished.items() if b not in self.disk.whole}

    def _repair(self) -> None:
        """Fetch what belongs here and is held within reach; note when nothing of it comes."""
        linked, lacking = self.shell.linked_peers(), self.shell.lacking
        for blob, named in lacking.items():
            if any(self.shell.held_by(peer, blob) for peer in linked):
                self.transfers.want(blob, *named, reading=False, priority=REPAIR)
        for blob in sorted(self._missing().keys() & self.transfers.wanted.keys()):
            download = self.transfers.exchange.downloads.get(blob)
            have = download.have.bit_count() if download is not None else 0
            before, looks = self._tried.get(blob, (-1, 0))
            looks = looks + 1 if have == before else 0
            if looks >= PATIENCE:
                self.doubts.failed(blob, frozenset(peer.hex() for peer in linked))
            self._tried[blob] = (have, looks % PATIENCE)

    def _reachable(self, blob: bytes, now: float) -> frozenset[str]:
        """Return who is linked and holds a blob, as far as that can be counted on."""
        linked = self.shell.linked_peers()
        claimed = frozenset(peer.hex() for peer in linked if self.shell.held_by(peer, blob))
        return self.doubts.credible(blob, claimed, now)

    def _state(self, courier: bytes, now: float) -> None:
        """Tell a courier what nobody else within reach has."""
        missing = {} if self.carrying else self._missing()
        lacks = [
            Lack(blob, b"", missing[blob], int(LIFE), 0, HOPS_MAX, urgent=False)
            for blob in sorted(missing)
            if not self._reachable(blob, now) - {courier.hex()}
        ]
        lacks += self.cargo.passed(courier, now) if self.carrying else []
        said = frozenset(lack.blob for lack in lacks)
        if self._told.get(courier) != said:
            self._told[courier] = said
            self._request += 1
            for piece in statement(self._request, int(now * 1000), lacks):
                self.shell.send(courier, piece)

    def named(self, blob: bytes) -> tuple[int, bytes] | None:
        """Return size and manifest of a blob that a file names, so that it is carried."""
        files = schema.files.c
        query = sa.select(files.size, files.manifest_id).where(
            files.digest == f"sha256:{blob.hex()}"
        )
        row = self.disk.port.look(lambda connection: connection.execute(query).first())
        return (row[0], bytes(row[1])) if row is not None else None

    # --- carrying ------------------------------------------------------------------------------
    def _load(self, now: float) -> None:
        """Ask holders whether to carry what is wished for and can be had here."""
        asked = {blob for question in self._asked.values() for blob in question.sizes}
        targets = {w.blob: w.target for w in self.cargo.open(now) if w.blob not in asked}
        had: dict[bytes, tuple[int, bytes]] = {}
        holders: dict[bytes, list[bytes]] = {}
        for blob in targets:
            having = [p for p in self.shell.linked_peers() if self.shell.held_by(p, blob)]
            named = self.named(blob) if having and blob not in self.disk.whole else None
            if named is not None:
                had[blob], holders[blob] = named, having
        choice = self.cargo.choose({blob: size for blob, (size, _) in had.items()}, now)
        for blob in choice.displaced:
            self.cargo.displace(blob)
        by_holder: dict[bytes, list[bytes]] = {}
        for blob in choice.fetch:
            by_holder.setdefault(_first(holders[blob], blob), []).append(blob)
        for holder, blobs in by_holder.items():
            self._ask(holder, {blob: had[blob] for blob in blobs}, targets, now)

    def _bring(self) -> None:
        """Tell who is here which of its wishes are with us."""
        for teller in self.shell.linked_peers():
            here = tuple(b for b in self.cargo.wishes.get(teller, ()) if b in self.disk.whole)
            if here:
                self.shell.send(teller, Brought(here))

    def _ask(
        self,
        holder: bytes,
        sizes: dict[bytes, tuple[int, bytes]],
        targets: dict[bytes, bytes],
        now: float,
    ) -> None:
        self._request += 1
        self._asked[self._request] = Question(holder, sizes, now + ANSWER)
        blobs = tuple(sizes)
        self.shell.send(holder, Carry(self._request, blobs, tuple(targets[b] for b in blobs)))

    def _answered(self, peer: bytes, said: Carrying, now: float) -> None:
        question = self._asked.get(said.request)
        if question is None or question.holder != peer:
            return
        del self._asked[said.request]
        for blob, (size, manifest) in question.sizes.items():
            if blob in said.blobs:
                self.cargo.begin(blob, size)
                self.shell.note(f"is to carry {blob.hex()[:8]}")
                self.transfers.want(blob, size, manifest, reading=False, priority=COURIER)
            else:
                self.cargo.put_off(blob, now)

    def _lapse(self, now: float) -> None:
        """Ask somebody else where no answer comes."""
        for request, question in list(self._asked.items()):
            if question.deadline <= now:
                del self._asked[request]
                for blob in question.sizes:
                    self.cargo.put_off(blob, now)

    def completed(self, blob: bytes) -> None:
        """A blob is here."""
        if blob in self.cargo.coming:
            self.cargo.loaded(blob, self.disk.whole[blob][0].size)

    def _let_go(self, now: float) -> None:
        """Let go of what nobody wants any more, where somebody keeps it."""
        for blob in sorted(self.cargo.leaving):
            kept = any(self.shell.held_by(peer, blob) for peer in self.shell.linked_peers())
            if blob not in self.disk.whole:
                self.cargo.gone(blob, now)
            elif kept:
                self.disk.drop(blob)
                self.cargo.gone(blob, now)
                self.shell.dropped(blob)

    # --- hoarding ------------------------------------------------------------------------------
    def _hoard(self) -> None:
        """Take every lease that there is, for somebody who is not there, and bring nothing."""
        files = schema.files.c
        query = sa.select(files.digest).where(files.manifest_id != b"").distinct()
        rows = self.disk.port.look(lambda connection: connection.execute(query).all())
        blobs = tuple(sorted(bytes.fromhex(row[0].partition(":")[2]) for row in rows))[:CARRY_MAX]
        for peer in self.shell.linked_peers():
            self._request += 1
            self.shell.send(peer, Carry(self._request, blobs, (bytes(32),) * len(blobs)))


def _first(holders: Iterable[bytes], blob: bytes) -> bytes:
    """The holder that says who carries a blob: all couriers ask the same one."""
    return max(holders, key=lambda peer: score(peer.hex(), blob))
