"""Point reads of many versions answered beforehand, by three queries: removal asks for each.

A version that leaves is read once more as its format has it, by its files and by its package's
pointers and flags: a quarter of what a removal of many cost when each of these was a query.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import sqlalchemy as sa

from store import catalog_rows
from store.catalog import FLAGS, POINTERS, VERSION_FILES, Catalog
from store.lookups import ROWS_MAX, weight
from store.paging import storable
from store.schema import files, flags, pointers

VERSIONS_MAX = 100  # at once; more, or one, are asked for by themselves
LIMIT = 1000  # rows of each kind; with more, nothing is answered beforehand
Row = sa.Row[Any]
Question = tuple[sa.Select[Any], *tuple[str, ...]]


def _of(table: sa.Table, *more: sa.ColumnElement[bool]) -> sa.Select[Any]:
    named = table.c.package.in_(sa.bindparam("packages", expanding=True))
    query = sa.select(table).where(table.c.repository == sa.bindparam("repository"), named, *more)
    return query.limit(LIMIT + 1)


OF_VERSIONS = _of(files, files.c.version.in_(sa.bindparam("versions", expanding=True)))
OF_POINTERS = _of(pointers).order_by(pointers.c.package, pointers.c.name)
OF_FLAGS = _of(flags).order_by(flags.c.package, flags.c.version, flags.c.path, flags.c.name)

MAKES: dict[sa.Select[Any], Callable[[Row], Any]] = {
    VERSION_FILES: catalog_rows.artifact,
    POINTERS: catalog_rows.pointer,
    FLAGS: catalog_rows.flag,
}


@asynccontextmanager
async def foreseen(
    catalog: Catalog, repository: str, versions: Collection[tuple[str, str]]
) -> AsyncGenerator[None]:
    """Answer what is asked of (package, version)s within the block; afterwards forget it.

    As long as nothing in the repository changes: then each is asked for by itself.
    """
    lookups = catalog.lookups
    texts = (repository, *(text for each in versions for text in each))
    if lookups is None or not 1 < len(versions) <= VERSIONS_MAX or not storable(*texts):
        yield
        return
    revision = catalog.revision(repository)
    found = await catalog.read(partial(_read, repository=repository, versions=versions))
    try:
        for question, rows in found.items():
            if len(rows) <= ROWS_MAX:
                query, *asked = question
                made = tuple(map(MAKES[query], rows))
                lookups.keep(question, revision, made, weight(tuple(asked), rows))
        yield
    finally:
        for question in found:
            lookups.forget(question)


def _read(
    connection: sa.Connection, repository: str, versions: Collection[tuple[str, str]]
) -> dict[Question, list[Row]]:
    """A unit: the rows of each question; none at all if they are too many."""
    packages = sorted({package for package, _ in versions})
    numbers = sorted({version for _, version in versions})
    asked = {"repository": repository, "packages": packages}
    of_files = connection.execute(OF_VERSIONS, {**asked, "versions": numbers}).all()
    of_pointers = connection.execute(OF_POINTERS, asked).all()
    of_flags = connection.execute(OF_FLAGS, asked).all()
    if max(map(len, (of_files, of_pointers, of_flags))) > LIMIT:
        return {}
    found: dict[Question, list[Row]] = {
        (VERSION_FILES, repository, package, version): [] for package, version in versions
    }
    for query in (POINTERS, FLAGS):
        found |= {(query, repository, package): [] for package in packages}
    _share(found, (((VERSION_FILES, repository, r.package, r.version), r) for r in of_files))
    _share(found, (((POINTERS, repository, r.package), r) for r in of_pointers))
    _share(found, (((FLAGS, repository, r.package), r) for r in of_flags))
    return found


def _share(found: dict[Question, list[Row]], rows: Iterable[tuple[Question, Row]]) -> None:
    for question, row in rows:
        if question in found:  # of two packages, a version of the other's may be there
            found[question].append(row)
