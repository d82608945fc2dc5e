"""A local repository: what a format sees of the catalog, the blobs and this node's staging area."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import trio

from formats.contract import (
    DOCUMENT_MAX,
    Accounts,
    Rendered,
    Signer,
    Staged,
    Uploads,
)
from node.blobs import Blobs
from node.directory import RepositoryEntry
from node.repositories.listed import Listed
from node.repositories.rendered import RenderCache, render
from store import packaged
from store.blobs import Ingest, Ingested
from store.catalog import Catalog
from store.digest import Digest
from store.errors import NotFoundError
from store.rows import Artifact, FlagRow, Pointer
from store.staging import Staging

T = TypeVar("T")
PAGE = 500  # rows read at once when a whole repository is walked


@dataclass(frozen=True, slots=True)
class Services:
    """What every repository of a node shares."""

    catalog: Catalog
    blobs: Blobs
    staging: Staging
    cache: RenderCache
    accounts: Accounts
    uploads: Callable[[str, Sequence[str]], Uploads]
    signer: Callable[[str], Signer]


class LocalRepository:
    """The ``Repository`` of the format contract over local facts; bytes may be anywhere."""

    def __init__(
        self, entry: RepositoryEntry, services: Services, checksums: Sequence[str] = ()
    ) -> None:
        self.entry = entry
        self._services = services
        self._checksums = tuple(checksums)

    @property
    def key(self) -> str:
        """The repository's key."""
        return self.entry.key

    @property
    def options(self) -> Mapping[str, object]:
        """The format's own options."""
        return self.entry.options

    @property
    def uploads(self) -> Uploads:
        """Resumable sessions of this repository."""
        return self._services.uploads(self.key, self._checksums)

    @property
    def accounts(self) -> Accounts:
        """Log-ins."""
        return self._services.accounts

    @property
    def signer(self) -> Signer:
        """The repository's signing key."""
        return self._services.signer(self.key)

    @property
    def modified(self) -> float:
        """Ledger time of the newest change, seconds since 1970."""
        return self._services.catalog.modified(self.key)

    async def artifact(self, path: str) -> Artifact:
        """The file at a coordinate.  Raises NotFoundError."""
        found = await self.find(path)
        if found is None:
            raise NotFoundError(f"{self.key} has no {path}")
        return found

    async def find(self, path: str) -> Artifact | None:
        """The file at a coordinate, or None."""
        return await self._services.catalog.find(self.key, path)

    async def artifacts(self, package: str, version: str | None = None) -> Sequence[Artifact]:
        """Files of a package, in path order."""
        return await self._services.catalog.artifacts(self.key, package, version)

    def each(self, package: str, prefix: str = "") -> AsyncIterator[Artifact]:
        """Files of a package in path order, a page at a time where they are many."""
        return packaged.walk(self._services.catalog, self.key, package, prefix)

    async def by_digest(self, digest: Digest) -> Sequence[Artifact]:
        """Visible files with these bytes."""
        return await self._services.catalog.by_digest(self.key, digest)

    def all_artifacts(self, prefix: str = "") -> AsyncIterator[Artifact]:
        """Every file, in path order, paged."""
        return self._services.catalog.all_artifacts(self.key, prefix)

    async def packages(
        self,
        *,
        prefix: str = "",
        after: str = "",
        limit: int = 1000,
        holding: Sequence[str] = (),
    ) -> Sequence[str]:
        """Package names in byte order."""
        return await self._services.catalog.packages(
            self.key, prefix=prefix, after=after, limit=limit, holding=holding
        )

    async def pointer(self, package: str, name: str) -> Pointer | None:
        """One pointer, or None."""
        return await self._services.catalog.pointer(self.key, package, name)

    async def pointers(self, package: str) -> Sequence[Pointer]:
        """Pointers of a package, in name order."""
        return await self._services.catalog.pointers(self.key, package)

    async def pointer_names(
        self, package: str, *, after: str = "", limit: int = 1000
    ) -> Sequence[str]:
        """Names of a package's pointers in byte order, a page at a time."""
        return await self._services.catalog.pointer_names(
            self.key, package, after=after, limit=limit
        )

    def all_pointers(self, prefix: str = "") -> AsyncIterator[Pointer]:
        """Pointers of every package whose name starts with ``prefix``."""
        return self._services.catalog.all_pointers(self.key, prefix)

    async def flags(self, package: str) -> Sequence[FlagRow]:
        """Marks on a package's versions and files."""
        return await self._services.catalog.flags(self.key, package)

    async def metadata(self, artifacts: Sequence[Artifact]) -> Sequence[bytes]:
        """Each file's JSON, inline or from its blob; at most eight blobs are read at a time."""
        found = [each.metadata for each in artifacts]
        limiter = trio.CapacityLimiter(8)

        async def load(index: int, digest: Digest) -> None:
            async with limiter:
                found[index] = await self.load(digest)

        async with trio.open_nursery() as nursery:
            for index, each in enumerate(artifacts):
                if each.metadata_digest is not None:
                    nursery.start_soon(load, index, each.metadata_digest)
        return found

    async def load(self, digest: Digest, *, limit: int = DOCUMENT_MAX) -> bytes:
        """A small blob's bytes, from here or from a peer."""
        return await self._services.blobs.load(digest, limit=limit)

    async def inspect(self, digest: Digest, reader: Callable[[BinaryIO], T]) -> T:
        """Run a bounded archive reader over a blob in a worker thread."""
        return await self._services.blobs.inspect(digest, reader)

    def ingest(self, *, checksums: Iterable[str] = ()) -> AbstractAsyncContextManager[Ingest]:
        """Store bytes that the handler produced."""
        return self._services.blobs.ingest(checksums=checksums)

    async def stage(
        self, package: str, name: str, blob: Ingested | Staged, metadata: bytes = b""
    ) -> None:
        """Keep a blob for a later commit point."""
        await self._services.staging.stage(
            self.key, package, name, blob.digest, blob.size, blob.checksums, metadata
        )

    async def staged(self, package: str) -> Sequence[Staged]:
        """What waits for a commit point, in name order."""
        rows = await self._services.staging.staged(self.key, package)
        return [Staged(r.name, r.digest, r.size, r.checksums, r.metadata, r.created) for r in rows]

    async def unstage(self, package: str, name: str) -> None:
        """Forget a staged blob."""
        await self._services.staging.unstage(self.key, package, name)

    async def cached(self, key: str, render_document: Callable[[], Awaitable[bytes]]) -> Rendered:
        """A rendered document, kept until the repository changes."""

        async def build() -> Rendered:
            return render(await render_document(), self.modified)

        return await self._services.cache.documents.get((self.key, key), self._revision, build)

    async def composed(
        self, key: str, parts: Callable[[], AsyncGenerator[bytes]]
    ) -> Rendered | Listed:
        """A document rendered in parts, kept until the repository changes."""
        cache, place = self._services.cache, self._place(key)
        return await cache.composed(place, self._revision, parts, lambda: self.modified)

    async def listed(self, key: str, parts: Callable[[], AsyncGenerator[bytes]]) -> Listed:
        """A document of package names on disk, kept until a package comes or goes."""
        cache, place = self._services.cache, self._place(key)
        return await cache.listed(place, self._names_revision, parts, lambda: self.modified)

    async def cached_set(
        self, key: str, build: Callable[[], Awaitable[Mapping[str, Ingested]]]
    ) -> Mapping[str, Ingested]:
        """A set of generated documents that only ever change together."""
        return await self._services.cache.document_set((self.key, key), self._revision, build)

    async def generations(self, key: str) -> Sequence[Mapping[str, Ingested]]:
        """Sets built under this key on this node, newest first."""
        return self._services.cache.generations((self.key, key))

    def _place(self, key: str) -> tuple[str, str]:
        return self.key, key

    def _names_revision(self) -> int:
        return self._services.catalog.names_revision(self.key)

    def _revision(self) -> int:
        return self._services.catalog.revision(self.key)
