"""Committing what a handler wants to write: checks, then one ledger transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import sqlalchemy as sa

from formats.contract import Publish as Wish
from node.blobs import Blobs
from node.directory import RepositoryEntry
from store import schema
from store.catalog import Catalog
from store.digest import Digest
from store.errors import PreconditionFailedError, StoreFullError, VersionExistsError
from store.facts import METADATA_INLINE_MAX, Fact, File, Publish
from store.ledger import Ledger


class Observer(Protocol):
    """Told of every commit (metrics, audit)."""

    def __call__(self, repository: str, facts: Sequence[Fact], actor: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Publisher:
    """The only way from a format to the ledger."""

    ledger: Ledger
    catalog: Catalog
    blobs: Blobs

    async def commit(self, wish: Wish, repository: RepositoryEntry, *, actor: str) -> bool:
        """Write the facts; tell whether anything was new.

        Raises VersionExistsError when a coordinate holds other bytes (or, if strict, any),
        PreconditionFailedError, StoreFullError when the quota does not suffice.
        """
        facts = [await self._spill(fact) for fact in wish.facts]
        news = [fact for fact in facts if await self._is_news(fact, wish)]
        if not news:
            return False

        def check(connection: sa.Connection) -> None:
            for fact in news:
                if isinstance(fact, Publish):
                    _check_coordinates(connection, fact, strict=wish.strict)
            _check_quota(connection, repository, news)

        await self.ledger.append(news, actor=actor, check=check)
        return True

    async def _spill(self, fact: Fact) -> Fact:
        """Move large metadata into blobs (ruling 4)."""
        if not isinstance(fact, Publish):
            return fact
        return msgspec.structs.replace(fact, files=tuple([await self._thin(f) for f in fact.files]))

    async def _thin(self, file: File) -> File:
        if not file.manifest_id:
            manifest = await self.blobs.index.manifest(Digest.parse(file.digest))
            if manifest is not None:
                file = msgspec.structs.replace(file, manifest_id=manifest.id)
        if len(file.metadata) <= METADATA_INLINE_MAX:
            return file
        async with self.blobs.ingest() as ingest:
            await ingest.write(file.metadata)
        return msgspec.structs.replace(
            file, metadata=b"", metadata_digest=str(ingest.result.digest)
        )

    async def _is_news(self, fact: Fact, wish: Wish) -> bool:
        """Tell whether the fact would change anything; equal bytes at an equal place do not."""
        if not isinstance(fact, Publish):
            return True
        found: Mapping[str, object] = {
            file.path: await self.catalog.find(fact.repository, file.path) for file in fact.files
        }
        taken = [path for path, artifact in found.items() if artifact is not None]
        if wish.only_if_new and taken:
            raise PreconditionFailedError(f"{taken[0]} exists")
        if wish.strict and taken:
            raise VersionExistsError(f"{taken[0]} exists")
        for file in fact.files:
            there = await self.catalog.find(fact.repository, file.path)
            if there is None or str(there.digest) != file.digest:
                return True
        return False


def _check_coordinates(connection: sa.Connection, fact: Publish, *, strict: bool) -> None:
    """Refuse other bytes for a taken or burnt coordinate, inside the transaction."""
    if fact.mutable:
        return
    for table in (schema.files, schema.burnt):
        rows = connection.execute(
            sa.select(table.c.path, table.c.digest).where(
                table.c.repository == fact.repository,
                table.c.path.in_([file.path for file in fact.files]),
            )
        )
        there = {row.path: row.digest for row in rows}
        for file in fact.files:
            other = there.get(file.path)
            if other is not None and (other != file.digest or (strict and table is schema.files)):
                raise VersionExistsError(
                    f"File already exists: {file.path} is taken by other bytes ({other})"
                )


def _check_quota(
    connection: sa.Connection, repository: RepositoryEntry, facts: Sequence[Fact]
) -> None:
    if not repository.quota_bytes:
        return
    used = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(schema.packages.c.size), 0)).where(
            schema.packages.c.repository == repository.key
        )
    ).scalar_one()
    wanted = sum(f.size for fact in facts if isinstance(fact, Publish) for f in fact.files)
    if int(used) + wanted > repository.quota_bytes:
        raise StoreFullError(
            f"{repository.key} holds {used} of {repository.quota_bytes} bytes; "
            f"{wanted} more do not fit"
        )
