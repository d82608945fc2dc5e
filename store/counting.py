"""Package rows: how many files a package has, how large they are, and when it last changed.

Counted by differences, so that a publish into a package of a million versions stays cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from store import bulk
from store.paging import keyed
from store.schema import files, packages, pointers

PackageKey = tuple[str, str]  # repository, package


class Delta:
    """What a transaction changes about one package."""

    __slots__ = ("added", "files", "removed", "size")

    def __init__(self) -> None:
        self.files = self.size = 0
        self.added = self.removed = 0  # highest ledger time of rows that came and went

    def came(self, hlc: int) -> None:
        """A visible row has come."""
        self.added = max(self.added, hlc)

    def went(self, hlc: int) -> None:
        """A visible row has gone."""
        self.removed = max(self.removed, hlc)


def write(connection: sa.Connection, deltas: Mapping[PackageKey, Delta]) -> None:
    """Add differences up.  A package without files and pointers has no row."""
    rows = [
        (*key, delta.files, delta.size, delta.added)
        for key, delta in deltas.items()
        if not delta.removed
    ]
    if rows:
        connection.exec_driver_sql(_upsert(connection.dialect.name), rows)
    for part in bulk.chunks(key for key, delta in deltas.items() if delta.removed):
        _rewrite(connection, {key: deltas[key] for key in part})


@lru_cache(maxsize=2)
def _upsert(dialect: str) -> str:
    """Insert a package, or add to it."""
    lite = dialect == "sqlite"
    module: Any
    if lite:
        from sqlalchemy.dialects import sqlite as module
    else:  # a tenth of all imports, so not before it is needed
        from sqlalchemy.dialects import postgresql as module
    target: Any = (module if lite else module.asyncpg).dialect()
    statement: Any = module.insert(packages)
    later: Any = sa.func.max if lite else sa.func.greatest
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=list(packages.primary_key),
        set_={
            "files": packages.c.files + new.files,
            "size": packages.c.size + new.size,
            "hlc": later(packages.c.hlc, new.hlc),
        },
    )
    return bulk.positional(statement, packages, target)


def _rewrite(connection: sa.Connection, deltas: Mapping[PackageKey, Delta]) -> None:
    """Where rows have gone, the newest may be among them."""
    chosen = list(keyed((packages.c.repository, packages.c.package), deltas))
    before = {
        tuple(row[:2]): row
        for condition in chosen
        for row in connection.execute(sa.select(packages).where(condition))
    }
    rows: list[tuple[Any, ...]] = []
    for (repository, package), delta in deltas.items():
        _, _, count, size, hlc = before.get((repository, package), ("", "", 0, 0, 0))
        newest = max(hlc, delta.added)
        if delta.removed >= newest:
            newest = _newest(connection, repository, package)
        if newest:
            rows.append((repository, package, count + delta.files, size + delta.size, newest))
    for condition in chosen:
        connection.execute(sa.delete(packages).where(condition))
    bulk.insert(connection, packages, rows)


def _newest(connection: sa.Connection, repository: str, package: str) -> int:
    """Ledger time of the newest visible row of a package, 0 without one."""
    newest = 0
    for table in (files, pointers):
        query = sa.select(sa.func.max(table.c.hlc)).where(
            table.c.repository == repository, table.c.package == package
        )
        newest = max(newest, connection.execute(query).scalar() or 0)
    return newest
