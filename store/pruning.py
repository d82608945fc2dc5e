"""Forget claims that can never matter again, so that a tag moved daily for years stays cheap.

A register's claim may go once another has superseded it and all that it had itself superseded has
arrived; of mutable and cached files only the newest revision matters, and of mutable ones the one
before it, which comes back where a promotion is rolled back.  The records stay.  A cell that was
pruned carries a mark: when one of its records stops counting, its claims are read again from the
records, since what had been superseded by that one may be current after all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from store import bulk, canonical, fold
from store.bulk import chunks
from store.facts import Cached, Publish, Restore
from store.fold import FILE, USE, Claim
from store.records import ZERO, read_body
from store.schema import claims, records

PRUNE_AT = 64  # claims of one cell
PRUNE_USES_AT = 4  # the same of a use, which is told every hour
REVISIONS_KEPT = 2  # of a mutable file
PAGE = 500  # records read at once
MARK = canonical.encode(Restore("", "", ()))  # of record ZERO, which no record is


def superfluous(cell: str, about: Sequence[Claim], arrived: Iterable[bytes]) -> set[bytes]:
    """The records whose claims about a cell may go.  ``arrived`` count, here or pruned before."""
    if cell[0] == FILE:
        return _old_revisions(about)
    if cell[0] == USE:
        counts = fold.resolve_use(about)
        return {claim.record for claim in about} - {counts.record}
    present = {id_: frozenset(c.fact.seen) for id_, c in fold.latest(about).items()}
    known = present.keys() | set(arrived)
    superseded = frozenset[bytes]().union(*present.values())
    gone = {id_ for id_, seen in present.items() if id_ in superseded and seen <= known}
    while True:
        kept = frozenset[bytes]().union(*(s for id_, s in present.items() if id_ not in gone))
        orphans = (present.keys() & superseded) - gone - kept
        if not orphans:
            return gone
        gone -= {id_ for id_ in gone if present[id_] & orphans}  # they must go on superseding those


def _old_revisions(about: Sequence[Claim]) -> set[bytes]:
    gone: set[bytes] = set()
    mutable = [c for c in about if type(c.fact) is Publish and c.fact.mutable]
    cached = [c for c in about if type(c.fact) is Cached]
    for revisions, count in ((mutable, REVISIONS_KEPT), (cached, 1)):
        old = sorted(revisions, key=lambda claim: claim.recency)[:-count]
        gone |= {claim.record for claim in old}
    kept = {claim.record for claim in about if claim not in (*mutable, *cached)}
    return gone - kept


def prune_all(connection: sa.Connection, about: Mapping[str, Sequence[Claim]]) -> None:
    """Prune the cells that have many claims."""
    for cell, found in about.items():
        if len(found) >= (PRUNE_USES_AT if cell[0] == USE else PRUNE_AT):
            prune(connection, cell, found)


def prune(connection: sa.Connection, cell: str, about: Sequence[Claim]) -> None:
    """Drop what is superfluous among the claims of a cell, and mark it."""
    named = {id_ for claim in about for id_ in getattr(claim.fact, "seen", ())}
    arrived: set[bytes] = set()
    for part in chunks(sorted(named)):
        query = sa.select(records.c.id).where(records.c.id.in_(part), records.c.status == "valid")
        arrived |= {bytes(id_) for id_ in connection.execute(query).scalars()}
    gone = superfluous(cell, about, arrived)
    if not gone:
        return
    for part in chunks([*sorted(gone), ZERO]):
        chosen = claims.c.cell == cell, claims.c.record.in_(part)
        connection.execute(sa.delete(claims).where(*chosen))
    bulk.insert(connection, claims, [(cell, ZERO, 0, 0, "", MARK)])


def restore(
    connection: sa.Connection, scopes: Mapping[str, str]
) -> dict[str, list[tuple[str, Claim]]]:
    """The claims of those cells that were pruned, from the records; the stored ones are dropped.

    ``scopes`` gives the scope of each cell that may be concerned.  Looks at every valid record of a
    scope, which only happens after somebody lost rights.
    """
    marked: set[str] = set()
    for part in chunks(sorted(scopes)):
        query = sa.select(claims.c.cell).where(claims.c.cell.in_(part), claims.c.record == ZERO)
        marked |= set(connection.execute(query).scalars())
    found: dict[str, list[tuple[str, Claim]]] = {cell: [] for cell in marked}
    for scope in sorted({scopes[cell] for cell in marked}):
        _collect(connection, scope, found)
    for part in chunks(sorted(marked)):
        connection.execute(sa.delete(claims).where(claims.c.cell.in_(part)))
    return found


def _collect(
    connection: sa.Connection, scope: str, found: dict[str, list[tuple[str, Claim]]]
) -> None:
    columns = (records.c.hlc, records.c.id, records.c.author, records.c.body)
    after: tuple[int, bytes] = (0, b"")
    while True:
        query = (
            sa.select(*columns)
            .where(
                records.c.scope == scope,
                records.c.status == "valid",
                sa.tuple_(records.c.hlc, records.c.id) > sa.tuple_(*after),
                records.c.body.is_not(None),
            )
            .order_by(records.c.hlc, records.c.id)
            .limit(PAGE)
        )
        rows = connection.execute(query).all()
        for hlc, id_, author, body in rows:
            facts = read_body(bytes(body)).facts
            parts = [part for fact in facts for part in fold.cells_of(fact)]
            for ordinal, (cell, fact) in enumerate(parts):
                if cell in found:
                    found[cell].append((cell, Claim(bytes(id_), ordinal, hlc, author, fact)))
        if len(rows) < PAGE:
            return
        after = (rows[-1][0], bytes(rows[-1][1]))
