"""Authority: may this author say this?  A pure function of root documents and a record.

Every node judges every record by the document its header names *and* by those in force, so a peer
can carry records but never create rights.  In force is every document that no other one replaces;
rivals all have to agree (design.md ruling 3).

Spec: docs/ledger.md, "Who may write what".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any

from store.facts import AUTHORITY, Cached, Fact, Publish, Setting
from store.records import Header, SignedHead
from store.root import ADMIN, MIRROR, OWNER, WRITER, Epoch, Member, RootDocument

UNKNOWN_ROOT = "it names a root document that is not known here"


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


@lru_cache(maxsize=65536)
def in_scope(scopes: tuple[str, ...], repository: str) -> bool:
    """Whether one of the globs names the repository."""
    return any(_glob(pattern).match(repository) for pattern in scopes)


@dataclass(frozen=True, slots=True)
class Rights:
    """What an author may do at one point of its chain."""

    key: bytes
    roles: frozenset[str]
    scopes: tuple[str, ...]
    site: str
    past: bool  # an epoch's: later reservations of names do not reach back

    @classmethod
    def of(cls, entry: Member | Epoch) -> Rights:
        """The rights that a root document's entry gives."""
        return cls(
            entry.key, frozenset(entry.roles), entry.scopes, entry.site, isinstance(entry, Epoch)
        )


class _View:
    """One document, indexed by author."""

    def __init__(self, document: RootDocument) -> None:
        self.document = document
        self.entries: tuple[Member | Epoch, ...] = (*document.members, *document.epochs)
        self.members = {member.node: Rights.of(member) for member in document.members}
        self.epochs: dict[tuple[str, int], list[tuple[Epoch, Rights]]] = {}
        for epoch in document.epochs:
            place = self.epochs.setdefault((epoch.node, epoch.incarnation), [])
            place.append((epoch, Rights.of(epoch)))

    def rights(self, author: str, incarnation: int, seq: int) -> Rights | None:
        """What held when ``author`` wrote this, as far as the document tells."""
        for epoch, rights in self.epochs.get((author, incarnation), ()):
            if seq <= epoch.seq:
                return rights
        return self.members.get(author)

    def about(self, node: str) -> tuple[object, ...]:
        """All that the document says about one node."""
        epochs = tuple(e for e in self.document.epochs if e.node == node)
        return (self.members.get(node), epochs, self.document.reserved)


