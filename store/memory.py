"""A BlobStore in memory: for tests, and for nodes that keep nothing.  Starts no thread."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import trio

from store.blobs import Ingested
from store.digest import Digest
from store.errors import BlobUnknownError, StoreFullError
from store.holdings import Holding, Pins, Walk
from store.intake import Intake

BLOCK_SIZE = 256 << 10  # bytes a reader gets at a time


class MemoryIngest:
    """Bytes on their way into a MemoryStore."""

    def __init__(self, store: MemoryStore, intake: Intake) -> None:
        self._store, self._intake = store, intake
        self._result: Ingested | None = None
        self.data = bytearray()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return len(self.data)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``.  Raises StoreFullError."""
        await trio.lowlevel.checkpoint()
        self._store.reserve(len(self.data) + len(data))
        self.data += data
        self._intake.update(memoryview(data))

    @property
    def result(self) -> Ingested:
        """What was stored; only once the block has been left cleanly."""
        if self._result is None:
            raise RuntimeError("the ingest has not been left cleanly")
        return self._result

    def finish(self) -> Ingested:
        """Verify.  Raises DigestMismatchError."""
        self._result = self._intake.finish()
        return self._result


class MemoryBlocks(AsyncIterator[bytes]):
    """The bytes of a blob, block by block."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._data:
            raise StopAsyncIteration
        block, self._data = self._data[:BLOCK_SIZE], self._data[BLOCK_SIZE:]
        return bytes(block)


class MemoryStore:
    """Immutable bytes in a dictionary.  ``capacity`` bounds them, in bytes."""

    def __init__(
        self, *, capacity: int | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._blobs: dict[Digest, tuple[bytes, float]] = {}
        self._pins = Pins()
        self._capacity = capacity
        self._clock = clock

    async def open(self) -> None:
        """Do nothing: there is nothing to recover."""
        await trio.lowlevel.checkpoint()

    async def size(self, digest: Digest) -> int:
        """Return the length in bytes.  Raises BlobUnknownError."""
        await trio.lowlevel.checkpoint()
        return len(self._find(digest))

    async def has(self, digest: Digest) -> bool:
        """Tell whether the blob is here."""
        await trio.lowlevel.checkpoint()
        return digest in self._blobs

    def path(self, digest: Digest) -> Path | None:
        """Return None: there is no file."""
        return None

    @asynccontextmanager
    async def read(
        self, digest: Digest, *, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open bytes ``[start, stop)``.  While it is open, the blob is not collected."""
        await trio.lowlevel.checkpoint()
        data = memoryview(self._find(digest))[start:stop]
        with self._pins.hold(digest):
            yield MemoryBlocks(data)

    @asynccontextmanager
    async def ingest(
        self, expected: Digest | None = None, *, checksums: Iterable[str] = ()
    ) -> AsyncGenerator[MemoryIngest]:
        """Accept a blob; leaving the block cleanly verifies and publishes it."""
        incoming = MemoryIngest(self, Intake(expected, checksums))
        yield incoming
        stored = incoming.finish()
        self._blobs[stored.digest] = bytes(incoming.data), self._clock()

    async def adopt(self, file: Path, digest: Digest) -> None:
        """Take over a complete, already verified local file.  Consumes it."""
        await self.keep(file.read_bytes(), digest)  # noqa: ASYNC240  no thread, on purpose
        file.unlink()  # noqa: ASYNC240  no thread, on purpose

    async def keep(self, data: bytes, digest: Digest) -> None:
        """Publish a small blob that is already verified.  Raises StoreFullError."""
        await trio.lowlevel.checkpoint()
        self.reserve(len(data))
        self._blobs[digest] = data, self._clock()

    def digests(self) -> AsyncIterator[Digest]:
        """Iterate over what is here, in no order."""
        return Walk(self.shard)

    async def shard(self, prefix: str) -> list[Holding]:
        """Return the blobs whose hex begins with ``prefix``."""
        await trio.lowlevel.checkpoint()
        return [
            Holding(digest, len(data), modified)
            for digest, (data, modified) in self._blobs.items()
            if digest.hex.startswith(prefix)
        ]

    async def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is not here is not an error."""
        await trio.lowlevel.checkpoint()
        self._blobs.pop(digest, None)

    async def expire(self, digest: Digest, published: float) -> bool:
        """Remove a blob unless it is pinned or was published after ``published``."""
        await trio.lowlevel.checkpoint()
        _, modified = self._blobs.get(digest, (b"", published))
        if digest in self._pins or modified > published:
            return False
        self._blobs.pop(digest, None)
        return True

    async def verify(self, digest: Digest) -> bool:
        """Tell whether a blob's bytes still hash to its name.  Raises BlobUnknownError."""
        await trio.lowlevel.checkpoint()
        return Digest.of(self._find(digest)) == digest

    def pin(self, digest: Digest) -> AbstractContextManager[None]:
        """Keep a blob from being collected for the length of the block."""
        return self._pins.hold(digest)

    def pinned(self) -> frozenset[Digest]:
        """Return the blobs that are in use now."""
        return self._pins.digests()

    def reserve(self, size: int) -> None:
        """Check that ``size`` more bytes fit.  Raises StoreFullError."""
        used = sum(len(data) for data, _ in self._blobs.values())
        if self._capacity is not None and used + size > self._capacity:
            raise StoreFullError("no space left in the blob store")

    def _find(self, digest: Digest) -> bytes:
        try:
            return self._blobs[digest][0]
        except KeyError:
            raise BlobUnknownError(f"no blob {digest}") from None
