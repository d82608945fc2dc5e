"""Downloads of packages that are not listed: kept as claims, and as rows again once they are.

A package that is gone has no rows of ``uses``: it is not among what is downloaded most, and costs
nothing.  What was counted stays in the claims, so that counts of a package that comes back (a
restore, a late record) are what they were, on every node, whatever came in which order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import sqlalchemy as sa

from store import bulk, fold
from store.counting import Delta, PackageKey
from store.paging import keyed, prefix_end
from store.schema import claims, heads, packages, unlisted, uses


def settle(
    connection: sa.Connection, deltas: Mapping[PackageKey, Delta], used: Collection[PackageKey]
) -> list[str]:
    """Drop the uses of packages that are not there; give the cells of those that came back.

    ``used`` are packages that uses were written of.  Called when package rows are up to date; the
    cells are to be folded again.
    """
    doubtful = {*used, *(key for key, delta in deltas.items() if delta.removed)}
    gone = doubtful - _present(connection, packages, doubtful)
    if gone:
        _drop(connection, sorted(gone), used)
    came = {key for key, delta in deltas.items() if delta.added} - gone
    if not came or connection.execute(sa.select(unlisted).limit(1)).first() is None:
        return []
    back = _present(connection, unlisted, came)
    for condition in keyed((unlisted.c.repository, unlisted.c.package), sorted(back)):
        connection.execute(sa.delete(unlisted).where(condition))
    return _cells(connection, sorted(back))


def _present(
    connection: sa.Connection, table: sa.Table, keys: Iterable[PackageKey]
) -> set[PackageKey]:
    found: set[PackageKey] = set()
    columns = (table.c.repository, table.c.package)
    for part in bulk.chunks(sorted(keys)):
        for condition in keyed(columns, part):
            rows = connection.execute(sa.select(*columns).where(condition))
            found.update((row[0], row[1]) for row in rows)
    return found


def _drop(
    connection: sa.Connection, gone: Iterable[PackageKey], used: Collection[PackageKey]
) -> None:
    dropped: list[PackageKey] = []
    for key in gone:
        mine = (uses.c.repository == key[0], uses.c.package == key[1])
        if connection.execute(sa.delete(uses).where(*mine)).rowcount or key in used:
            dropped.append(key)
    known = _present(connection, unlisted, dropped)
    bulk.insert(connection, unlisted, [key for key in dropped if key not in known])


def _cells(connection: sa.Connection, names: Iterable[PackageKey]) -> list[str]:
    """Every cell of uses of some packages: whoever wrote anything may have counted."""
    found: list[str] = []
    authors = list(connection.execute(sa.select(heads.c.author).distinct()).scalars())
    for repository, package in names:
        for author in authors:
            start = fold.use_cell(repository, package, "", author)
            query = sa.select(claims.c.cell).distinct().where(claims.c.cell >= start)
            end = prefix_end(start)
            if end is not None:
                query = query.where(claims.c.cell < end)
            found += connection.execute(query).scalars()
    return found
