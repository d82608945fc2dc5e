"""Who had a right to what: computed again from the signed papers, by nothing of the product's.

Reads documents, statements and records as plain MessagePack arrays, as docs/ledger.md §1 and §4
describe them, and judges them by rules written from that page: slow, short, and without the
product's ``root``, ``authority``, ``view`` or ``statements``.  What a node counts must lie within
this, at every moment and whatever order its papers came in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

import store.identity

Array = list[Any]
Past = tuple[str, int, int, bytes, "Entry"]  # node, incarnation, seq, record, what held up to there
DOCUMENT = (
    *("tag", "mesh", "version", "previous", "owners", "threshold", "members", "epochs"),
    *("reserved", "created", "nonce", "delegations", "evicted"),
)
SETTING, CACHED = 8, 9  # facts
ROTATION, ADMISSION = 6, 7  # statements
WRITES = {"writer": {"writer"}, "mirror": {"writer", "mirror"}}
WRITES["courier"] = WRITES["mirror"] | {"courier"}


def read(data: bytes) -> Array:
    """Decode a message."""
    found: Array = msgspec.msgpack.decode(data)
    return found


def encode(value: object) -> bytes:
    """Encode what a signature covers."""
    return msgspec.msgpack.encode(value)


class Unlawful(AssertionError):  # noqa: N818  it is a finding, not an error of ours
    """A paper that its signers had no right to make."""


class Entry(NamedTuple):
    """What somebody may do: as a member, or for a part of its past."""

    node: str
    key: bytes
    roles: frozenset[str]
    scopes: tuple[str, ...]
    site: str

    def within(self, other: Entry | tuple[frozenset[str], tuple[str, ...]]) -> bool:
        """Tell whether this gives nothing that the other does not."""
        roles, scopes = other[2:4] if isinstance(other, Entry) else other
        return self.roles <= roles and all(any(_covers(w, s) for w in scopes) for s in self.scopes)


class Line(NamedTuple):
    """One record: whose, which, and what its author needed."""

    author: str
    incarnation: int
    seq: int
    version: int
    scope: str
    facts: tuple[tuple[int, str, str], ...]  # tag; kind and key of a setting


def line_of(header: bytes, body: bytes | None) -> Line:
    """Read a record."""
    fields = read(header)
    facts = read(body)[1] if body is not None else []
    needs = tuple((f[0], f[1], f[2]) if f[0] == SETTING else (f[0], "", "") for f in facts)
    return Line(fields[1], fields[2], fields[3], fields[7], fields[9], needs)


def _covers(wide: str, narrow: str) -> bool:
    return wide in {"*", narrow} or (wide.endswith("*") and narrow.startswith(wide[:-1]))


def _member(fields: Array) -> Entry:
    return Entry(fields[0], fields[1], frozenset(fields[3]), tuple(fields[5]), fields[4])


class Document:
    """A signed root document."""

    def __init__(self, data: bytes) -> None:
        _, text, self.signatures = read(data)
        self.id = hashlib.sha256(text).digest()
        self.text = text
        fields = dict(zip(DOCUMENT, read(text), strict=False))
        self.version: int = fields["version"]
        self.previous: Array = fields["previous"]
        self.owners, self.threshold = set(fields["owners"]), fields["threshold"]
        self.members = {m[0]: _member(m) for m in fields["members"]}
        self.delegations: Array = fields.get("delegations", [])
        self.evicted = {each[0] for each in fields.get("evicted", [])}
        self.epochs: list[Past] = [
            (e[0], e[1], e[2], e[3], Entry(e[0], e[4], frozenset(e[5]), tuple(e[7]), e[6]))
            for e in fields["epochs"]
        ]

    def signers(self) -> set[bytes]:
        """Return whose signatures are right."""
        said = encode(["atoll root 1", self.text])
        verify = store.identity.verify
        return {key for key, value in self.signatures if verify(key, said, value)}


class Law:
    """The papers of one node, judged together.  Raises Unlawful."""

    def __init__(self, mesh: str, roots: Iterable[bytes], statements: Iterable[bytes]) -> None:
        found = [Document(data) for data in roots]
        self.documents = {each.id: each for each in found}
        self.rotations: dict[tuple[str, bytes], list[Array]] = {}
        self.admissions: dict[str, list[Array]] = {}
        self._verify(mesh)
        for data in statements:
            self._state(read(data), data)
        replaced = {id_ for each in found for id_ in each.previous}
        self.in_force = [each for each in found if each.id not in replaced]
        self.version = max(each.version for each in self.in_force)
        self._entries = {each.id: self._members(each) for each in found}
        self._past = {each.id: self._pasts(each) for each in found}

    @property
    def evicted(self) -> set[str]:
        """The nodes that a document in force shuts out."""
        return {node for each in self.in_force for node in each.evicted}

    def everybody(self) -> list[Entry]:
        """Return all that any document, or statement under it, has ever given to anybody."""
        return [entry for about in self._entries.values() for entry in about.values()]

    # --- papers --------------------------------------------------------------------------------
    def _verify(self, mesh: str) -> None:
        """Every document has its quorum, forgets no eviction and drops no member in silence."""
        for each in self.documents.values():
            before = [self.documents.get(id_) for id_ in each.previous]
            if not before:
                if each.id.hex() != mesh or len(each.signers() & each.owners) < each.threshold:
                    raise Unlawful("a founding document that is not this mesh's")
                continue
            for older in before:
                if older is None:
                    raise Unlawful("a document that replaces an unknown one")
                if len(each.signers() & older.owners) < older.threshold:
                    raise Unlawful(f"a document of version {each.version} without its quorum")
                if older.evicted - each.evicted:
                    raise Unlawful(f"version {each.version} forgets who was evicted")
                if older.members.keys() - each.members.keys() - each.evicted:
                    raise Unlawful(f"version {each.version} drops members in silence")
            if each.members.keys() & each.evicted:
                raise Unlawful(f"version {each.version} lists who was evicted")

    def _state(self, fields: Array, data: bytes) -> None:
        """Keep a statement, if whoever made it could."""
        verify = store.identity.verify
        if fields[0] == ROTATION:
            said = encode(["atoll rotation 1", *fields[1:7]])
            _, _, node, old, new = fields[:5]
            if not (verify(old, said, fields[7]) and verify(new, said, fields[8])):
                raise Unlawful("a rotation that one of its keys did not sign")
            self.rotations.setdefault((node, old), []).append(fields)
        elif fields[0] == ADMISSION:
            said = encode(["atoll admission 1", *fields[1:5]])
            if not verify(fields[5], said, fields[6]):
                raise Unlawful("an admission that its delegate did not sign")
            self.admissions.setdefault(fields[2], []).append([*fields, data])

    # --- rights --------------------------------------------------------------------------------
    def _turned(self, entry: Entry) -> tuple[Entry, list[Past], set[bytes]]:
        """Follow a member's keys: what it is now, what each before vouches for, and those keys."""
        past: list[Past] = []
        known = {entry.key}
        while rivals := self.rotations.get((entry.node, entry.key)):
            ends = [{c[0]: (c[1], c[2]) for c in each[9]} for each in rivals]
            for life in set.intersection(*(set(each) for each in ends)):
                seq, record = min(each[life] for each in ends)
                past.append((entry.node, life, seq, record, entry))
            new = {each[4] for each in rivals}
            key = new.pop() if len(new) == 1 else b""
            entry = entry._replace(key=b"" if key in known else key)
            known.add(key)
        return entry, past, known - {entry.key}

    def _members(self, document: Document) -> dict[str, Entry]:
        found = {node: self._turned(entry)[0] for node, entry in document.members.items()}
        for node, roles, scopes, sites, until, limit in document.delegations:
            delegate = found[node]
            given = sorted(self.admissions.get(node, []), key=lambda a: (a[3], a[-2]))
            for each in given:
                member = _member(each[4])
                if (
                    each[5] == delegate.key
                    and 1 <= each[3] <= limit
                    and member.node not in document.evicted | found.keys()
                    and member.within((frozenset(roles), tuple(scopes)))
                    and member.within((delegate.roles | member.roles, delegate.scopes))
                    and all(WRITES[role] & delegate.roles for role in member.roles)
                    and any(fnmatchcase(member.site, pattern) for pattern in sites)
                    and each[4][7] <= until
                ):
                    found[member.node] = self._turned(member)[0]
        return found

    def _pasts(self, document: Document) -> dict[tuple[str, int], list[tuple[int, Entry]]]:
        people = dict(document.members)
        for node, given in self.admissions.items():
            if any(each[0] == node for each in document.delegations):
                admitted = {each[4][0]: _member(each[4]) for each in given}
                counted = self._entries[document.id]
                people |= {
                    who: entry
                    for who, entry in admitted.items()
                    if who in counted and who not in document.members
                }
        said = [each for each in document.epochs if each[0] not in people]
        for entry in people.values():
            said += self._past_of(entry, [e for e in document.epochs if e[0] == entry.node])
        found: dict[tuple[str, int], list[tuple[int, Entry]]] = {}
        for node, life, seq, _, entry in said:
            found.setdefault((node, life), []).append((seq, entry))
        return {place: sorted(about, key=lambda e: e[0]) for place, about in found.items()}

    def _past_of(self, entry: Entry, pinned: list[Past]) -> list[Past]:
        """Let a member's keys end where it says, whatever owners pinned who did not know of it.

        Rights that end below where rights have ended already are none.
        """
        _, turned, gone = self._turned(entry)
        ends = {(old.key, life): seq for _, life, seq, _, old in turned}
        found: list[Past] = []
        for node, life, seq, record, old in [*sorted(pinned, key=lambda e: e[1:3]), *turned]:
            last = min(seq, ends.get((old.key, life), 0)) if old.key in gone else seq
            if all(each[2] < last for each in found if each[1] == life) and last:
                found.append((node, life, last, record, old))
        return found

    def entry(self, document: Document, author: str, incarnation: int, seq: int) -> Entry | None:
        """Return what held when ``author`` wrote this, as far as one document tells."""
        for end, entry in self._past[document.id].get((author, incarnation), ()):
            if seq <= end:
                return entry
        return self._entries[document.id].get(author)

    def closed(self, member: str) -> dict[int, int]:
        """Return up to where all in force vouch for a member's chains under keys it gave up."""
        found = []
        for each in self.in_force:
            now = self._entries[each.id].get(member)
            pasts = self._past[each.id].items()
            if now is not None:
                ends = {place: [s for s, e in past if e.key != now.key] for place, past in pasts}
                found.append({p[1]: max(e) for p, e in ends.items() if p[0] == member and e})
        lives = set.intersection(*map(set, found)) if found else set()
        return {life: min(each[life] for each in found) for life in lives}

    def checkpointed(self, author: str, incarnation: int, seq: int, key: bytes) -> bool:
        """Tell whether owners who evicted a node chose to keep what was signed with a key there."""
        out = [each for each in self.in_force if author in each.evicted]
        entries = [self.entry(each, author, incarnation, seq) for each in out]
        return any(entry is not None and entry.key == key for entry in entries)

    def allows(self, line: Line) -> bool:
        """Tell whether a record counts: by a document of its version, and by all in force."""
        named = [each for each in self.documents.values() if each.version == line.version]
        return any(self._gives(each, line) for each in named) and all(
            self._gives(each, line) for each in self.in_force
        )

    def _gives(self, document: Document, line: Line) -> bool:
        entry = self.entry(document, line.author, line.incarnation, line.seq)
        return entry is not None and all(_may(entry, line.scope, fact) for fact in line.facts)

    def signs(self, author: str, incarnation: int, seq: int, key: bytes) -> bool:
        """Tell whether a key may end a chain there; where its author is out, nobody asks."""
        entries = [self.entry(each, author, incarnation, seq) for each in self.in_force]
        return any(entry is None for entry in entries) or all(
            entry is not None and entry.key == key for entry in entries
        )


def _may(entry: Entry, scope: str, fact: tuple[int, str, str]) -> bool:
    tag, kind, key = fact
    if tag == SETTING:
        own = kind == "repository" and any(fnmatchcase(key, each) for each in entry.scopes)
        return bool(entry.roles & {"admin", "owner"}) and ("*" in entry.scopes or own)
    writes = "writer" in entry.roles or (tag == CACHED and "mirror" in entry.roles)
    return writes and any(fnmatchcase(scope, each) for each in entry.scopes)
