"""Authority: may this author say this?  A pure function of root documents and a record.

Every node judges every record by the document its header names *and* by those in force, so a peer
can carry records but never create rights.  In force is every document that no other one replaces;
rivals all have to agree (design.md ruling 3).

Spec: docs/ledger.md, "Who may write what".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import lru_cache, reduce
from typing import Any

from store import settlement
from store.errors import RejectedError
from store.facts import AUTHORITY, Cached, Fact, Flag, Point, Publish, Setting, Used
from store.records import Header, SignedHead
from store.root import (
    ADMIN,
    MIRROR,
    OWNER,
    WRITER,
    Delegation,
    Epoch,
    Evicted,
    Member,
    Reserved,
    RootDocument,
)
from store.statements import (
    SUCCESSION_MAX,
    Statement,
    Statements,
    read_rotation,
    succeeds,
    succession_of,
)
from store.view import Rights, View

NAMED = (Publish, Point, Flag)  # facts that name a package
UNKNOWN_ROOT = "it names a root document that is not known here"


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


@lru_cache(maxsize=65536)
def in_scope(scopes: tuple[str, ...], repository: str) -> bool:
    """Whether one of the globs names the repository."""
    return any(_glob(pattern).match(repository) for pattern in scopes)


class Authority:
    """The verified root documents of one mesh, and what members have stated under them."""

    def __init__(
        self,
        mesh: str,
        documents: Mapping[bytes, RootDocument],
        statements: Iterable[Statement] = (),
        papers: Iterable[bytes] = (),
    ) -> None:
        """``papers`` are ids of statements and proposals, for ``digest`` alone."""
        self.mesh = mesh
        self.documents = dict(documents)
        self.statements = Statements.of(statements)
        replaced = {id_ for document in documents.values() for id_ in document.previous}
        reserved: dict[int, tuple[Reserved, ...]] = {}
        for document in documents.values():
            known = reserved.get(document.version, ())
            reserved[document.version] = (*known, *document.reserved)
        self._views = {
            id_: View(document, self.statements, reserved) for id_, document in documents.items()
        }
        active = {id_: d for id_, d in self.documents.items() if id_ not in replaced}
        self._in_force = settlement.in_order(active)
        self._active = [self._views[id_] for id_ in self._in_force]  # the newest last
        self._versions: dict[int, list[View]] = {}
        self._keys: dict[str, set[bytes]] = {}
        for view in self._views.values():
            self._versions.setdefault(view.document.version, []).append(view)
            for entry in view.entries():
                self._keys.setdefault(entry.node, set()).add(entry.key)
        parts = [*sorted(self.in_force), *sorted(papers)]
        self.digest = hashlib.sha256(b"".join(parts)).digest()

    @property
    def version(self) -> int:
        """The newest version: what this node's own records name."""
        return max((view.document.version for view in self._active), default=0)

    @property
    def in_force(self) -> dict[bytes, RootDocument]:
        """The documents that nothing replaces, newest last.  Several are rivals: settle them."""
        return dict(self._in_force)

    @property
    def newest(self) -> RootDocument:
        """The document in force with the highest version; among rivals the one created last."""
        return self._active[-1].document

    @property
    def contested(self) -> bool:
        """Whether rival documents stand side by side."""
        return len(self._active) > 1

    def members(self) -> dict[str, Member]:
        """The members that every document in force lists; entries of the newest one."""
        return {
            node: member
            for view in self._active
            for node, member in view.people.items()
            if all(node in other.members for other in self._active)
        }

    def is_member(self, node: str) -> bool:
        """Whether a node belongs to the mesh now."""
        return bool(self._active) and all(node in view.members for view in self._active)

    def current_key(self, node: str) -> bytes | None:
        """The one key that a member signs and connects with now; None while two claim to be it."""
        keys = {view.members[node].key for view in self._active if node in view.members}
        return (keys.pop() or None) if self.is_member(node) and len(keys) == 1 else None

    def knows_key(self, node: str, key: bytes) -> bool:
        """Whether any document or statement has ever given a node this key."""
        made = self.statements.rotation_to(node, key) is not None
        return made or key in self._keys.get(node, ())

    def retired(self, node: str, key: bytes) -> bool:
        """Whether a node has given this key up for another."""
        return (node, key) in self.statements.rotations and self.current_key(node) != key

    def succession(self, node: str) -> tuple[bytes, ...]:
        """How a node's keys followed each other, for those who know an older one."""
        key, found = self.current_key(node), list[bytes]()
        before = {
            r.new: r for rs in self.statements.rotations.values() for r in rs if r.node == node
        }
        while key in before and len(found) < SUCCESSION_MAX:
            rotation = before.pop(key)
            found.append(succession_of(rotation))
            key = rotation.old
        return tuple(reversed(found))

    def follows(self, node: str, shown: Iterable[bytes], key: bytes) -> bool:
        """Whether rotations that a peer shows lead from a member's key as known here to ``key``."""
        current = self.current_key(node)
        try:
            for rotation in map(read_rotation, shown):
                if rotation.old == current and succeeds(rotation, self.mesh, node):
                    current = rotation.new
        except RejectedError:
            return False
        return current is not None and current == key

    def evicted(self) -> dict[str, Evicted]:
        """The nodes that any document in force shuts out for good."""
        return {node: each for view in self._active for node, each in view.evicted.items()}

    def admitted(self) -> dict[str, str]:
        """Members whom no owner has signed in, and the delegate who did."""
        return {node: by for view in self._active for node, by in view.admitted.items()}

    def delegation(self, node: str) -> Delegation | None:
        """What a member may admit; None when it may admit nobody, or rivals disagree."""
        found = [
            next((d for d in view.document.delegations if d.node == node), None)
            for view in self._active
        ]
        return found[0] if found and all(each == found[0] for each in found) else None

    def epochs(self) -> list[Epoch]:
        """All that documents in force and rotations vouch for of the past."""
        return list(dict.fromkeys(e for view in self._active for e in view.all_epochs()))

    def vouched(self) -> list[Epoch]:
        """What the next document may vouch for of the past: of rivals, what all of them give."""
        return settlement.agreed_epochs(self._active)

    def branched(self) -> dict[tuple[str, int], int]:
        """Where documents in force pin different records first, by author and incarnation."""
        return settlement.branched(self._active)

    def present(self) -> list[Member]:
        """The members and what they may do now, by all documents in force."""
        return settlement.agreed_people(self._active)

    def entries(self, node: str, documents: Iterable[bytes] | None = None) -> list[Member]:
        """What documents, by default all in force, give a node now; the newest last."""
        ids = self._in_force if documents is None else documents
        views = [self._views[id_].people for id_ in ids]
        return [people[node] for people in views if node in people]

    def people(self) -> dict[str, Member]:
        """The members that any document in force lists and none evicts, for drafting the next.

        With what those that list them all give, and the key LOCKED where they name different ones.
        """
        listed = dict.fromkeys(node for view in self._active for node in view.people)
        out = self.evicted()
        return {
            node: reduce(settlement.meet, reversed(self.entries(node)))
            for node in listed
            if node not in out
        }

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
            for entry in view.entries()
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

    def settled(self, author: str, incarnation: int) -> int:
        """Up to which seq the owners chose one branch of an evicted author's chain; 0: none."""
        if author not in self.evicted():
            return 0
        views = (view.pinned.get((author, incarnation), {}) for view in self._active)
        return max((seq for pinned in views for seq in pinned), default=0)

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

    def _about(self) -> list[dict[str, tuple[object, ...]]]:
        return [view.about() for view in self._active]

    def changed_authors(self, other: Authority) -> set[str]:
        """Authors about whom this authority and another one may disagree."""
        ours, theirs = self._about(), other._about()
        nodes = {node for about in (*ours, *theirs) for node in about}
        return {
            node
            for node in nodes
            if [about.get(node) for about in ours] != [about.get(node) for about in theirs]
        }


