"""A file that grows while readers follow it: bytes on their way from an upstream.

One writer, any number of readers, each with a descriptor of its own, so that the kernel can copy
from the page cache to many sockets.  The last bytes are withheld until the whole is verified
(design.md ruling 8): a reader that got everything got the right thing.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from store.blobs import Ingested
from store.disk import disk_errors, write_all
from store.errors import RegistryError, UpstreamError
from store.intake import Intake
from store.rows import Artifact

WITHHELD = 64 << 10  # bytes at the end that wait for the verdict
STEP = 1 << 20  # bytes after which readers are woken: each time costs every one of them a turn
SPAN_MAX = 4 << 20  # bytes of one span


class Spool:
    """Bytes in a temporary file, hashed and cut as they come."""

    def __init__(self, folder: Path, checksums: Iterable[str], size: int | None) -> None:
        self.size = size  # as declared; None: unknown
        self.written = 0
        self.complete = False
        self._intake = Intake(None, checksums)
        self._folder = folder
        self._file: Path | None = None
        self._fd = -1
        self._error: BaseException | None = None
        self._news = trio.Event()
        self._told = 0

    # --- writing ---------------------------------------------------------------------------------
    async def write(self, data: bytes) -> None:
        """Append bytes.  Raises StoreFullError, ReadOnlyError."""
        await trio.to_thread.run_sync(self._write, data)
        if self.written - self._told >= STEP or self._told <= WITHHELD < self.written:
            self.tell()

    def _write(self, data: bytes) -> None:
        with disk_errors():
            if self._fd < 0:
                self._fd, name = tempfile.mkstemp(dir=self._folder, prefix="upstream-")
                self._file = Path(name)
                weakref.finalize(self, os.close, self._fd)  # when the last reader has gone, too
            write_all(self._fd, memoryview(data), self.written)
        self._intake.update(memoryview(data))
        self.written += len(data)

    async def seal(self) -> Ingested:
        """Sync the file and say what it holds; readers still wait."""
        return await trio.to_thread.run_sync(self._seal)

    def _seal(self) -> Ingested:
        with disk_errors():
            if self._fd >= 0:
                os.fchmod(self._fd, 0o644)
                os.fsync(self._fd)
        return self._intake.finish()

    def take_file(self) -> Path:
        """Hand the file over to a blob store; readers keep their descriptors."""
        if self._file is None:
            raise RuntimeError("nothing was written")
        file, self._file = self._file, None
        return file

    def prefix(self, start: int, length: int) -> bytes:
        """Bytes that are here already: what a second answer must agree with."""
        return os.pread(self._fd, length, start) if self._fd >= 0 else b""

    def finish(self) -> None:
        """Let readers have the rest: it is verified."""
        self.complete, self.size = True, self.written
        self._tell()

    def fail(self, error: BaseException) -> None:
        """Tell readers that there will be no more."""
        self._error = error
        self._tell()

    async def close(self) -> None:
        """Remove the file, if nobody has taken it; who reads it may go on."""
        file, self._file = self._file, None
        if file is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(file.unlink, missing_ok=True))

    def tell(self) -> None:
        """Wake readers, if there is anything new for them."""
        if self.written > self._told:
            self._told = self.written
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    # --- reading ---------------------------------------------------------------------------------
    @property
    def available(self) -> int:
        """Bytes that may be passed on by now."""
        return self.written if self.complete else max(0, self._told - WITHHELD)

    async def wait_beyond(self, offset: int) -> bool:
        """Wait until there is a byte at ``offset``; False if the file ends before it.

        Raises what the writer failed with.
        """
        while self.available <= offset:
            if self.complete:
                return False
            if self._error is not None:
                raise _told_again(self._error)
            await self._news.wait()
        return True

    def open(self) -> int:
        """A descriptor for a reader, who closes it."""
        if self._fd < 0:
            raise RuntimeError("nothing is here yet")
        return os.dup(self._fd)

    async def spans(self, start: int, stop: int | None) -> AsyncIterator[tuple[int, int]]:
        """(offset, count)s that may be read now, until ``stop`` or the end."""
        at = start
        while (stop is None or at < stop) and await self.wait_beyond(at):
            end = self.available if stop is None else min(self.available, stop)
            count = min(SPAN_MAX, end - at)
            yield at, count
            at += count


def again(error: RegistryError) -> RegistryError:
    """The same error once more: one exception must not be raised in two tasks."""
    copy = type(error).__new__(type(error))
    copy.__dict__.update(error.__dict__)
    copy.args = error.args
    return copy


def _told_again(error: BaseException) -> BaseException:
    if isinstance(error, RegistryError):
        return again(error)
    return UpstreamError("an upstream's answer could not be read")


class Following:
    """The contract's ``Arriving`` over a spool; ``artifact`` gives what it is kept as."""

    def __init__(
        self, spool: Spool, artifact: Callable[[], Artifact | None] = lambda: None
    ) -> None:
        self._spool, self.artifact = spool, artifact

    @property
    def size(self) -> int | None:
        """The declared or final size."""
        return self._spool.size

    @asynccontextmanager
    async def spans(
        self, start: int, stop: int | None
    ) -> AsyncGenerator[tuple[int, AsyncIterator[tuple[int, int]]]]:
        """A descriptor and what may be read of it, as it comes."""
        await self._spool.wait_beyond(start)
        descriptor = self._spool.open()
        try:
            yield descriptor, self._spool.spans(start, stop)
        finally:
            os.close(descriptor)