class Authority:
    """The verified root documents of one mesh."""

    def __init__(self, mesh: str, documents: Mapping[bytes, RootDocument]) -> None:
        self.mesh = mesh
        self.documents = dict(documents)
        replaced = {id_ for document in documents.values() for id_ in document.previous}
        self._views = {id_: _View(document) for id_, document in documents.items()}
        self._active = [view for id_, view in self._views.items() if id_ not in replaced]
        self._versions: dict[int, list[_View]] = {}
        for view in self._views.values():
            self._versions.setdefault(view.document.version, []).append(view)
        self._keys: dict[str, set[bytes]] = {}
        for view in self._views.values():
            for entry in view.entries:
                self._keys.setdefault(entry.node, set()).add(entry.key)

    @property
    def version(self) -> int:
        """The newest version: what this node's own records name."""
        return max((view.document.version for view in self._active), default=0)

    @property
    def in_force(self) -> dict[bytes, RootDocument]:
        """The documents that nothing replaces.  More than one means rivals: settle them."""
        active = {id(view) for view in self._active}
        return {i: view.document for i, view in self._views.items() if id(view) in active}

    @property
    def newest(self) -> RootDocument:
        """The document in force with the highest version; among rivals the one created last."""
        documents = (view.document for view in self._active)
        return max(documents, key=lambda each: (each.version, each.created, each.nonce))

    @property
    def contested(self) -> bool:
        """Whether rival documents stand side by side."""
        return len(self._active) > 1

    def members(self) -> dict[str, Member]:
        """The members that every document in force lists; entries of the newest one."""
        active = sorted(self._active, key=lambda view: view.document.version)
        return {
            member.node: member
            for view in active
            for member in view.document.members
            if all(member.node in other.members for other in active)
        }

    def is_member(self, node: str) -> bool:
        """Whether a node belongs to the mesh now."""
        return bool(self._active) and all(node in view.members for view in self._active)

    def current_key(self, node: str) -> bytes | None:
        """The one key that a member signs and connects with now."""
        keys = {view.members[node].key for view in self._active if node in view.members}
        return keys.pop() if self.is_member(node) and len(keys) == 1 else None

    def roles(self, node: str) -> frozenset[str]:
        """The roles that a member has now, in every document in force."""
        if not self.is_member(node):
            return frozenset()
        return frozenset.intersection(*(view.members[node].roles for view in self._active))

    def nodes_at(self, home: str) -> frozenset[str]:
        """The nodes meant by a repository's ``home``: one node, or all that ever were at a site."""
        at_site = {
            entry.node
            for view in self._views.values()
            for entry in view.entries
            if home and entry.site == home
        }
        return frozenset(at_site | {home})

    def judge_head(self, head: SignedHead) -> str | None:
        """Why a head's key may not sign there, or None.  Not whether the signature is right."""
        if head.author not in self._keys:
            return "its author is not a member"
        for view in self._active:
            rights = view.rights(head.author, head.incarnation, head.seq)
            if rights is None:
                return "its author was removed"
            if rights.key != head.key:
                return "signed with a key that is not its author's"
        return None

    def pins(self, author: str, incarnation: int) -> dict[int, bytes]:
        """Record ids that documents in force pin for, by seq."""
        return {
            epoch.seq: epoch.record
            for view in self._active
            for epoch, _ in view.epochs.get((author, incarnation), ())
        }

    def judge(self, header: Header, facts: Iterable[Fact]) -> str | None:
        """Why a record does not count, or None.  UNKNOWN_ROOT may change when a document comes."""
        if header.mesh != self.mesh:
            return "written in another mesh"
        named = self._versions.get(header.root_version)
        if not named:
            return UNKNOWN_ROOT
        statements = list(facts)
        reasons = [_refusal(view, header, statements) for view in named]
        if None not in reasons:
            return reasons[0]
        if self._active == named and not self.contested:
            return None
        return next(filter(None, (_refusal(v, header, statements) for v in self._active)), None)

    def changed_authors(self, other: Authority) -> set[str]:
        """Authors about whom this authority and another one may disagree."""
        nodes = set(self._keys) | set(other._keys)
        return {
            node
            for node in nodes
            if [view.about(node) for view in self._active]
            != [view.about(node) for view in other._active]
        }


def _refusal(view: _View, header: Header, facts: list[Fact]) -> str | None:
    """Why one document refuses a record, or None."""
    rights = view.rights(header.author, header.incarnation, header.seq)
    if rights is None:
        return f"its author is not a member in root version {view.document.version}"
    for fact in facts:
        reason = _refuse_fact(view.document, rights, header.scope, fact)
        if reason:
            return f"{reason} (root version {view.document.version})"
    return None


def _refuse_fact(document: RootDocument, rights: Rights, scope: str, fact: Any) -> str | None:
    if type(fact) in AUTHORITY:
        return _refuse_setting(rights, fact)
    if WRITER not in rights.roles and not (type(fact) is Cached and MIRROR in rights.roles):
        return "its author may not write"
    if not in_scope(rights.scopes, scope):
        return f"its author may not write to {scope[:80]!r}"
    if document.reserved and type(fact) is Publish and not rights.past:
        for reserved in document.reserved:
            if (
                fact.package.startswith(reserved.prefix)
                and reserved.site != rights.site
                and in_scope((reserved.repositories,), scope)
            ):
                return f"names that begin with {reserved.prefix!r} belong to {reserved.site!r}"
    return None


def _refuse_setting(rights: Rights, fact: Setting) -> str | None:
    """Delegation only narrows: an administrator of some repositories shapes only those."""
    if not rights.roles & {ADMIN, OWNER}:
        return "its author may not administer"
    if "*" in rights.scopes:
        return None
    if fact.kind != "repository" or not in_scope(rights.scopes, fact.key):
        return f"its author may not administer {fact.kind[:40]} {fact.key[:80]!r}"
    return None
