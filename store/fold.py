"""The fold: from claims to the catalog.  Pure, and the same for every order of arrival.

A *claim* is one fact of one valid record, about one *cell*: a file coordinate, a pointer, a flag or
a setting.  ``resolve`` computes a cell's state from the set of all its claims; nothing else decides
anything, so two nodes with the same valid records have the same catalog.

Rules: design.md rulings 9 and 10, mesh.md B.7; docs/ledger.md explains them with examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from store.facts import (
    Cached,
    Confirm,
    Delete,
    Fact,
    File,
    Flag,
    Point,
    Publish,
    Resolve,
    Restore,
    Setting,
    Used,
)

FILE, POINTER, FLAG, SETTING, USE = "fpmsu"  # first character of a cell's key
CARRIERS = (Publish, Cached)  # facts that bring files


class Claim(NamedTuple):
    """One statement about a cell.  Publish and Cached claims hold exactly one file."""

    record: bytes
    ordinal: int
    hlc: int
    author: str
    fact: Any  # a Fact: which fields it has follows from its cell

    @property
    def order(self) -> tuple[int, bytes, int]:
        """First come, first: by time, then by id."""
        return (self.hlc, self.record, self.ordinal)

    @property
    def recency(self) -> tuple[int, str, bytes, int]:
        """Last writer: by time, then by author, then by id."""
        return (self.hlc, self.author, self.record, self.ordinal)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a repository's settings and the root document add to its claims.

    ``homes`` are the sites whose word orders rivals, the present one first, then those before it;
    each as the set of its nodes.  Empty: ``home: none``.
    """

    homes: tuple[frozenset[str], ...] = ()

    def rank(self, author: str) -> int | None:
        """How far an author's word as a home counts; 0 most, None not at all."""
        return next((rank for rank, nodes in enumerate(self.homes) if author in nodes), None)


NO_RULES = Rules()


class FileState(NamedTuple):
    """A visible file, a burnt coordinate, or both."""

    winner: Claim | None  # its fact is a Publish or Cached with one file
    mutable: bool = False
    pending: bool = False
    conflicted: bool = False
    burnt: str = ""  # the digest that a deleted coordinate still takes, "" if it is not deleted
    tombstones: tuple[bytes, ...] = ()
    hlc: int = 0  # of the newest tombstone


class RegisterState(NamedTuple):
    """The current values of a pointer, flag or setting.  ``value`` of None: it reads as absent."""

    value: bytes | None
    siblings: tuple[bytes, ...]
    records: tuple[bytes, ...]  # of every current claim, removals included; what a write supersedes
    hlc: int


# --- cells --------------------------------------------------------------------------------------
def cell_key(kind: str, *parts: str) -> str:
    """A cell's key.  Lengths before the parts, so that no two cells share one."""
    lengths = "".join(f"{len(part)}:" for part in parts[:-1])
    return f"{kind}{lengths}{''.join(parts)}"


def file_cell(repository: str, path: str) -> str:
    """The cell of a file coordinate."""
    return f"{FILE}{len(repository)}:{repository}{path}"


def use_cell(repository: str, package: str, version: str, node: str) -> str:
    """The cell of what one node counts of a version."""
    return cell_key(USE, repository, node, package, version)


def cells_of(fact: Any) -> list[tuple[str, Any]]:
    """The cells that a fact speaks about, each with the part of the fact that concerns it."""
    kind = type(fact)
    if kind in CARRIERS:
        files = fact.files
        if len(files) == 1:
            return [(file_cell(fact.repository, files[0].path), fact)]
        parts = [(each, msgspec.structs.replace(fact, files=(each,))) for each in files]
        return [(file_cell(fact.repository, each.path), part) for each, part in parts]
    if kind is Point:
        return [(cell_key(POINTER, fact.repository, fact.package, fact.name), fact)]
    if kind is Flag:
        parts_of = (fact.repository, fact.package, fact.version, fact.path, fact.name)
        return [(cell_key(FLAG, *parts_of), fact)]
    if kind is Setting:
        return [(cell_key(SETTING, fact.kind, fact.key), fact)]
    if kind is Used:
        place, alone = fact.repository, msgspec.structs.replace
        return [
            (use_cell(place, use.package, use.version, fact.node), alone(fact, uses=(use,)))
            for use in fact.uses
        ]
    return [(file_cell(fact.repository, fact.path), fact)]


