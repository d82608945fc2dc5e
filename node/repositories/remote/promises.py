"""What large indices promise of files: kept in the local database, for they do not fit in memory.

A Debian suite names sixty thousand files.  What is lost here is read again when the index is
fetched again; a file that nothing is known about is pinned by the bytes that come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import sqlalchemy as sa
import trio

from formats.remote import Promise
from store.database import Database
from store.paging import storable
from store.schema import promised

BATCH = 500  # rows in one transaction: others want to write too
STRENGTH = ("sha512", "sha256", "sha1", "md5")  # the strongest digest told is the one kept


class Promises:
    """Promises by (repository, path)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def replace(
        self, repository: str, source: str, listing: Iterable[tuple[str, Promise]]
    ) -> int:
        """Take what a new version of an index says in place of what the old one said."""
        await self.forget(repository, source)
        rows, number = _rows(repository, source, listing), 0

        def read() -> list[dict[str, Any]]:
            return list(islice(rows, BATCH))

        while batch := await trio.to_thread.run_sync(read):
            unique = list({each["path"]: each for each in batch}.values())

            def unit(connection: sa.Connection, unique: list[dict[str, Any]] = unique) -> None:
                paths = [each["path"] for each in unique]
                connection.execute(_named(repository, source, paths))
                connection.execute(sa.insert(promised), unique)

            await self._database.write(unit)
            number += len(unique)
        return number

    async def find(self, repository: str, path: str) -> Promise | None:
        """What is promised of a path; None if nothing is, or indices contradict each other."""
        if not storable(repository, path):
            return None
        query = (
            sa.select(promised.c.algorithm, promised.c.digest, promised.c.size)
            .where(promised.c.repository == repository, promised.c.path == path)
            .distinct()
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        if len(rows) != 1:
            return None
        algorithm, digest, size = rows[0]
        return Promise(digests={algorithm: digest}, size=size if size >= 0 else None)

    async def path_of(self, repository: str, digest: str, prefix: str) -> str | None:
        """A promised path below a prefix that has this digest: what a by-hash path stands for."""
        query = sa.select(promised.c.path).where(
            promised.c.repository == repository,
            promised.c.digest == digest,
            promised.c.path.startswith(prefix, autoescape=True),
        )
        return await self._database.read(lambda c: c.execute(query.limit(1)).scalar())

    async def forget(self, repository: str, source: str | None = None) -> None:
        """Drop what an index promised, or all that a repository's indices did."""
        statement = sa.delete(promised).where(promised.c.repository == repository)
        if source is not None:
            statement = statement.where(promised.c.source == source)
        await self._database.write(lambda c: c.execute(statement))


def _rows(
    repository: str, source: str, listing: Iterable[tuple[str, Promise]]
) -> Iterator[dict[str, Any]]:
    for path, promise in listing:
        algorithm = next((each for each in STRENGTH if each in promise.digests), "")
        if algorithm and storable(repository, path):
            yield {
                "repository": repository,
                "path": path,
                "source": source,
                "algorithm": algorithm,
                "digest": promise.digests[algorithm],
                "size": -1 if promise.size is None else promise.size,
            }


def _named(repository: str, source: str, paths: list[str]) -> sa.Delete:
    return sa.delete(promised).where(
        promised.c.repository == repository,
        promised.c.source == source,
        promised.c.path.in_(paths),
    )
