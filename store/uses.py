"""Which files name a blob: what placement is decided by.  Docs: docs/mesh.md §13."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from store import hlc
from store.bulk import chunks
from store.paging import keyed
from store.schema import burnt, files

T = TypeVar("T")
USES_MAX = 1000  # files of one blob that have a say: the first in the order of their coordinates
ASKED_MAX = 200  # digests in one statement
PAGE = 400  # digests in one step of a walk


class Port(Protocol):
    """What this needs of ``store.database.Database``."""

    async def read(self, unit: Callable[[sa.Connection], T]) -> T: ...


class FileUse(NamedTuple):
    """One file that names a blob, as its bytes or (``size`` 0) as its metadata."""

    repository: str
    package: str
    path: str
    size: int
    published: float  # seconds since 1970
    manifest_id: bytes
    record: bytes


class Uses:
    """Ask the facts database who names which blobs."""

    def __init__(self, database: Port) -> None:
        self._database = database

    async def of(self, digests: Iterable[str]) -> dict[str, list[FileUse]]:
        """Return the files that name each of these digests; none for what nobody names."""
        found: dict[str, list[FileUse]] = {}
        for part in chunks(dict.fromkeys(digests), ASKED_MAX):
            found |= await self._database.read(partial(_uses, digests=part))
        return found

    async def named(self, coordinates: Iterable[tuple[str, str]]) -> set[str]:
        """Return the digests that files at these (repository, path) name, or named when deleted."""
        found: set[str] = set()
        for part in chunks(coordinates):
            found |= await self._database.read(partial(_named, coordinates=part))
        return found

    async def after(self, last: str, *, metadata: bool = False) -> Sequence[str]:
        """Return the next digests of a walk over all that files name; an empty page ends it."""
        column = files.c.metadata_digest if metadata else files.c.digest
        query = sa.select(column).distinct().where(column > last)
        if metadata:  # the partial index's own condition
            query = query.where(files.c.metadata_digest != "")
        query = query.order_by(column).limit(PAGE)
        return await self._database.read(lambda c: c.execute(query).scalars().all())


def _columns(size: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
    table = files.c
    return [table.repository, table.package, table.path, size, table.hlc, table.manifest_id]


def _uses(connection: sa.Connection, digests: list[str]) -> dict[str, list[FileUse]]:
    found: dict[str, list[FileUse]] = {digest: [] for digest in digests}
    queries = (
        sa.select(files.c.digest, *_columns(files.c.size), files.c.record).where(
            files.c.digest.in_(digests)
        ),
        sa.select(files.c.metadata_digest, *_columns(sa.literal(0)), files.c.record).where(
            files.c.metadata_digest != "", files.c.metadata_digest.in_(digests)
        ),
    )
    for query in queries:
        limited = query.limit(USES_MAX * len(digests))
        for row in connection.execute(limited):
            digest, repository, package, path, size, stamp, manifest, record = tuple[Any, ...](row)
            own = b"" if not size else bytes(manifest)
            use = FileUse(repository, package, path, size, hlc.seconds(stamp), own, bytes(record))
            found[digest].append(use)
    return {digest: sorted(uses)[:USES_MAX] for digest, uses in found.items()}


def _named(connection: sa.Connection, coordinates: list[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    for wanted in keyed([files.c.repository, files.c.path], coordinates):
        query = sa.select(files.c.digest, files.c.metadata_digest).where(wanted)
        for pair in connection.execute(query):
            found.update(digest for digest in pair if digest)
    for wanted in keyed([burnt.c.repository, burnt.c.path], coordinates):
        found.update(connection.execute(sa.select(burnt.c.digest).where(wanted)).scalars())
    return found
