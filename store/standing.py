"""How each author stands with this node, for ``atoll mesh peers``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa

from store.applying import Outcome
from store.authority import Authority
from store.chain import HELD, REFUSED
from store.schema import forks, records

AUTHORS_MAX = 10_000  # chains whose rejected batches are remembered
REASONS_MAX = 8  # reasons shown per chain
FORKS = sa.select(forks.c.author, forks.c.incarnation, sa.func.min(forks.c.seq)).group_by(
    forks.c.author, forks.c.incarnation
)


@dataclass(slots=True)
class AuthorStatus:
    """One chain.  ``reasons`` are texts with how many records each concerns."""

    author: str
    incarnation: int
    name: str = ""
    member: bool = False
    seq: int = 0
    record: bytes = b""
    hlc: int = 0
    held: int = 0
    refused: int = 0
    forked: int | None = None  # the seq from which nothing counts
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    rejected: str = ""  # why the last batch that was not taken at all was not
    rejected_count: int = 0
    rejected_at: float = 0.0  # seconds since 1970


Standing = dict[tuple[str, int], AuthorStatus]


def forks_of(connection: sa.Connection) -> dict[tuple[str, int], int]:
    """Where chains fork, if they do."""
    return {(a, incarnation): seq for a, incarnation, seq in connection.execute(FORKS)}


def read_standing(connection: sa.Connection) -> Standing:
    """Every chain that is known here."""
    found: Standing = {}
    ends = (
        sa.select(records.c.author, records.c.incarnation, sa.func.max(records.c.seq).label("seq"))
        .group_by(records.c.author, records.c.incarnation)
        .subquery()
    )
    query = sa.select(
        records.c.author, records.c.incarnation, records.c.seq, records.c.id, records.c.hlc
    ).join(
        ends,
        sa.and_(
            records.c.author == ends.c.author,
            records.c.incarnation == ends.c.incarnation,
            records.c.seq == ends.c.seq,
        ),
    )
    for author, incarnation, seq, record, hlc in connection.execute(query):
        status = AuthorStatus(author, incarnation, seq=seq, record=bytes(record), hlc=hlc)
        found[author, incarnation] = status
    _count_reasons(connection, found)
    for key, seq in forks_of(connection).items():
        found.setdefault(key, AuthorStatus(*key)).forked = seq
    return found


def _count_reasons(connection: sa.Connection, found: Standing) -> None:
    number = sa.func.count()
    grouping = (records.c.author, records.c.incarnation, records.c.status, records.c.reason)
    query = sa.select(*grouping, number).where(records.c.status.in_((HELD, REFUSED)))
    counted = query.group_by(*grouping).order_by(number.desc())
    for author, incarnation, status, reason, count in connection.execute(counted):
        chain = found.setdefault((author, incarnation), AuthorStatus(author, incarnation))
        if status == HELD:
            chain.held += count
        else:
            chain.refused += count
        if len(chain.reasons) < REASONS_MAX:
            chain.reasons[reason] = count


class Rejections:
    """Batches that were not taken at all: nothing of them is stored, so this remembers."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[str, int, float]] = {}

    def note(self, outcomes: Iterable[Outcome], now: float) -> None:
        """Remember what was refused.  Gaps are normal and not counted."""
        for outcome in outcomes:
            if outcome.refused and not outcome.refused.startswith("a gap"):
                key = (outcome.author, outcome.incarnation)
                count = self._known.pop(key, ("", 0, 0.0))[1]
                self._known[key] = (outcome.refused, count + 1, now)
                if len(self._known) > AUTHORS_MAX:
                    del self._known[next(iter(self._known))]

    def merge(self, found: Standing, authority: Authority) -> list[AuthorStatus]:
        """The whole picture, in order of author and incarnation."""
        for key, (reason, count, at) in self._known.items():
            status = found.setdefault(key, AuthorStatus(*key))
            status.rejected, status.rejected_count, status.rejected_at = reason, count, at
        members = authority.members()
        for status in found.values():
            status.member = status.author in members
            if status.member:
                status.name = members[status.author].name
        return [found[key] for key in sorted(found)]
