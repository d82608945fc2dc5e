"""What large indices promise of files: kept in the local database, for they do not fit in memory.

A Debian suite names sixty thousand files.  What is lost here is read again when the index is
fetched again; a file that nothing is known about is pinned by the bytes that come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa
import structlog
import trio

from formats.remote import Aim, Promise
from node.turns import Turns
from store.database import Database
from store.digest import Digest
from store.errors import RejectedError
from store.paging import storable
from store.schema import promised

log = structlog.get_logger(__name__)
Scan = Callable[[Aim, BinaryIO], Iterator[tuple[str, Promise]]]
BATCH = 500  # rows in one transaction: others want to write too
STRENGTH = ("sha512", "sha256", "sha1", "md5")  # the strongest digest told is the one kept


class Promises:
    """Promises by (repository, path)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._taken: dict[tuple[str, str], Digest] = {}  # the version of each index read last
        self._turns: Turns[tuple[str, str]] = Turns()

    async def take(
        self, repository: str, aim: Aim, digest: Digest, scan: Scan, path: Path | None
    ) -> None:
        """Read an index for what it promises, unless this version of it was read before."""
        key = (repository, aim.package)
        async with self._turns.of(key):
            if path is None or self._taken.get(key) == digest:
                return
            self._taken[key] = digest
            try:
                with path.open("rb") as file:
                    await self.replace(repository, aim.package, scan(aim, file))
            except (RejectedError, FileNotFoundError) as error:
                log.warning("an index is unreadable", path=aim.path[:200], error=str(error))

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

    async def forget(self, repository: str, source: str | None = None) -> None:
        """Drop what an index promised, or all that a repository's indices did."""
        statement = sa.delete(promised).where(promised.c.repository == repository)
        if source is None:
            for key in [each for each in self._taken if each[0] == repository]:
                del self._taken[key]
        else:
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
