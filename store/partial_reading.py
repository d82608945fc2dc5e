"""Reading a partial blob in order: what is here comes at once, the rest as it arrives.

As bytes, or as places in the file to copy from: a crowd that waits for one blob is then served from
the page cache by the kernel, and costs no memory of ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import trio

from store.chunks import Manifest

READ_MAX = 512 << 10  # bytes a reader gets at a time
SPAN_MAX = 4 << 20  # bytes that a reader is told to copy at a time
GATHER = 0.02  # seconds for which more is waited for, once a reader has caught up
GATHER_MIN = 256 << 10  # bytes that are not kept back for that


class Chunked(Protocol):
    """What readers need of a partial blob."""

    @property
    def manifest(self) -> Manifest: ...

    def have(self, index: int) -> bool: ...

    def next_missing(self, start: int, stop: int) -> int | None: ...

    async def wait(self, index: int) -> None: ...

    async def bytes_here(self, start: int, stop: int) -> bytes: ...


class Reader:
    """A place in a partial blob, and how far its reader wants to get."""

    def __init__(self, blob: Chunked, start: int, stop: int) -> None:
        self._blob = blob
        self._start, self._stop = start, stop

    def next_missing(self) -> int | None:
        """Return the first chunk ahead that is not here."""
        chunks = self._blob.manifest.locate(self._start, self._stop)
        return self._blob.next_missing(chunks.start, chunks.stop)

    def _here(self, most: int) -> int:
        """Return where what is here ends, at most ``most`` bytes ahead."""
        manifest, limit = self._blob.manifest, min(self._stop, self._start + most)
        for index in manifest.locate(self._start, self._stop):
            if manifest.offset(index) >= limit:
                break
            if not self._blob.have(index):
                return max(self._start, manifest.offset(index))
        return limit

    async def _arrival(self) -> None:
        """Wait for the next byte.  Raises StopAsyncIteration, and what the blob ended with."""
        if self._start >= self._stop:
            raise StopAsyncIteration
        await self._blob.wait(self._blob.manifest.locate(self._start, self._stop)[0])


class ChunkBlocks(Reader, AsyncIterator[bytes]):
    """Bytes ``[start, stop)``."""

    async def __anext__(self) -> bytes:
        await self._arrival()
        data = await self._blob.bytes_here(self._start, self._here(READ_MAX))
        self._start += len(data)
        return data


class ChunkSpans(Reader, AsyncIterator[tuple[int, int]]):
    """(offset, count)s of ``[start, stop)`` that may be read of the file."""

    async def __anext__(self) -> tuple[int, int]:
        waited = self._start < self._stop and self._here(1) == self._start
        await self._arrival()
        end = self._here(SPAN_MAX)
        if waited and end < min(self._stop, self._start + GATHER_MIN):
            await trio.sleep(GATHER)  # many readers woken for each chunk would do little else
            end = self._here(SPAN_MAX)
        span = (self._start, end - self._start)
        self._start = end
        return span