def cell_keys(fact: Fact) -> list[str]:
    """The keys of the cells that a fact speaks about."""
    return [cell for cell, _ in cells_of(fact)]


# --- files --------------------------------------------------------------------------------------
def file_of(claim: Claim) -> File:
    """The one file of a Publish or Cached claim."""
    file: File = claim.fact.files[0]
    return file


def resolve_file(claims: Sequence[Claim], rules: Rules = NO_RULES) -> FileState:
    """The state of a file coordinate."""
    if len(claims) == 1 and isinstance(claims[0].fact, Publish):  # nearly every file there is
        only = claims[0]
        mutable = only.fact.mutable
        pending = bool(rules.homes) and not mutable and rules.rank(only.author) is None
        return FileState(only, mutable, pending)
    tombstones = _standing_tombstones(claims)
    hidden = {id_ for claim in tombstones for id_ in claim.fact.seen}
    published = [claim for claim in claims if isinstance(claim.fact, Publish)]
    released = [claim for claim in published if not claim.fact.mutable]
    live = [claim for claim in released if claim.record not in hidden]
    burnt = min((c for c in released if c.record in hidden), key=_order, default=None)
    state: dict[str, Any] = {
        "burnt": file_of(burnt).digest if burnt else "",
        "tombstones": tuple(sorted(claim.record for claim in tombstones)) if burnt else (),
        "hlc": max((claim.hlc for claim in tombstones), default=0) if burnt else 0,
    }
    if live:
        return _released(claims, live, state, rules)
    revisions = [c for c in published if c.fact.mutable] or [
        claim for claim in claims if isinstance(claim.fact, Cached)
    ]
    newest = max(revisions, key=_recency, default=None)
    if newest is not None and newest.record in hidden:
        newest = None  # what the deleted revision had replaced stays replaced
    return FileState(newest, mutable=newest is not None, **state)


def _released(
    claims: Sequence[Claim], live: Sequence[Claim], state: dict[str, Any], rules: Rules
) -> FileState:
    """Choose among immutable publishes: operator, then home, then who came first."""
    rivals = {file_of(claim).digest for claim in live}
    resolved = _resolution(claims, rivals)
    home = _home_word(claims, live, rules)
    digest = resolved[0] if resolved else home
    if digest is None:
        digest = file_of(min(live, key=_order)).digest
    winner = min((c for c in live if file_of(c).digest == digest), key=_order)
    contenders = rivals | ({state["burnt"]} if state["burnt"] else set())
    settled = resolved is not None and all(
        claim.record in resolved[1] or file_of(claim).digest == digest for claim in live
    )
    return FileState(
        winner,
        pending=bool(rules.homes) and not resolved and home is None,
        conflicted=len(contenders) > 1 and not settled,
        **state,
    )


def standing(claims: Sequence[Claim]) -> list[Claim]:
    """Publishes of a coordinate that no tombstone hides, whichever of them wins."""
    hidden = {id_ for claim in _standing_tombstones(claims) for id_ in claim.fact.seen}
    return [c for c in claims if isinstance(c.fact, CARRIERS) and c.record not in hidden]


def _standing_tombstones(claims: Sequence[Claim]) -> list[Claim]:
    """Deletes that no restore has undone."""
    undone = {id_ for claim in claims if isinstance(claim.fact, Restore) for id_ in claim.fact.seen}
    return [c for c in claims if isinstance(c.fact, Delete) and c.record not in undone]


def _resolution(claims: Sequence[Claim], rivals: set[str]) -> tuple[str, frozenset[bytes]] | None:
    """The newest operator's word that names a digest which is there, and what it had seen."""
    words = [c for c in claims if isinstance(c.fact, Resolve) and c.fact.digest in rivals]
    newest = max(words, key=_recency, default=None)
    if newest is None or not isinstance(newest.fact, Resolve):
        return None
    return newest.fact.digest, frozenset(newest.fact.seen)


