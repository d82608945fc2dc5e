"""A BlobStore on a local disk: one plain file a blob, ``blobs/ab/abcd…``, readable by anybody.

Writing: a temporary file in the same file system, fsync, rename, fsync of the folder.  So a name
under ``blobs`` always means all of the right bytes, after kill -9 and power loss too, and what
lies in ``tmp`` at the start belongs to nobody.  One process owns a root at a time.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from store import disk
from store.blobs import Ingested
from store.digest import Digest
from store.errors import BlobUnknownError, DigestInvalidError
from store.gathering import Gathering
from store.holdings import Holding, Pins, Walk
from store.intake import Intake
from store.lanes import Lanes, Room

READ_SIZE = 512 << 10  # bytes a reader gets at a time
READING = os.O_RDONLY | os.O_CLOEXEC
THREADS_MAX = max(4, 2 * (os.cpu_count() or 1))  # lanes at work at once, over all ingests
KEPT_TOGETHER, KEEPING_LANES = 16, 4  # small blobs synced one after the other, and side by side

T = TypeVar("T")


class FileIngest:
    """Bytes on their way into a FileStore.

    A blob of up to one block costs a single thread hop, when it is finished; a larger one runs
    through lanes: write, digests and chunks side by side, while the next block fills.
    """

    def __init__(self, store: FileStore, intake: Intake) -> None:
        self._store, self._intake = store, intake
        self._block = store.room.block()
        self._lanes: Lanes | None = None
        self._fd = -1
        self._temporary: Path | None = None
        self._result: Ingested | None = None
        self._written = 0
        self.size = 0

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``.  Raises StoreFullError, ReadOnlyError."""
        rest = memoryview(data).cast("B")
        self.size += len(rest)
        while rest:
            if self._block.full:
                await self._turn()
            rest = self._block.fill(rest)
        await trio.lowlevel.checkpoint_if_cancelled()  # the source of the bytes yields often enough

    @property
    def result(self) -> Ingested:
        """What was stored; only once the block has been left cleanly."""
        if self._result is None:
            raise RuntimeError("the ingest has not been left cleanly")
        return self._result

    async def finish(self) -> None:
        """Verify, sync and publish.  Raises DigestMismatchError, StoreFullError, ReadOnlyError."""
        if self._lanes is None:
            work = self._publish_block
        else:
            self._lanes.put(self._block)
            await self._lanes.join()
            work = self._publish_file
        self._result = await self._store.in_thread(work)

    async def close(self) -> None:
        """Let go of the temporary file, whatever happened."""
        if self._lanes is not None:
            await self._lanes.stop()
        with trio.CancelScope(shield=True):
            await self._store.in_thread(self._discard)

    async def _turn(self) -> None:
        """Send the full block through the lanes, and get an empty one."""
        if self._lanes is None:
            await self._store.in_thread(self._create)
            sinks = [self._write, *self._intake.sinks]
            self._lanes = Lanes(self._store.executor, sinks, self._store.room)
            self._lanes.adopt(self._block)
        else:
            self._lanes.put(self._block)
        self._block = await self._lanes.free()

    def _create(self) -> None:
        with disk.disk_errors():
            self._fd, name = tempfile.mkstemp(dir=self._store.temporary)
            self._temporary = Path(name)

    def _write(self, data: memoryview) -> None:
        with disk.disk_errors():
            disk.write_all(self._fd, data, self._written)
        self._written += len(data)

    def _publish_block(self) -> Ingested:
        self._intake.update(self._block.view)
        ingested = self._intake.finish()  # judge before the disk is touched
        self._create()
        self._write(self._block.view)
        return self._seal(ingested)

    def _publish_file(self) -> Ingested:
        return self._seal(self._intake.finish())

    def _seal(self, ingested: Ingested) -> Ingested:
        if self._temporary is None:
            raise RuntimeError("published before it was written")
        with disk.disk_errors():
            os.fchmod(self._fd, 0o644)
            os.fsync(self._fd)
            self._store.publish(self._temporary, self._store.locate(ingested.digest))
        self._temporary = None
        return ingested

    def _discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temporary is not None:
            with suppress(OSError):  # the next start sweeps what a failing disk keeps
                self._temporary.unlink(missing_ok=True)


