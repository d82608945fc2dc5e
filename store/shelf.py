"""The deltas that a node keeps: a cache beside the blob store, never part of it.

They are blobs of their own (``store.delta``), in a folder of their own, so that no garbage
collection, inventory, quota or backup counts them.  What is known of them stands in their headers,
and is read again at the start.  A delta goes with its target or basis, and the longest unused
beyond the budget.

What comes from elsewhere is unproven until a blob has been made of it, and lies apart until then:
who stops, or is stopped, in between neither keeps nor offers it.

Spec: docs/delta.md.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from store import delta
from store.blobs import BlobStore, Ingest, Ingested
from store.chunks import Manifest
from store.digest import Digest
from store.errors import BlobUnknownError, DeltaInvalidError
from store.files import FileStore
from store.holdings import PREFIXES, Walk
from store.intake import Intake
from store.known import Location

OFFERS_MAX = 4  # deltas of one target
HEAD = delta.HEADER_MAX + 64  # bytes in which a header lies
KEPT_MAX = 65_536  # deltas


@dataclass(slots=True)
class Kept:
    """One delta: what it makes of what, its size, and when it was last of use."""

    digest: Digest
    basis: Digest
    target: Digest
    size: int
    work: int  # bytes that have to be packed to apply it
    used: float  # seconds since 1970


class Shelf:
    """Deltas below ``root``, ``budget`` bytes at most.  ``blobs`` tells which blobs are here."""

    def __init__(self, root: Path, blobs: BlobStore, *, budget: int) -> None:
        self.store = FileStore(root)
        self.unproven = FileStore(root / "unproven")
        self.budget = budget
        self._blobs = blobs
        self._kept: dict[bytes, Kept] = {}  # by digest
        self._by_target: dict[bytes, list[Kept]] = {}
        self._expected: Counter[bytes] = Counter()

    async def open(self) -> None:
        """Make the folders, and read what lies there.  Raises ReadOnlyError."""
        await self.store.open()
        await self.unproven.open()
        async for digest in Walk(self.unproven.shard, await self._prefixes(self.unproven)):
            await self.clear(digest)
        for prefix in await self._prefixes(self.store):
            for holding in await self.store.shard(prefix):
                try:
                    header = await self._header(holding.digest, self.store)
                except (DeltaInvalidError, BlobUnknownError):
                    await self.store.delete(holding.digest)
                    continue
                self._enter(header, holding.digest, holding.size, holding.modified)
        for target in list(self._by_target):
            await self._thin(target)
        await self.tidy()

    # --- what is here --------------------------------------------------------------------------
    @property
    def taken(self) -> int:
        """What all of them take."""
        return sum(kept.size for kept in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, digest: Digest) -> bool:
        """Tell whether a blob is a delta that is here, or on its way here as one."""
        return digest.raw in self._kept or digest.raw in self._expected

    def of(self, target: bytes) -> Sequence[Kept]:
        """Return the deltas that make a blob."""
        return self._by_target.get(target, ())

    def where(self, digest: Digest) -> FileStore:
        """Return the store in which a delta lies, or will."""
        return self.store if self.store.path(digest) is not None else self.unproven

    def expect(self, digest: Digest) -> None:
        """Take a blob that comes from now on for a delta, and put it here."""
        self._expected[digest.raw] += 1

    def unexpect(self, digest: Digest) -> None:
        """Take it for what it is again."""
        self._expected[digest.raw] -= 1
        if self._expected[digest.raw] <= 0:
            del self._expected[digest.raw]

    # --- coming and going ----------------------------------------------------------------------
    async def put(self, file: Path, now: float) -> Kept:
        """Keep a delta that has been made.  Raises DeltaInvalidError, StoreFullError."""
        async with self.store.ingest() as ingest, await trio.open_file(file, "rb") as source:
            while data := await source.read(1 << 20):
                await ingest.write(data)
        return await self.keep(ingest.result.digest, now)

    async def keep(self, digest: Digest, now: float) -> Kept:
        """Know a delta that lies here for a right one.

        Raises BlobUnknownError, DeltaInvalidError.
        """
        if digest.raw in self._kept:
            return self._kept[digest.raw]
        lies = self.where(digest)
        header, size = await self._header(digest, lies), await lies.size(digest)
        if lies is self.unproven:
            await self.store.adopt(lies.locate(digest), digest)
        kept = self._enter(header, digest, size, now)
        await self._thin(header.target.raw)
        await self._fit()
        return kept

    async def clear(self, digest: Digest) -> None:
        """Remove what came and is not kept; what is no delta, whatever it was called, is a blob.

        Who is being stopped does it too.
        """
        file = self.unproven.path(digest)
        if file is None or digest in self:
            return
        with trio.CancelScope(shield=True):
            try:
                await self._header(digest, self.unproven)
            except DeltaInvalidError:
                await self._blobs.adopt(file, digest)
            else:
                await self.unproven.delete(digest)

    async def drop(self, digest: Digest) -> None:
        """Forget a delta, known or not."""
        kept = self._kept.pop(digest.raw, None)
        if kept is not None:
            rest = [each for each in self._by_target[kept.target.raw] if each is not kept]
            self._by_target[kept.target.raw] = rest
            if not rest:
                del self._by_target[kept.target.raw]
        await self.store.delete(digest)

    async def tidy(self) -> None:
        """Drop what makes a blob that is not here, or of one that is not; keep to the budget."""
        for kept in list(self._kept.values()):
            if not await self._blobs.has(kept.target) or not await self._blobs.has(kept.basis):
                await self.drop(kept.digest)
        await self._fit()

    async def _prefixes(self, store: FileStore) -> list[str]:
        """Return the shards that are there: mostly few, and each costs a thread."""
        names = set(await trio.to_thread.run_sync(os.listdir, store.blobs))
        return [prefix for prefix in PREFIXES if prefix in names]

    async def _thin(self, target: bytes) -> None:
        """Keep a few deltas of a blob, those last of use."""
        for old in sorted(self.of(target), key=lambda each: each.used)[:-OFFERS_MAX]:
            await self.drop(old.digest)

    async def _fit(self) -> None:
        over = self.taken - self.budget
        for kept in sorted(self._kept.values(), key=lambda each: each.used):
            if over <= 0 and len(self._kept) <= KEPT_MAX:
                return
            over -= kept.size
            await self.drop(kept.digest)

    async def _header(self, digest: Digest, store: FileStore) -> delta.Header:
        async with store.read(digest, stop=HEAD) as blocks:
            found = delta.read_header(b"".join([block async for block in blocks]))
        if found is None:
            raise DeltaInvalidError("a truncated delta")
        return found[0]

    def _enter(self, header: delta.Header, digest: Digest, size: int, used: float) -> Kept:
        kept = Kept(digest, header.basis, header.target, size, header.work, used)
        self._kept[digest.raw] = kept
        self._by_target.setdefault(header.target.raw, []).append(kept)
        return kept

    async def manifest(self, digest: Digest) -> Manifest | None:
        """Return the chunk manifest of a delta, made of its bytes."""
        intake = Intake(digest)
        try:
            async with self.where(digest).read(digest) as blocks:
                async for block in blocks:
                    await trio.to_thread.run_sync(intake.update, memoryview(block))
        except BlobUnknownError:
            return None
        return (await trio.to_thread.run_sync(intake.finish)).manifest


class Shelved:
    """A BlobStore for the mesh: the node's blobs, and its deltas beside them."""

    def __init__(self, blobs: BlobStore, shelf: Shelf) -> None:
        self._blobs, self._shelf = blobs, shelf

    def _of(self, digest: Digest) -> BlobStore:
        return self._shelf.where(digest) if digest in self._shelf else self._blobs

    async def size(self, digest: Digest) -> int:
        """Return the length in bytes.  Raises BlobUnknownError."""
        return await self._of(digest).size(digest)

    async def has(self, digest: Digest) -> bool:
        """Tell whether the blob is here."""
        return await self._of(digest).has(digest)

    def path(self, digest: Digest) -> Path | None:
        """Return the local file, or None."""
        return self._of(digest).path(digest)

    def read(
        self, digest: Digest, *, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open bytes ``[start, stop)``.  Raises BlobUnknownError on entry."""
        return self._of(digest).read(digest, start=start, stop=stop)

    @asynccontextmanager
    async def ingest(
        self, expected: Digest | None = None, *, checksums: Iterable[str] = ()
    ) -> AsyncGenerator[Ingest]:
        """Accept a blob, never as a delta."""
        async with self._blobs.ingest(expected, checksums=checksums) as ingest:
            yield ingest

    async def adopt(self, file: Path, digest: Digest) -> None:
        """Take over a complete, already verified and synced local file.  Consumes it."""
        await self._of(digest).adopt(file, digest)

    async def keep(self, data: bytes, digest: Digest) -> None:
        """Publish a small blob that is already verified."""
        await self._of(digest).keep(data, digest)

    def digests(self) -> AsyncIterator[Digest]:
        """Iterate over the node's blobs; deltas are none."""
        return self._blobs.digests()

    async def delete(self, digest: Digest) -> None:
        """Remove a blob or a delta."""
        await self._of(digest).delete(digest)


class Index(Protocol):
    """What ``ShelvedIndex`` needs of ``store.chunkindex.ChunkIndex``."""

    async def manifest(self, blob: Digest) -> Manifest | None: ...

    async def record(self, ingested: Ingested) -> None: ...

    async def find(self, sha256s: Sequence[bytes]) -> Mapping[bytes, Location]: ...


class ShelvedIndex:
    """The chunk index for the mesh: deltas are not in it, for nothing shall be made of them."""

    def __init__(self, index: Index, shelf: Shelf) -> None:
        self._index, self._shelf = index, shelf

    async def manifest(self, blob: Digest) -> Manifest | None:
        """Return the manifest of a local blob or delta, or None."""
        if blob in self._shelf:
            return await self._shelf.manifest(blob)
        return await self._index.manifest(blob)

    async def record(self, ingested: Ingested) -> None:
        """Note a blob that has come, unless it is a delta."""
        if ingested.digest not in self._shelf:
            await self._index.record(ingested)

    async def find(self, sha256s: Sequence[bytes]) -> Mapping[bytes, Location]:
        """Return where chunks lie."""
        return await self._index.find(sha256s)
