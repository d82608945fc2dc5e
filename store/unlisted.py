"""Downloads of packages that are not listed: kept as claims, and as rows again once they are.

A package that is gone has no rows of ``uses``: it is not among what is downloaded most, and costs
nothing.  What was counted stays in the claims, so that counts of a package that comes back (a
restore, a late record) are what they were, on every node, whatever came in which order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from store import bulk, fold
from store.counting import Delta, PackageKey
from store.paging import keyed, prefix_end
from store.schema import claims, packages, unlisted, uses

PACKAGE = ("repository", "package")
COUNTED = (*PACKAGE, "node")  # who counted: only their cells are looked for when it comes back
# Built once: asked for each of many packages, SQLAlchemy then only looks up what it compiled.
WITHIN = (claims.c.cell >= sa.bindparam("start"), claims.c.cell < sa.bindparam("end"))
CELLS = sa.select(claims.c.cell).distinct().where(*WITHIN)


def settle(
    connection: sa.Connection, deltas: Mapping[PackageKey, Delta], used: Collection[PackageKey]
) -> list[str]:
    """Drop the uses of packages that are not there; give the cells of those that came back.

    ``used`` are packages that uses were written of.  Called when package rows are up to date; the
    cells are to be folded again.
    """
    doubtful = {*used, *(key for key, delta in deltas.items() if delta.removed)}
    gone = doubtful - _found(connection, packages, PACKAGE, doubtful)
    if gone:
        _drop(connection, gone)
    came = {key for key, delta in deltas.items() if delta.added} - gone
    if not came or connection.execute(sa.select(unlisted).limit(1)).first() is None:
        return []
    back = _found(connection, unlisted, COUNTED, came)
    _delete(connection, unlisted, {key[:2] for key in back})
    return _cells(connection, sorted(back))


def _drop(connection: sa.Connection, gone: Collection[PackageKey]) -> None:
    """Move to ``unlisted`` who counted packages; what was just written of them has rows, too."""
    counted = _found(connection, uses, COUNTED, gone)
    _delete(connection, uses, {key[:2] for key in counted})
    known = _found(connection, unlisted, COUNTED, {key[:2] for key in counted})
    bulk.insert(connection, unlisted, sorted(counted - known))


def _found(
    connection: sa.Connection, table: sa.Table, names: Iterable[str], keys: Iterable[PackageKey]
) -> set[tuple[Any, ...]]:
    """Some columns of the rows of packages, each combination once."""
    query = sa.select(*(table.c[name] for name in names)).distinct()
    return {
        tuple(row)
        for condition in _of(table, keys)
        for row in connection.execute(query.where(condition))
    }


def _delete(connection: sa.Connection, table: sa.Table, keys: Iterable[PackageKey]) -> None:
    for condition in _of(table, keys):
        connection.execute(sa.delete(table).where(condition))


def _of(table: sa.Table, keys: Iterable[PackageKey]) -> Iterable[sa.ColumnElement[bool]]:
    for part in bulk.chunks(sorted(keys)):
        yield from keyed([table.c[name] for name in PACKAGE], part)


def _cells(connection: sa.Connection, counted: Iterable[tuple[str, str, str]]) -> list[str]:
    """Every cell of uses that some nodes have of some packages, whatever the versions."""
    found: list[str] = []
    for repository, package, node in counted:
        start = fold.use_cell(repository, package, "", node)
        within = {"start": start, "end": prefix_end(start)}  # there is one: it begins with "u"
        found += connection.execute(CELLS, within).scalars()
    return found
