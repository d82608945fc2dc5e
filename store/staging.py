"""Staging: ingested bytes that wait on this node for their commit point.

OCI blobs before their manifest, packages in an upload queue.  What nobody commits expires; until
then ``digests`` keeps its blobs from being collected.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from store.catalog_rows import checksums
from store.database import Database
from store.digest import Digest
from store.paging import Paged, batched, storable
from store.rows import StagedRow
from store.schema import staged

PAGE = 1000  # digests read, or asked for, at once
EXPIRY = 7 * 86400.0  # seconds that staged bytes are kept by default

STAGED = (
    sa.select(staged)
    .where(
        staged.c.repository == sa.bindparam("repository"),
        staged.c.package == sa.bindparam("package"),
    )
    .order_by(staged.c.name)
)


class Staging:
    """What is staged, in the local database.  ``clock`` is seconds since 1970."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def stage(
        self,
        repository: str,
        package: str,
        name: str,
        digest: Digest,
        size: int,
        checksums: Mapping[str, str],
        metadata: bytes = b"",
    ) -> None:
        """Remember a blob under a name of a package; replaces an equal name."""
        row = {
            "repository": repository,
            "package": package,
            "name": name,
            "digest": str(digest),
            "size": size,
            "checksums": msgspec.json.encode(dict(checksums)).decode(),
            "metadata": metadata,
            "created": self._clock(),
        }

        def unit(connection: sa.Connection) -> None:
            connection.execute(named(repository, package, name))
            connection.execute(sa.insert(staged), row)

        await self._database.write(unit)

    async def staged(self, repository: str, package: str) -> Sequence[StagedRow]:
        """What waits for a package's commit point, in name order."""
        if not storable(repository, package):
            return []
        values = {"repository": repository, "package": package}
        found = await self._database.read(lambda c: c.execute(STAGED, values).all(), hot=True)
        return [
            StagedRow(
                repository=row.repository,
                package=row.package,
                name=row.name,
                digest=(digest := Digest.parse(row.digest)),
                size=row.size,
                checksums=checksums(row.checksums, digest),
                metadata=row.metadata,
                created=row.created,
            )
            for row in found
        ]

    async def unstage(self, repository: str, package: str, name: str) -> None:
        """Forget one name; an unknown one is not an error."""
        await self.unstage_all(repository, [(package, name)])

    async def unstage_all(self, repository: str, names: Iterable[tuple[str, str]]) -> None:
        """Forget (package, name) pairs, all at once."""
        wanted = [pair for pair in names if storable(*pair)]

        def unit(connection: sa.Connection) -> None:
            for package, name in wanted:
                connection.execute(named(repository, package, name))

        if wanted and storable(repository):
            await self._database.write(unit)

    async def expire(self, age: float = EXPIRY) -> int:
        """Forget what was staged more than ``age`` seconds ago; return how many names."""
        old = sa.delete(staged).where(staged.c.created < self._clock() - age)
        return await self._database.write(lambda c: c.execute(old).rowcount)

    async def referenced(self, digests: Collection[Digest]) -> set[Digest]:
        """Those of the digests that are staged."""

        def unit(connection: sa.Connection) -> set[str]:
            found: set[str] = set()
            for names in batched((str(digest) for digest in digests), PAGE):
                query = sa.select(staged.c.digest).distinct().where(staged.c.digest.in_(names))
                found |= set(connection.execute(query).scalars())
            return found

        return {Digest.parse(text) for text in await self._database.read(unit)}

    def digests(self) -> AsyncIterator[Digest]:
        """Every staged digest once, in order."""

        async def load(last: Digest | None) -> Sequence[Digest]:
            query = sa.select(staged.c.digest).distinct().order_by(staged.c.digest).limit(PAGE)
            query = query.where(staged.c.digest > (str(last) if last else ""))
            found = await self._database.read(lambda c: c.execute(query).scalars().all())
            return [Digest.parse(text) for text in found]

        return Paged(load)


def named(repository: str, package: str, name: str) -> sa.Delete:
    """The statement that forgets one name."""
    return sa.delete(staged).where(
        staged.c.repository == repository, staged.c.package == package, staged.c.name == name
    )
