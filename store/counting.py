"""Package rows: how many files a package has, how large they are, and when it last changed.

Counted by differences, so that a publish into a package of a million versions stays cheap; and so
are the totals of a repository, which quotas ask for at each publish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from store import bulk
from store.paging import grouped, keyed
from store.schema import files, former, packages, pointers, totals

PackageKey = tuple[str, str]  # repository, package
Change = tuple[str, int, int]  # repository, files and bytes more
PRESENT = sa.select(packages.c.repository, packages.c.package).where(
    packages.c.repository == sa.bindparam("repository"),
    packages.c.package.in_(sa.bindparam("names", expanding=True)),
)


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


def write(connection: sa.Connection, deltas: Mapping[PackageKey, Delta]) -> set[PackageKey]:
    """Add differences up; return the packages that came or went.

    A package without files and pointers has no row.
    """
    add(connection, [(key[0], delta.files, delta.size) for key, delta in deltas.items()])
    named = present(connection, deltas)
    rows = [
        (*key, delta.files, delta.size, delta.added)
        for key, delta in deltas.items()
        if not delta.removed
    ]
    if rows:
        connection.exec_driver_sql(_adding(packages, connection.dialect.name), rows)
    lessened = [key for key, delta in deltas.items() if delta.removed]
    for part in bulk.chunks(lessened):
        _rewrite(connection, {key: deltas[key] for key in part})
    left = present(connection, lessened)
    return {key for key in deltas if (key in named) != (key in left or not deltas[key].removed)}


def present(connection: sa.Connection, keys: Iterable[PackageKey]) -> set[PackageKey]:
    """Those of the packages that have a row."""
    found: set[PackageKey] = set()
    for part in bulk.chunks(keys):
        for leading, lasts in grouped(part).items():
            wanted = {"repository": leading[0], "names": lasts}
            found.update((row[0], row[1]) for row in connection.execute(PRESENT, wanted))
    return found


def add(connection: sa.Connection, changes: Iterable[Change]) -> None:
    """Change the totals of repositories.  One without files has no row."""
    sums: dict[str, tuple[int, int]] = {}
    for repository, number, size in changes:
        before = sums.get(repository, (0, 0))
        sums[repository] = (before[0] + number, before[1] + size)
    rows = [(repository, *sums[repository]) for repository in sums if any(sums[repository])]
    if rows:
        connection.exec_driver_sql(_adding(totals, connection.dialect.name), rows)
    if fewer := [repository for repository, number, _ in rows if number < 0]:
        gone = (totals.c.repository.in_(fewer), totals.c.files <= 0)
        connection.execute(sa.delete(totals).where(*gone))


def wrong_totals(connection: sa.Connection) -> dict[str, tuple[int, int]]:
    """Repositories whose totals are not what their packages come to, and what those are."""
    sums = (sa.func.sum(packages.c.files), sa.func.sum(packages.c.size))
    query = sa.select(packages.c.repository, *sums).group_by(packages.c.repository)
    right = {
        repository: (int(number), int(size))
        for repository, number, size in connection.execute(query.having(sums[0] > 0))
    }
    found = {row[0]: (row[1], row[2]) for row in connection.execute(sa.select(totals))}
    wrong = [key for key in right.keys() | found.keys() if right.get(key) != found.get(key)]
    return {key: right.get(key, (0, 0)) for key in wrong}


def total_again(connection: sa.Connection) -> int:
    """Add every repository up again from its packages; how many totals were wrong."""
    wrong = wrong_totals(connection)
    for part in bulk.chunks(wrong):
        connection.execute(sa.delete(totals).where(totals.c.repository.in_(part)))
    bulk.insert(connection, totals, [(key, *sums) for key, sums in wrong.items() if any(sums)])
    return len(wrong)


@lru_cache(maxsize=4)
def _adding(table: sa.Table, dialect: str) -> str:
    """Insert a row of numbers, or add to it; a time is the later one."""
    lite = dialect == "sqlite"
    module: Any
    if lite:
        from sqlalchemy.dialects import sqlite as module
    else:  # a tenth of all imports, so not before it is needed
        from sqlalchemy.dialects import postgresql as module
    target: Any = (module if lite else module.asyncpg).dialect()
    statement: Any = module.insert(table)
    later: Any = sa.func.max if lite else sa.func.greatest
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={
            own.name: later(own, new[own.name]) if own.name == "hlc" else own + new[own.name]
            for own in table.columns
            if not own.primary_key
        },
    )
    return bulk.positional(statement, table, target)


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


def remember(connection: sa.Connection, names: Iterable[PackageKey]) -> None:
    """Note packages that files were deleted of: whoever guards a name asks for those, too."""
    for part in bulk.chunks(sorted(names)):
        known: set[Any] = set()
        for condition in keyed((former.c.repository, former.c.package), part):
            known.update(map(tuple, connection.execute(sa.select(former).where(condition))))
        bulk.insert(connection, former, [name for name in part if name not in known])
