"""What one root document, together with the statements of members, says about each author.

Statements never widen a document: a rotation moves a member's rights to another key, an admission
gives what the document delegated, at most.  Everything here is a pure function of the documents and
of the *set* of statements, so the order in which they arrive does not matter.

Spec: docs/ledger.md §4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec

from store.root import (
    COURIER,
    MIRROR,
    WRITER,
    Delegation,
    Epoch,
    Member,
    Reserved,
    RootDocument,
)
from store.statements import Admission, Rotation, Statements

LOCKED = b""  # the key of a node for which two keys claim to be the next: no key is it
CHAIN_MAX = 1000  # rotations followed from one key of a document
WILD = frozenset("*?[")
NEEDS = {  # what a delegate must be itself to admit such a member
    WRITER: frozenset({WRITER}),
    MIRROR: frozenset({WRITER, MIRROR}),
    COURIER: frozenset({WRITER, MIRROR, COURIER}),
}


@dataclass(frozen=True, slots=True)
class Rights:
    """What an author may do at one point of its chain."""

    key: bytes
    roles: frozenset[str]
    scopes: tuple[str, ...]
    site: str
    reserved: tuple[Reserved, ...]  # those that bind it there: later ones do not reach back

    @classmethod
    def of(cls, entry: Member | Epoch, reserved: tuple[Reserved, ...]) -> Rights:
        """The rights that an entry gives."""
        return cls(entry.key, frozenset(entry.roles), entry.scopes, entry.site, reserved)


def covers(wider: str, narrower: str) -> bool:
    """Whether one glob surely matches all that another one does."""
    if wider in {"*", narrower}:
        return True
    prefix = wider.removesuffix("*")
    plain = not WILD & set(prefix) and len(prefix) == len(wider) - 1
    fixed = narrower
    for index, letter in enumerate(narrower):
        if letter in WILD:
            fixed = narrower[:index]
            break
    if plain:
        return fixed.startswith(prefix)
    return fixed == narrower and fnmatchcase(narrower, wider)


def covers_all(wider: Iterable[str], narrower: Iterable[str]) -> bool:
    """Whether each of the narrower globs lies within one of the wider."""
    patterns = list(wider)
    return all(any(covers(pattern, each) for pattern in patterns) for each in narrower)


def exceeds(delegate: Member, delegation: Delegation, member: Member) -> str:
    """Why a delegate may not admit such a member, or ""."""
    beyond = set(member.roles) - set(delegation.roles)
    beyond |= {role for role in member.roles if not NEEDS.get(role, frozenset()) & _roles(delegate)}
    if beyond or not member.roles:
        return f"it may not admit a {', '.join(sorted(beyond)) or 'node without a role'}"
    for scopes in (delegation.scopes, delegate.scopes):
        if not covers_all(scopes, member.scopes):
            return f"it may only open {', '.join(scopes) or 'nothing'}"
    if not any(fnmatchcase(member.site, pattern) for pattern in delegation.sites):
        return f"it may only admit nodes at {', '.join(delegation.sites) or 'no site'}"
    if member.joined > delegation.until:
        return "its delegation has expired"
    return ""


def _roles(member: Member) -> frozenset[str]:
    return frozenset(member.roles)


@dataclass(frozen=True, slots=True)
class Turned:
    """Where the rotations of one key lead: the key now, and what each one before vouches for."""

    key: bytes
    epochs: tuple[Epoch, ...]
    retired: frozenset[bytes]  # the keys before

    def past(self, pins: Iterable[Epoch]) -> list[Epoch]:
        """What a document pins of the member's chains and its keys vouch for, each in rising order.

        Owners who had not heard of a new key may have pinned what a thief wrote with the old one:
        no pin of a key that the document takes for the present one reaches beyond its end.  And no
        rights end below where they have ended before.
        """
        ends = {(epoch.key, epoch.incarnation): epoch for epoch in self.epochs}
        reach, found = dict[int, int](), list[Epoch]()
        for epoch in (*sorted(pins, key=_place), *self.epochs):
            if epoch.key in self.retired:
                end = ends.get((epoch.key, epoch.incarnation))
                if end is None:
                    continue
                if end.seq <= epoch.seq:
                    epoch = msgspec.structs.replace(epoch, seq=end.seq, record=end.record)
            if epoch.seq > reach.get(epoch.incarnation, 0):
                reach[epoch.incarnation] = epoch.seq
                found.append(epoch)
        return found


def _place(epoch: Epoch) -> tuple[int, int]:
    return epoch.incarnation, epoch.seq


def follow(member: Member, statements: Statements, version: int) -> Turned:
    """Follow a member's rotations from the key that the document gives it."""
    key, epochs, seen = member.key, list[Epoch](), {member.key}
    while rivals := statements.rotations.get((member.node, key), ()):
        for incarnation, (seq, record) in _common(rivals).items():
            epochs.append(
                Epoch(
                    member.node,
                    incarnation,
                    seq,
                    record,
                    key,
                    member.roles,
                    member.site,
                    member.scopes,
                    version,
                )
            )
        following = {rotation.new for rotation in rivals}
        key = following.pop() if len(following) == 1 else LOCKED
        if key in seen or len(seen) > CHAIN_MAX:  # a key that was given up never comes back
            key = LOCKED
        seen.add(key)
    return Turned(key, tuple(epochs), frozenset(seen - {key}))