def _home_word(claims: Sequence[Claim], live: Sequence[Claim], rules: Rules) -> str | None:
    """The digest that the home confirmed, or published itself, first."""
    if not rules.homes:
        return None
    digests = {claim.record: file_of(claim).digest for claim in live}
    words: list[tuple[int, tuple[int, bytes, int], str]] = []
    for claim in claims:
        rank = rules.rank(claim.author)
        named = claim.fact.record if isinstance(claim.fact, Confirm) else claim.record
        if rank is not None and named in digests:
            words.append((rank, claim.order, digests[named]))
    return min(words)[2] if words else None


def _order(claim: Claim) -> tuple[int, bytes, int]:
    return claim.order


def _recency(claim: Claim) -> tuple[int, str, bytes, int]:
    return claim.recency


# --- registers ----------------------------------------------------------------------------------
def latest(claims: Iterable[Claim]) -> dict[bytes, Claim]:
    """Of each record its last claim about a register."""
    last: dict[bytes, Claim] = {}
    for claim in claims:
        held = last.get(claim.record)
        if held is None or held.ordinal < claim.ordinal:
            last[claim.record] = claim
    return last


def _current(claims: Iterable[Claim]) -> list[Claim]:
    """Claims that no other claim has superseded."""
    last = latest(claims)
    superseded = {id_ for claim in last.values() for id_ in claim.fact.seen}
    current = [claim for claim in last.values() if claim.record not in superseded]
    return current or list(last.values())  # a circle would take a broken hash; stay total


def _register(chosen: Claim, current: Sequence[Claim]) -> RegisterState:
    value: bytes | None = chosen.fact.value
    others = {claim.fact.value for claim in current} - {value, None}
    return RegisterState(
        value,
        tuple(sorted(other for other in others if other is not None)),
        tuple(sorted(claim.record for claim in current)),
        chosen.hlc,
    )


def resolve_pointer(claims: Sequence[Claim]) -> RegisterState:
    """The state of a pointer: the last writer's value, what is concurrent with it beside it."""
    current = _current(claims)
    return _register(max(current, key=_recency), current)


def resolve_flag(claims: Sequence[Claim]) -> RegisterState:
    """The state of a flag: set, unless every setting of it was seen by who cleared it."""
    current = _current(claims)
    adds = [claim for claim in current if claim.fact.value is not None]
    return _register(max(adds or current, key=_recency), current)


def resolve_setting(claims: Sequence[Claim]) -> RegisterState:
    """The state of a setting: among concurrent values the narrower, then the last writer's."""
    current = _current(claims)
    return _register(max(current, key=lambda claim: (_narrowness(claim), *claim.recency)), current)


def resolve_use(claims: Sequence[Claim]) -> Claim:
    """The claim with the highest total: totals only grow, whatever order they arrive in."""
    return max(claims, key=lambda claim: (use_of(claim)[2:], claim.recency))


def use_of(claim: Claim) -> tuple[str, str, int, int]:
    """The one use of a Used claim: package, version, downloads, last."""
    (use,) = claim.fact.uses
    return use.package, use.version, use.downloads, use.last


def _narrowness(claim: Claim) -> int:
    """2 for a removal, 1 for a value that switches itself off, 0 for a live one."""
    value: bytes | None = claim.fact.value
    if value is None:
        return 2
    document = read_value(value)
    off = document.get("disabled") is True or document.get("revoked") is True
    return 1 if off or document.get("is_active") is False else 0


def read_value(value: bytes) -> dict[str, Any]:
    """A setting's JSON object; anything else reads as empty."""
    try:
        document = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def resolve(
    cell: str, claims: Sequence[Claim], rules: Rules = NO_RULES
) -> FileState | RegisterState | Claim:
    """The state of any cell that has a claim; of a use, the claim that counts."""
    kind = cell[0]
    if kind == USE:
        return resolve_use(claims)
    if kind == FILE:
        return resolve_file(claims, rules)
    if kind == POINTER:
        return resolve_pointer(claims)
    return resolve_flag(claims) if kind == FLAG else resolve_setting(claims)
