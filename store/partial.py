"""Blobs on their way here, chunk by chunk, in any order, from anywhere.

Spec: mesh.md B.2; design.md section 4.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

import trio

from store.bitmap import Bitmap, Missing, Saved
from store.blobs import BlobStore, Ingested
from store.digest import Digest
from store.errors import (
    BlobUnknownError,
    DigestMismatchError,
    NoHolderError,
    RangeInvalidError,
    RegistryError,
)
from store.known import Index, Location
from store.partial_folder import PartialFiles, twins
from store.partial_reading import ChunkBlocks, ChunkSpans, Reader
from store.prefix import Prefix

FLUSH_SIZE = 8 << 20  # bytes written between two durable bitmaps at most
HASH_BATCH = 64  # chunks hashed in one thread hop at the end
COPY_BATCH = 256  # chunks looked up in the index at a time

T = TypeVar("T")
Piece = tuple[int, memoryview]  # a chunk's index, and what should be its bytes


class PartialBlob:
    """One blob being fetched.  Made by ``Partials.open``; shared by everybody who wants the blob.

    It ends by complete(), abandon() or close().  Readers of a completed blob go on to its end;
    readers of any other get the error.
    """

    def __init__(self, files: PartialFiles) -> None:
        self.manifest = files.manifest
        self._files = files
        self._have = files.have
        self._prefix = Prefix(files)
        self._twins = twins(self.manifest)
        self._unsaved: list[int] = []  # marked in memory, not yet claimed on disk
        self._unsaved_size = 0
        self._flushing = trio.Lock()
        self._limiter = trio.CapacityLimiter(8)
        self._users = 0  # reads and writes under way: the file stays open for them
        self._readers: set[Reader] = set()
        self._waiting: dict[int, trio.Event] = {}
        self._progress = trio.Event()
        self._failure: RegistryError | None = None
        self._done = False  # nothing is taken any more
        self._closed = False

    @property
    def missing(self) -> Missing:
        """The indexes of the chunks that are not here, in order; a live view."""
        return self._have.missing

    def have(self, index: int) -> bool:
        """Tell whether a chunk is here, verified."""
        return index in self._have

    def next_missing(self, start: int, stop: int) -> int | None:
        """Return the first chunk of ``[start, stop)`` that is not here."""
        found = self._have.next_missing(start)
        return found if found is not None and found < stop else None

    @property
    def wanted(self) -> list[int]:
        """The chunk that each open reader needs next: fetch these before any other."""
        needs = {reader.next_missing() for reader in self._readers}
        return sorted(index for index in needs if index is not None)

    @property
    def progress(self) -> trio.Event:
        """Set, and replaced, when chunks arrive or the partial ends.  Take it before you look."""
        return self._progress

    @property
    def repeats(self) -> bool:
        """Whether some chunk fills several places: then more may be here than was written."""
        return bool(self._twins)

    @property
    def active(self) -> bool:
        """Whether chunks are still taken."""
        return not self._done

    async def write(self, index: int, data: bytes | memoryview) -> bool:
        """Verify and store a chunk; return whether it was new.

        Raises DigestMismatchError before anything touches the disk, RangeInvalidError,
        StoreFullError, and what the partial was abandoned with.  Fills equal chunks of the blob in
        too.
        """
        self._check_range(index, index + 1)
        wrong, new = await self._write([(index, memoryview(data).cast("B"))])
        if wrong:
            expected = Digest.sha256(self.manifest.chunks.sha256(index))
            raise DigestMismatchError(expected, Digest.of(bytes(data)))
        return new > 0

    async def write_runs(
        self, runs: Sequence[tuple[int, int, bytes | bytearray | memoryview]]
    ) -> list[int]:
        """Store runs of adjacent chunks ``[first, stop)``; return the indexes of wrong ones.

        Like write(), at a fraction of the cost of each chunk.  No chunk may be in two runs.
        """
        pieces: list[Piece] = []
        for first, stop, data in runs:
            self._check_range(first, stop)
            view, base = memoryview(data).cast("B"), self.manifest.offset(first)
            starts = [self.manifest.offset(index) - base for index in range(first, stop)]
            stops = [*starts[1:], len(view)]  # the last takes the rest: its length is judged
            cut = [view[start:end] for start, end in zip(starts, stops, strict=True)]
            pieces += zip(range(first, stop), cut, strict=True)
        wrong, _ = await self._write(pieces)
        return wrong

    async def _write(self, pieces: Sequence[Piece]) -> tuple[list[int], int]:
        """Store chunks; return which were wrong, and how many were new."""
        pieces = [piece for piece in pieces if piece[0] not in self._have]
        if not pieces:
            await trio.lowlevel.checkpoint()
            return [], 0
        self._check()
        with self._using():
            wrong = await self._work(lambda: self._store(pieces))
            if self._failure is not None:
                raise self._failure
            if self._done:  # somebody else brought the last chunk, too
                return wrong, 0
            right = [index for index, _ in pieces if index not in wrong]
            new = self._mark([twin for index in right for twin in self._twins_of(index)])
            if self._unsaved_size >= FLUSH_SIZE:
                await self.flush()
        return wrong, new

    async def wait(self, index: int) -> None:
        """Wait for a chunk.  Raises what the partial was abandoned with."""
        await trio.lowlevel.checkpoint()
        while index not in self._have:
            if self._failure is not None:
                raise self._failure
            await self._waiting.setdefault(index, trio.Event()).wait()

    @asynccontextmanager
    async def read(
        self, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open bytes ``[start, stop)``: what is here comes at once, the rest as it arrives.

        Raises NoHolderError on entry once the partial has ended: look in the store then.  Iterating
        raises what the partial is abandoned with.  Entering is atomic: nothing is awaited.
        """
        reader = ChunkBlocks(self, *self._bounds(start, stop))
        with self._reading(reader):
            yield reader

    @asynccontextmanager
    async def spans(
        self, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[tuple[int, AsyncIterator[tuple[int, int]]] | None]:
        """Open bytes ``[start, stop)`` like read(), as a descriptor and places to copy from.

        None: what is so small has no file.
        """
        reader = ChunkSpans(self, *self._bounds(start, stop))
        file = self._files.descriptor()
        if file is None:
            yield None
            return
        try:
            with self._reading(reader):
                yield file, reader
        finally:
            os.close(file)

    def _bounds(self, start: int, stop: int | None) -> tuple[int, int]:
        """Return what of the blob is meant.  Raises NoHolderError once the partial has ended."""
        if self._done:
            raise self._failure or NoHolderError("the fetch has ended")
        size = self.manifest.size
        return max(0, start), size if stop is None else min(stop, size)

    @contextmanager
    def _reading(self, reader: Reader) -> Iterator[None]:
        with self._using():
            self._readers.add(reader)
            try:
                yield
            finally:
                self._readers.discard(reader)

    async def bytes_here(self, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``.  Raises NoHolderError unless all of them are here."""
        if self._closed or any(i not in self._have for i in self.manifest.locate(start, stop)):
            raise NoHolderError("these bytes are not here")
        with self._using():
            if (cached := self._files.read_cached(start, stop)) is not None:
                await trio.lowlevel.checkpoint()
                return cached
            return await self._work(lambda: self._files.read(start, stop))

    async def flush(self) -> None:
        """Make everything that has arrived survive a crash.  Raises StoreFullError."""
        async with self._flushing:
            if self._unsaved and not self._done:
                await self._save(clean=False)

    async def complete(self, store: BlobStore) -> Ingested:
        """Check the whole blob and hand its file to ``store``.  Call it once nothing is missing.

        Raises DigestMismatchError, and deletes the partial, if the manifest was another blob's.
        When the store refuses (StoreFullError), the partial stays as it is.  May be called twice.
        """
        if self._complete:
            return self._ingested()
        self._check()
        if self.missing:
            raise RuntimeError(f"{len(self.missing)} chunks are missing")
        blob = self.manifest.blob
        with self._using():
            while not await self._work(lambda: self._prefix.catch_up(HASH_BATCH)):
                pass  # in batches, so that it can be cancelled
            if self._prefix.digest != blob:
                mismatch = DigestMismatchError(blob, self._prefix.digest)
                await self.abandon(mismatch, delete=True)
                raise mismatch
            async with self._flushing:
                if self._complete:
                    return self._ingested()
                self._check()
                whole = await self._work(self._files.finish)
                if isinstance(whole, bytes):
                    await store.keep(whole, blob)
                else:
                    await store.adopt(whole, blob)
                self._done = True
                with trio.CancelScope(shield=True):
                    await self._work(self._files.remove)
        self._announce(())
        return self._ingested()

    @property
    def _complete(self) -> bool:
        return self._done and self._failure is None

    def _ingested(self) -> Ingested:
        blob = self.manifest.blob
        return Ingested(blob, self.manifest.size, {"sha256": blob.hex}, self.manifest)

    async def abandon(self, error: RegistryError | None = None, *, delete: bool = False) -> None:
        """Give up: readers get ``error`` or NoHolderError.  Unless deleted it can be resumed."""
        if self._done:
            return
        self._failure = error or NoHolderError("the fetch was given up")
        with self._using(), trio.CancelScope(shield=True):
            async with self._flushing:
                if self._done:
                    return
                self._done = True
                if delete:
                    await self._work(self._files.remove)
                else:
                    with suppress(RegistryError):  # a full disk: the next start hashes again
                        await self._save(clean=True)
        self._announce(list(self._waiting))

    async def close(self) -> None:
        """Leave cleanly, to be resumed later without hashing anything again."""
        await self.abandon(NoHolderError("the node is stopping"))

    async def copy_known(self, index: Index, store: BlobStore) -> int:
        """Fill in the chunks that complete local blobs hold; return how many there were.

        They are verified like any other: a damaged source costs a fetch, nothing else.
        """
        copied, missing = 0, list(self.missing)
        for first in range(0, len(missing), COPY_BATCH):
            batch = missing[first : first + COPY_BATCH]
            known = await index.find([self.manifest.chunks.sha256(one) for one in batch])
            for one in batch:
                location = known.get(self.manifest.chunks.sha256(one))
                if location is not None and await self._copy(one, location, store):
                    copied += 1
        return copied

    async def _copy(self, index: int, location: Location, store: BlobStore) -> bool:
        stop = location.offset + self.manifest.chunks.lengths[index]
        try:
            async with store.read(location.blob, start=location.offset, stop=stop) as blocks:
                data = b"".join([block async for block in blocks])
            return await self.write(index, data)
        except (BlobUnknownError, DigestMismatchError):
            return False

    def _store(self, pieces: Sequence[Piece]) -> list[int]:
        """Write chunks and push the whole-blob digest; return the wrong ones.  In a thread."""
        wrong = []
        for index, data in pieces:
            try:
                self._files.write(self._twins_of(index), data)
            except DigestMismatchError:
                wrong.append(index)
            else:
                self._prefix.push(index, data)
        return wrong

    def _twins_of(self, index: int) -> Sequence[int]:
        """Return every chunk with the bytes of this one, itself included."""
        return self._twins.get(self.manifest.chunks.sha256(index), (index,))

    def _mark(self, indexes: Sequence[int]) -> int:
        """Note chunks that were written; return how many were new."""
        new = [index for index in dict.fromkeys(indexes) if index not in self._have]
        for index in new:
            self._have.mark(index)
            self._unsaved_size += self.manifest.chunks.lengths[index]
        self._unsaved += new
        self._announce(new)
        return len(new)

    def _announce(self, indexes: Sequence[int]) -> None:
        """Wake who waits for these chunks, and who watches progress."""
        for index in indexes:
            if index in self._waiting:
                self._waiting.pop(index).set()
        progress, self._progress = self._progress, trio.Event()
        progress.set()

    async def _save(self, *, clean: bool) -> None:
        """Sync the bytes, then claim them.  Under the flushing lock."""
        unsaved, self._unsaved, self._unsaved_size = self._unsaved, [], 0
        saved = Saved(self._have, Bitmap(len(self.manifest.chunks), unsaved), clean).encode()
        try:
            await self._work(self._files.sync)
        except RegistryError:
            # The system may have dropped what it failed to write: those chunks are not here.
            for index in unsaved:
                self._have.clear(index)
            self._prefix = Prefix(self._files)
            raise
        try:
            await self._work(lambda: self._files.save(saved))
        except RegistryError:
            self._unsaved = unsaved + self._unsaved
            raise

    def _check_range(self, first: int, stop: int) -> None:
        if not 0 <= first < stop <= len(self.manifest.chunks):
            raise RangeInvalidError(f"the blob has no chunks {first} to {stop - 1}")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._done:
            raise RuntimeError("the blob is complete")

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Keep the file open; the last user of an ended partial closes it."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._done and not self._users and not self._closed:
                self._closed = True
                self._files.close()

    async def _work(self, work: Callable[[], T]) -> T:
        """Do what waits for no disk if the blob is in memory."""
        if self._files.blocks:
            return await self._in_thread(work)
        await trio.lowlevel.checkpoint()
        return work()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
