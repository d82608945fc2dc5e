"""Long documents about what a repository holds, on the disk and not in memory.

A list of a million projects is tens of megabytes: it is written to a file without a name as it is
rendered, a page at a time, and sent from there by the kernel.  Nothing outlives the process.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import trio

from formats.contract import Rendered
from store.digest import Digest
from store.disk import disk_errors, write_all

BUFFER = 1 << 20  # bytes gathered before a thread writes them
SPAN_MAX = 4 << 20  # bytes of one span


class Listed:
    """A document in a file of its own: the contract's ``Arriving``, all of it here."""

    def __init__(self, file: int, size: int, etag: str, modified: float) -> None:
        self.size, self.etag, self.modified = size, etag, modified
        self._file = file
        weakref.finalize(self, os.close, file)

    @asynccontextmanager
    async def spans(
        self, start: int, stop: int | None
    ) -> AsyncGenerator[tuple[int, AsyncIterator[tuple[int, int]]]]:
        """A descriptor and what to read of it.  The document may be forgotten meanwhile."""
        file = os.dup(self._file)
        try:
            yield file, Spans(start, self.size if stop is None else min(stop, self.size))
        finally:
            os.close(file)


class Spans(AsyncIterator[tuple[int, int]]):
    """(offset, count)s from ``start`` to ``stop``."""

    def __init__(self, start: int, stop: int) -> None:
        self._at, self._stop = start, stop

    async def __anext__(self) -> tuple[int, int]:
        offset, count = self._at, min(SPAN_MAX, self._stop - self._at)
        if count <= 0:
            raise StopAsyncIteration
        self._at += count
        return offset, count


Parts = Callable[[], AsyncGenerator[bytes]]


async def write(folder: Path | None, parts: Parts, modified: float) -> Listed:
    """Render a document into a file in ``folder``.  Raises StoreFullError, ReadOnlyError."""
    async with aclosing(parts()) as rendered:
        return await _write(folder, bytearray(), rendered, modified)


async def compose(folder: Path | None, parts: Parts, modified: float) -> Rendered | Listed:
    """Render a document: in memory if it is small, else as ``write`` does."""
    start = bytearray()
    async with aclosing(parts()) as rendered:
        async for part in rendered:
            start += part
            if len(start) >= BUFFER:
                return await _write(folder, start, rendered, modified)
    return Rendered(bytes(start), str(Digest.of(bytes(start))), modified)


async def _write(
    folder: Path | None, buffer: bytearray, rendered: AsyncIterator[bytes], modified: float
) -> Listed:
    """Write what is rendered already, and the rest as it comes."""
    file = await trio.to_thread.run_sync(_create, folder)
    listed = Listed(file, 0, "", modified)  # which closes it, whatever happens
    state = hashlib.sha256()

    def flush() -> None:
        state.update(buffer)
        with disk_errors():
            write_all(file, memoryview(buffer), listed.size)

    async for part in rendered:
        buffer += part
        if len(buffer) >= BUFFER:
            await trio.to_thread.run_sync(flush)
            listed.size, buffer = listed.size + len(buffer), bytearray()
    await trio.to_thread.run_sync(flush)
    listed.size += len(buffer)
    listed.etag = f"sha256:{state.hexdigest()}"
    return listed


def _create(folder: Path | None) -> int:
    with disk_errors(), tempfile.TemporaryFile(dir=folder, buffering=0) as made:
        return os.dup(made.fileno())