def _common(rivals: Iterable[Rotation]) -> dict[int, tuple[int, bytes]]:
    """Where chains end under the old key, as far as all rotations of it agree."""
    found: dict[int, tuple[int, bytes]] | None = None
    for rotation in rivals:
        ends = {each.incarnation: (each.seq, each.record) for each in rotation.closings}
        if found is None:
            found = ends
        else:
            found = {life: min(found[life], ends[life]) for life in found.keys() & ends.keys()}
    return found or {}


class View:
    """One document with the statements that count under it, indexed by author."""

    def __init__(
        self,
        document: RootDocument,
        statements: Statements,
        reserved: Mapping[int, tuple[Reserved, ...]],
    ) -> None:
        self.document = document
        self.people: dict[str, Member] = {}  # as they are now: rotated keys, admitted nodes
        self.admitted: dict[str, str] = {}  # node → its delegate
        self.epochs: dict[tuple[str, int], list[tuple[Epoch, Rights]]] = {}
        self.pinned: dict[tuple[str, int], dict[int, bytes]] = {}  # by the owners themselves
        self._reserved = reserved
        self.evicted = {each.node: each for each in document.evicted}
        self._pins: dict[str, list[Epoch]] = {}
        for epoch in document.epochs:
            self.pinned.setdefault((epoch.node, epoch.incarnation), {})[epoch.seq] = epoch.record
            self._pins.setdefault(epoch.node, []).append(epoch)
        for member in document.members:
            self._add_member(member, statements)
        for delegation in document.delegations:
            for admission in statements.admissions.get(delegation.node, ()):
                self._admit(delegation, admission, statements)
        for node, pins in self._pins.items():
            if node not in self.people:
                self._add_past(sorted(pins, key=_place))
        self.members = {
            node: Rights.of(member, document.reserved) for node, member in self.people.items()
        }

    def _add_past(self, epochs: Iterable[Epoch]) -> None:
        for epoch in epochs:
            place = self.epochs.setdefault((epoch.node, epoch.incarnation), [])
            place.append((epoch, Rights.of(epoch, self._reserved.get(epoch.version, ()))))

    def _add_member(self, member: Member, statements: Statements) -> None:
        turned = follow(member, statements, self.document.version)
        self._add_past(turned.past(self._pins.get(member.node, ())))
        self.people[member.node] = msgspec.structs.replace(member, key=turned.key)

    def _admit(self, delegation: Delegation, admission: Admission, statements: Statements) -> None:
        member, delegate = admission.member, self.people[delegation.node]
        if (
            admission.key == delegate.key
            and 1 <= admission.number <= delegation.limit
            and member.node not in self.people
            and member.node not in self.evicted
            and not exceeds(delegate, delegation, member)
        ):
            self._add_member(member, statements)
            self.admitted[member.node] = delegation.node

    def rights(self, author: str, incarnation: int, seq: int) -> Rights | None:
        """What held when ``author`` wrote this, as far as the document tells."""
        for epoch, rights in self.epochs.get((author, incarnation), ()):
            if seq <= epoch.seq:
                return rights
        return self.members.get(author)

    def all_epochs(self) -> list[Epoch]:
        """The document's epochs and those of rotations."""
        return [epoch for place in self.epochs.values() for epoch, _ in place]

    def entries(self) -> list[Member | Epoch]:
        """Everybody it gives rights to, now or for the past, and the keys they began with."""
        return [*self.document.members, *self.people.values(), *self.all_epochs()]

    def about(self) -> dict[str, tuple[object, ...]]:
        """All that the view says, by node."""
        found: dict[str, list[object]] = {}
        for (node, incarnation), place in self.epochs.items():
            found.setdefault(node, []).append((incarnation, place))
        return {
            node: (self.members.get(node), found.get(node, ()))
            for node in self.members.keys() | found.keys()
        }
