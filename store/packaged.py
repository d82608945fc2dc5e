"""Files and pointers of many packages at once, without their metadata: for millions of judgements.

One query for hundreds of packages, in place of one for each; and a package that alone is too large
for memory a page at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from store import catalog_rows
from store.bulk import chunks
from store.catalog import Catalog, between
from store.paging import Paged
from store.rows import Artifact
from store.schema import files, pointers

PAGE = 5000  # files of one package read at once
LIGHT: dict[str, sa.ColumnElement[Any]] = {  # read for nothing else, and most of a row
    "checksums": sa.literal_column("''"),
    "metadata": sa.literal(b"", sa.LargeBinary),
    "manifest_id": sa.literal(b"", sa.LargeBinary),
}
COLUMNS = [LIGHT.get(column.name, column) for column in files.columns]
MANY = sa.select(*COLUMNS).where(
    files.c.repository == sa.bindparam("repository"),
    files.c.package.in_(sa.bindparam("packages", expanding=True)),
)
NAMED = sa.select(*COLUMNS).where(
    files.c.repository == sa.bindparam("repository"),
    files.c.path.in_(sa.bindparam("paths", expanding=True)),
)
POINTED = sa.select(pointers.c.package, pointers.c.name, pointers.c.records).where(
    pointers.c.repository == sa.bindparam("repository"),
    pointers.c.package.in_(sa.bindparam("packages", expanding=True)),
)
Place = tuple[str, Any]  # the last version, and what tells its rows apart
Pointed = dict[str, dict[str, bytes]]  # package → pointer → the records that set it


def files_of(
    connection: sa.Connection, repository: str, packages: Iterable[str]
) -> dict[str, list[Artifact]]:
    """A unit: the files of packages, each in path order.  The caller bounds how many those are."""
    found: dict[str, list[Artifact]] = {}
    for part in chunks(packages):
        for row in connection.execute(MANY, {"repository": repository, "packages": part}):
            artifact = catalog_rows.artifact(row)
            found.setdefault(artifact.package, []).append(artifact)
    for each in found.values():
        each.sort(key=lambda artifact: artifact.path)
    return found


def pointers_of(connection: sa.Connection, repository: str, packages: Iterable[str]) -> Pointed:
    """A unit: which records set the pointers of packages."""
    found: Pointed = {}
    for part in chunks(packages):
        asked = {"repository": repository, "packages": part}
        for package, name, records in connection.execute(POINTED, asked):
            found.setdefault(package, {})[name] = bytes(records)
    return found


def named(connection: sa.Connection, repository: str, paths: Iterable[str]) -> dict[str, Artifact]:
    """A unit: files by their paths."""
    found: dict[str, Artifact] = {}
    for part in chunks(paths):
        for row in connection.execute(NAMED, {"repository": repository, "paths": part}):
            artifact = catalog_rows.artifact(row)
            found[artifact.path] = artifact
    return found


def step(
    connection: sa.Connection, repository: str, package: str, after: Place | None
) -> tuple[list[Artifact], Place | None]:
    """A unit: the next files of one package in some order, and where to go on; None at the end.

    In the order of the package's own index, so that no page sorts what others hold: SQLite's ends
    with the row's number.
    """
    lite = connection.dialect.name == "sqlite"
    tie: sa.ColumnElement[Any] = sa.literal_column("files.rowid") if lite else files.c.path
    query = sa.select(*COLUMNS, tie.label("tie")).where(
        files.c.repository == repository, files.c.package == package
    )
    query = query.order_by(files.c.version, tie)
    rows: list[Any] = []
    if after is None:
        rows += connection.execute(query.limit(PAGE))
    else:
        version, last = after
        same = query.where(files.c.version == version, tie > last)
        rows += connection.execute(same.limit(PAGE))
        rest = query.where(files.c.version > version)
        rows += connection.execute(rest.limit(PAGE - len(rows))) if len(rows) < PAGE else []
    found = [catalog_rows.artifact(row[:-1]) for row in rows]
    return found, (found[-1].version, rows[-1].tie) if len(rows) == PAGE else None


def page(
    connection: sa.Connection, repository: str, package: str, after: str, prefix: str = ""
) -> Sequence[Artifact]:
    """A unit: the next files of one package, by path, all of which begin with ``prefix``.

    Walks the repository in the order of its paths: by the package's own index every page would sort
    all that the package has.
    """
    mine = sa.func.coalesce(files.c.package, "") == package  # no bait for that index
    place = between(files.c.path, prefix, after)
    query = sa.select(*COLUMNS).where(files.c.repository == repository, *place, mine)
    query = query.order_by(files.c.path).limit(PAGE)
    return [catalog_rows.artifact(row) for row in connection.execute(query)]


def walk(
    catalog: Catalog, repository: str, package: str, prefix: str = ""
) -> AsyncIterator[Artifact]:
    """Files of a package in path order; without metadata, and a page at a time, where many."""
    many = False

    async def load(last: Artifact | None) -> Sequence[Artifact]:
        nonlocal many
        if last is None:
            row = await catalog.package(repository, package)
            many = row is not None and row.files > PAGE
        if not many:
            return [] if last else await catalog.artifacts(repository, package)
        after = last.path if last else ""
        return await catalog.read(
            partial(page, repository=repository, package=package, after=after, prefix=prefix)
        )

    return Paged(load)