def _refusal(view: View, header: Header, facts: list[Fact]) -> str | None:
    """Why one document refuses a record, or None."""
    rights = view.rights(header.author, header.incarnation, header.seq)
    if rights is None:
        return f"its author is not a member in root version {view.document.version}"
    for fact in facts:
        if type(fact) is Used and fact.node != header.author:
            return "its author counts for another node"
        reason = _refuse_fact(rights, header.scope, fact)
        if reason:
            return f"{reason} (root version {view.document.version})"
    return None


def _refuse_fact(rights: Rights, scope: str, fact: Any) -> str | None:
    if type(fact) in AUTHORITY:
        return _refuse_setting(rights, fact)
    mirrors = type(fact) in (Cached, Used) and MIRROR in rights.roles
    if WRITER not in rights.roles and not mirrors:
        return "its author may not write"
    if not in_scope(rights.scopes, scope):
        return f"its author may not write to {scope[:80]!r}"
    for reserved in rights.reserved:
        if reserved.site != rights.site and _reserves(reserved, scope, fact):
            if reserved.prefix:
                return f"names that begin with {reserved.prefix!r} belong to {reserved.site!r}"
            return f"{scope[:80]!r} is written at {reserved.site!r} only"
    return None


def _reserves(reserved: Reserved, scope: str, fact: Any) -> bool:
    """Whether a reservation is about what a fact says; a whole repository's is about them all."""
    if not in_scope((reserved.repositories,), scope) or type(fact) in (Cached, Used):
        return False
    if not reserved.prefix:
        return True
    return isinstance(fact, NAMED) and fact.package.startswith(reserved.prefix)


def _refuse_setting(rights: Rights, fact: Setting) -> str | None:
    """Delegation only narrows: an administrator of some repositories shapes only those."""
    if not rights.roles & {ADMIN, OWNER}:
        return "its author may not administer"
    if "*" in rights.scopes:
        return None
    if fact.kind != "repository" or not in_scope(rights.scopes, fact.key):
        return f"its author may not administer {fact.kind[:40]} {fact.key[:80]!r}"
    return None
