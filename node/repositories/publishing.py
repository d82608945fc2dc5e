"""Committing what a handler wants to write: checks, then one ledger transaction."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa

from formats.contract import Publish as Wish
from node.blobs import Blobs
from node.directory import RepositoryEntry
from node.placement.concern import Securer, Wanted, Written
from node.repositories.quota import Quota, check_quota
from store import schema
from store.appending import Check
from store.catalog import Catalog
from store.digest import Digest
from store.errors import (
    DeniedError,
    PreconditionFailedError,
    UnavailableError,
    VersionExistsError,
)
from store.facts import METADATA_INLINE_MAX, Fact, File, Point, Publish
from store.ledger import Ledger
from store.rows import Artifact

PATHS_MAX = 500  # paths in one statement


@dataclass(slots=True)
class Publisher:
    """The only way from a format to the ledger.  ``securer`` is there while the mesh runs."""

    ledger: Ledger
    catalog: Catalog
    blobs: Blobs
    securer: Securer | None = None
    quota: Quota = field(default_factory=Quota)  # of all that this node lists

    def judge(self, wanted: Wanted) -> None:
        """Refuse a write concern that cannot be reached, before anything is read.

        Raises RejectedError, and UnavailableError while the mesh is not running.
        """
        if wanted.concern.count:
            if self.securer is None:
                raise UnavailableError(f"{wanted.concern}: the mesh is not running on this node")
            self.securer.judge(wanted.concern)

    async def secure(self, wish: Wish, wanted: Wanted) -> None:
        """Wait for a write concern, after the commit.  Raises NotReplicatedError."""
        if wanted.concern.count and self.securer is not None:
            written = await self._written(wish)
            await self.securer.reach(wanted.concern, written, wait=wanted.wait)

    async def _written(self, wish: Wish) -> Written:
        """Say what a wish put, or found, in the ledger and the blob store."""
        author, blobs = self.ledger.node, dict[bytes, None]()
        for fact in wish.facts:
            if not isinstance(fact, Publish):
                continue
            for file in fact.files:
                there = await self.catalog.find(fact.repository, file.path)
                if there is not None:
                    author = there.author
                    for digest in (there.digest, there.metadata_digest):
                        if digest is not None and digest.algorithm == "sha256":
                            blobs[digest.raw] = None
        chains = [
            (incarnation, seq)
            for (node, incarnation), (seq, _) in (await self.ledger.heads()).items()
            if node == author
        ]
        incarnation, seq = max(chains, default=(self.ledger.incarnation, 0))
        return Written(author, incarnation, seq, tuple(blobs))

    async def commit(
        self,
        wish: Wish,
        repository: RepositoryEntry,
        *,
        actor: str,
        promoting: Check | None = None,
    ) -> bool:
        """Write the facts; tell whether anything was new.

        A promotion brings a check of its own, and states everything anew: what it brings stays
        even if who published it first takes it back.  Raises VersionExistsError when a coordinate
        holds other bytes (or, if strict, any), PreconditionFailedError, StoreFullError when the
        quota does not suffice, DeniedError for a direct publish where only promotions may.
        """
        news = [f for f in wish.facts if promoting is not None or await self._is_news(f, wish)]
        if not news:
            return False
        if promoting is None and any(isinstance(fact, Publish) for fact in news):
            refuse_direct(repository)
        facts = [await self._spill(fact) for fact in news]

        def check(connection: sa.Connection) -> None:
            if promoting is not None:
                promoting(connection)
            for fact in facts:
                if isinstance(fact, Publish):
                    _check_coordinates(connection, fact, wish)
            check_quota(connection, repository, self.quota, facts)

        await self.ledger.append(facts, actor=actor, check=check)
        return True

    async def room(self, repository: RepositoryEntry) -> int:
        """Bytes that the quota leaves."""
        found = await self.catalog.statistics(repository.key)
        return max(0, repository.quota_bytes - found.size)

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
        """Tell whether the fact would change anything; equal bytes at an equal place do not.

        Clients repeat themselves (a tag pushed again, a deploy run twice); a record for each would
        grow every ledger of the mesh for nothing.
        """
        if isinstance(fact, Point):
            held = await self.catalog.pointer(fact.repository, fact.package, fact.name)
            if held is None:
                return fact.value is not None
            return held.value != fact.value or bool(held.siblings)
        if not isinstance(fact, Publish) or wish.only_if_new or wish.strict:
            return True  # judged in the transaction
        for file in fact.files:
            there = await self.catalog.find(fact.repository, file.path)
            if there is None or not _same(there, file, fact):
                return True
        return False


def refuse_direct(repository: RepositoryEntry) -> None:
    """Refuse to publish where only promotions may.  Raises DeniedError."""
    if repository.promotion_only:
        raise DeniedError(
            f"{repository.key} takes promotions only: publish to a staging repository and promote"
        )


def _same(there: Artifact, file: File, fact: Publish) -> bool:
    """Whether publishing the file again says nothing that is not known."""
    if str(there.digest) != file.digest:
        return False
    if not fact.mutable:
        return True
    if (there.package, there.version) != (fact.package, fact.version):
        return False
    if len(file.metadata) > METADATA_INLINE_MAX:
        return str(there.metadata_digest) == str(Digest.of(file.metadata))
    return there.metadata == file.metadata


def _check_coordinates(connection: sa.Connection, fact: Publish, wish: Wish) -> None:
    """Refuse what must not be replaced, inside the transaction: nobody can slip in between.

    A taken coordinate takes no other bytes, nor does a deleted one, unless it is a mutable one.
    """
    visible = _digests(connection, schema.files, fact)
    taken = next(iter(sorted(visible)), "")
    if wish.only_if_new and taken:
        raise PreconditionFailedError(f"{taken} exists")
    if wish.strict and taken:
        raise VersionExistsError(f"File already exists: {taken}")
    if fact.mutable:
        return
    for held in (visible, _digests(connection, schema.burnt, fact)):
        for file in fact.files:
            other = held.get(file.path, file.digest)
            if other != file.digest:
                raise VersionExistsError(
                    f"File already exists: {file.path} is taken by other bytes ({other})"
                )


def _digests(connection: sa.Connection, table: sa.Table, fact: Publish) -> dict[str, str]:
    """Digests that a table has at the fact's paths."""
    found: dict[str, str] = {}
    paths = [file.path for file in fact.files]
    for start in range(0, len(paths), PATHS_MAX):
        query = sa.select(table.c.path, table.c.digest).where(
            table.c.repository == fact.repository,
            table.c.path.in_(paths[start : start + PATHS_MAX]),
        )
        found.update((row.path, row.digest) for row in connection.execute(query))
    return found
