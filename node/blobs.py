"""Blobs as the node serves them: from disk, else from peers while chunks arrive and verify."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import trio

from store.blobs import BlobRange, BlobStore, Ingest
from store.chunkindex import ChunkIndex
from store.digest import Digest
from store.errors import BlobUnknownError, NoHolderError, TooLargeError
from store.files import FileStore
from store.gc import Sweepable

T = TypeVar("T")
Spans = tuple[int, AsyncIterator[tuple[int, int]]]  # a descriptor; (offset, count) to copy from it


class Swarm(Protocol):
    """What the node needs of the mesh to get bytes that are elsewhere."""

    def stream(self, wanted: BlobRange) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Bytes in order, while chunks arrive.  Raises NoHolderError."""
        ...

    def spans(self, wanted: BlobRange) -> AbstractAsyncContextManager[Spans | None]:
        """The same as a descriptor and places to copy from; None where there is no file."""
        ...

    async def fetch(
        self, digest: Digest, *, size: int | None = None, manifest_id: bytes = b""
    ) -> None:
        """Bring the whole blob here.  Raises NoHolderError."""
        ...


class Store(BlobStore, Sweepable, Protocol):
    """A blob store that can also be swept: every back end."""


class NoSwarm:
    """A node without peers."""

    @asynccontextmanager
    async def stream(self, wanted: BlobRange) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Nobody to ask."""
        raise NoHolderError(f"{wanted.digest} is not on this node, and it has no peers")
        yield  # pragma: no cover - makes this a generator

    @asynccontextmanager
    async def spans(self, wanted: BlobRange) -> AsyncGenerator[Spans | None]:
        """Nothing: ``stream`` says why."""
        yield None

    async def fetch(
        self, digest: Digest, *, size: int | None = None, manifest_id: bytes = b""
    ) -> None:
        """Nobody to ask."""
        raise NoHolderError(f"{digest} is not on this node, and it has no peers")


class Blobs:
    """Local store, chunk index and swarm behind one door."""

    def __init__(self, store: Store, index: ChunkIndex, swarm: Swarm | None = None) -> None:
        self.store, self.index = store, index
        self.swarm: Swarm = swarm or NoSwarm()
        self.reader: Callable[[Digest], None] = lambda _: None  # told of what clients read
        self.missed: Callable[[Digest, int], None] = lambda *_: None  # and of what nobody had

    def path(self, digest: Digest) -> Path | None:
        """The local file, if the store has files."""
        return self.store.path(digest)

    def descriptor(self, digest: Digest) -> int | None:
        """Open the local file for the caller to read and close, if there is one."""
        if isinstance(self.store, FileStore):
            return self.store.descriptor(digest)
        return None

    @asynccontextmanager
    async def ingest(
        self, expected: Digest | None = None, *, checksums: Iterable[str] = ()
    ) -> AsyncGenerator[Ingest]:
        """Store bytes and index their chunks."""
        async with self.store.ingest(expected, checksums=checksums) as ingest:
            yield ingest
        await self.index.record(ingest.result)

    @asynccontextmanager
    async def read(self, wanted: BlobRange) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a range, wherever the bytes are.  Raises NoHolderError before the first byte."""
        digest = wanted.digest
        self.reader(digest)
        if await self.store.has(digest):
            async with self.store.read(digest, start=wanted.start, stop=wanted.stop) as chunks:
                yield chunks
        else:
            try:
                async with self.swarm.stream(wanted) as chunks:
                    yield chunks
            except NoHolderError:
                self.missed(digest, wanted.size or 0)
                raise

    @asynccontextmanager
    async def arriving(self, wanted: BlobRange) -> AsyncGenerator[Spans | None]:
        """Open a range that peers are giving, for the kernel to copy as it comes.

        None: ``read`` it, it is here or does not come in a file.  Raises NoHolderError.
        """
        if await self.store.has(wanted.digest):
            yield None
            return
        try:
            async with self.swarm.spans(wanted) as found:
                if found is not None:
                    self.reader(wanted.digest)
                yield found
        except NoHolderError:
            self.missed(wanted.digest, wanted.size or 0)
            raise

    async def load(self, digest: Digest, *, limit: int) -> bytes:
        """The whole of a small blob.  Raises TooLargeError beyond ``limit`` bytes."""
        data = bytearray()
        async with self.read(BlobRange(digest)) as chunks:
            async for chunk in chunks:
                data += chunk
                if len(data) > limit:
                    raise TooLargeError(f"{digest} is larger than {limit} bytes")
        return bytes(data)

    async def inspect(self, digest: Digest, reader: Callable[[BinaryIO], T]) -> T:
        """Run a synchronous reader over a seekable view of the blob, off the event loop."""
        if not await self.store.has(digest):
            await self.swarm.fetch(digest)
        file = self.store.path(digest)
        if file is not None:
            return await trio.to_thread.run_sync(_read_file, file, digest, reader)
        remote = RemoteBlob(self.store, digest, await self.store.size(digest))
        return await trio.to_thread.run_sync(
            lambda: reader(io.BufferedReader(remote, buffer_size=1 << 18))
        )


def _read_file(file: Path, digest: Digest, reader: Callable[[BinaryIO], T]) -> T:
    try:
        with file.open("rb") as opened:
            return reader(opened)
    except FileNotFoundError:
        raise BlobUnknownError(f"no blob {digest}") from None


class RemoteBlob(io.RawIOBase):
    """A blob without a local file (S3), as a seekable stream for a worker thread."""

    def __init__(self, store: BlobStore, digest: Digest, size: int) -> None:
        super().__init__()
        self._store, self._digest, self._size, self._at = store, digest, size, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; ranges are fetched only when read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fetch the next bytes through the event loop."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # a buffer, whatever its type
        stop = min(self._size, self._at + len(view))
        if stop <= self._at:
            return 0
        data = trio.from_thread.run(self._fetch, self._at, stop)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    async def _fetch(self, start: int, stop: int) -> bytes:
        data = bytearray()
        async with self._store.read(self._digest, start=start, stop=stop) as chunks:
            async for chunk in chunks:
                data += chunk
        return bytes(data)