class FileBlocks(AsyncIterator[bytes]):
    """Bytes ``[start, stop)`` of an open file, block by block, read in a worker thread."""

    def __init__(self, store: FileStore, fd: int, start: int, stop: int) -> None:
        self._store, self._fd = store, fd
        self._start, self._stop = start, stop

    async def __anext__(self) -> bytes:
        size = min(READ_SIZE, self._stop - self._start)
        if size <= 0:
            raise StopAsyncIteration
        block = await self._store.in_thread(lambda: disk.read_exactly(self._fd, size, self._start))
        if not block:  # somebody cut the file from outside: end short rather than spin
            raise StopAsyncIteration
        self._start += len(block)
        return block


class FileStore:
    """Immutable bytes as files below ``root``.  Call open() before anything else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self._folder = str(self.blobs)  # joining paths costs more than opening a file
        self.temporary = root / "tmp"
        self.executor = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="ingest")
        self.room = Room()
        self._limiter = trio.CapacityLimiter(40)  # waits for the disk, not for a processor
        self._pins = Pins()
        self._keeping = Gathering(self._keep, most=KEPT_TOGETHER, lanes=KEEPING_LANES)
        self._names = itertools.count()  # of temporary files

    async def open(self) -> None:
        """Make the folders and sweep what unfinished ingests left.  Raises ReadOnlyError."""
        await self.in_thread(self._open)

    async def size(self, digest: Digest) -> int:
        """Return the length in bytes.  Raises BlobUnknownError."""
        await trio.lowlevel.checkpoint()
        try:
            return self.locate(digest).stat().st_size  # inline: a stat is cheaper than the hop
        except FileNotFoundError:
            raise BlobUnknownError(f"no blob {digest}") from None

    async def has(self, digest: Digest) -> bool:
        """Tell whether the blob is here."""
        await trio.lowlevel.checkpoint()
        return self.path(digest) is not None

    def path(self, digest: Digest) -> Path | None:
        """Return the file, or None if the blob is not here.  Pin it while the path is in use."""
        path = self.locate(digest)
        return path if digest.algorithm == "sha256" and path.is_file() else None

    def descriptor(self, digest: Digest) -> int | None:
        """Open a blob for reading, for the caller to close, or return None if it is not here.

        On the calling thread, by one system call: a thread costs ten times what a small blob does.
        """
        if digest.algorithm != "sha256":
            return None
        try:
            with disk.disk_errors():
                return os.open(f"{self._folder}/{digest.hex[:2]}/{digest.hex}", READING)
        except FileNotFoundError:
            return None

    @asynccontextmanager
    async def read(
        self, digest: Digest, *, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open bytes ``[start, stop)``.  While it is open, the blob is not collected."""
        with self._pins.hold(digest):
            fd, size = await self.in_thread(lambda: self._open_blob(digest))
            try:
                yield FileBlocks(self, fd, start, size if stop is None else min(stop, size))
            finally:
                os.close(fd)

    @asynccontextmanager
    async def ingest(
        self, expected: Digest | None = None, *, checksums: Iterable[str] = ()
    ) -> AsyncGenerator[FileIngest]:
        """Accept a blob.  Leaving the block cleanly verifies, syncs and publishes it."""
        incoming = FileIngest(self, Intake(expected, checksums))
        try:
            yield incoming
            await incoming.finish()
        finally:
            await incoming.close()

    async def adopt(self, file: Path, digest: Digest) -> None:
        """Take over a complete, already verified and synced local file.  Consumes it."""
        await self.in_thread(lambda: self._adopt(file, self.locate(digest)))

    async def keep(self, data: bytes, digest: Digest) -> None:
        """Publish a small blob that is already verified.  Raises StoreFullError, ReadOnlyError.

        Those that come together share a thread, and the sync of a folder.
        """
        await self._keeping.do((data, digest))

    def digests(self) -> AsyncIterator[Digest]:
        """Iterate over what is here, in no order."""
        return Walk(self.shard)

    async def shard(self, prefix: str) -> list[Holding]:
        """Return the blobs whose hex begins with ``prefix``, two characters."""
        return await self.in_thread(lambda: self._shard(self.blobs / prefix))

    async def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is not here is not an error.  Open readers keep their bytes."""
        await self.in_thread(lambda: self._delete(self.locate(digest)))

    async def expire(self, digest: Digest, published: float) -> bool:
        """Remove a blob unless it is pinned or was published after ``published``."""
        return await self.in_thread(lambda: self._expire(digest, published))

    async def verify(self, digest: Digest) -> bool:
        """Tell whether a blob's bytes still hash to its name.  Raises BlobUnknownError."""
        value = hashlib.sha256()
        async with self.read(digest) as blocks:
            async for block in blocks:
                await self.in_thread(partial(value.update, block))
        return value.hexdigest() == digest.hex

    def pin(self, digest: Digest) -> AbstractContextManager[None]:
        """Keep a blob from being collected for the length of the block."""
        return self._pins.hold(digest)

    def pinned(self) -> frozenset[Digest]:
        """Return the blobs that are in use now."""
        return self._pins.digests()

    def locate(self, digest: Digest) -> Path:
        """Return where a blob lies, or would lie."""
        return self.blobs / digest.hex[:2] / digest.hex

    def publish(self, temporary: Path, target: Path) -> None:
        """Give a synced file its durable name: it is there whole, or not at all.  Blocks."""
        disk.ensure_folder(target.parent)
        os.utime(temporary)  # an adopted file may be old: its grace period begins now
        with self._pins.lock:  # not between expire()'s look at the age and its unlink
            temporary.replace(target)
        disk.sync_folder(target.parent)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking ``work`` in a worker thread; once begun it is not abandoned."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _open(self) -> None:
        with disk.disk_errors():
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.blobs, self.temporary):
                disk.ensure_folder(folder)
            for left in self.temporary.iterdir():
                left.unlink()

    def _open_blob(self, digest: Digest) -> tuple[int, int]:
        try:
            with disk.disk_errors():
                fd = os.open(self.locate(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobUnknownError(f"no blob {digest}") from None
        return fd, os.fstat(fd).st_size

    def _adopt(self, file: Path, target: Path) -> None:
        with disk.disk_errors():
            try:
                self.publish(file, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy_in(file, target)
                file.unlink()

    async def _keep(self, blobs: Sequence[tuple[bytes, Digest]]) -> Sequence[None]:
        await self.in_thread(lambda: self._publish_all(blobs))
        return [None] * len(blobs)

    def _publish_all(self, blobs: Sequence[tuple[bytes, Digest]]) -> None:
        """Write and sync files, give them their names, and make the names durable."""
        written: list[tuple[Path, Path]] = []
        with disk.disk_errors():
            try:
                for data, digest in blobs:
                    temporary = self.temporary / f"kept-{next(self._names)}"
                    written.append((temporary, self.locate(digest)))
                    disk.write_file(temporary, data)
                for _, target in written:
                    disk.ensure_folder(target.parent)
                with self._pins.lock:
                    for temporary, target in written:
                        temporary.replace(target)
                for folder in {target.parent for _, target in written}:
                    disk.sync_folder(folder)
            except BaseException:  # cancelled, too
                for temporary, _ in written:
                    with suppress(OSError):  # the next start sweeps what a failing disk keeps
                        temporary.unlink(missing_ok=True)
                raise

    def _copy_in(self, file: Path, target: Path) -> None:
        """Adopt across file systems: rename cannot."""
        with tempfile.NamedTemporaryFile(dir=self.temporary, delete=False) as copy:
            temporary = Path(copy.name)
            try:
                with file.open("rb") as source:
                    shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
                self.publish(temporary, target)
            except BaseException:  # cancelled, too
                temporary.unlink(missing_ok=True)
                raise

    def _shard(self, folder: Path) -> list[Holding]:
        found = []
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(DigestInvalidError, FileNotFoundError):  # not ours, or just deleted
                    digest, status = Digest.sha256(entry.name), entry.stat(follow_symlinks=False)
                    found.append(Holding(digest, status.st_size, status.st_mtime))
        return found

    def _delete(self, path: Path) -> None:
        with disk.disk_errors():
            path.unlink(missing_ok=True)

    def _expire(self, digest: Digest, published: float) -> bool:
        path = self.locate(digest)
        with disk.disk_errors(), self._pins.lock, suppress(FileNotFoundError):
            if digest in self._pins or path.stat().st_mtime > published:
                return False
            path.unlink()
        return True
