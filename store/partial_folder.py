"""A partial blob on disk: a folder with its manifest, a sparse file of its bytes, and a bitmap.

The order of writes is the whole guarantee: bytes, fdatasync, and only then a bitmap that claims
them, replaced by rename.  So a bit always means durable, verified bytes.  After an unclean end the
chunks claimed last are hashed again all the same (disks lie), and so is what lies on the disk
unclaimed (after kill -9 the page cache survives), so that little is fetched twice.

All of it blocks: call it in worker threads.  Spec: mesh.md B.2.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from store import disk
from store.bitmap import Bitmap, Saved
from store.chunks import Manifest
from store.digest import Digest
from store.errors import DigestMismatchError, ManifestInvalidError

DATA, HAVE, MANIFEST = "data", "have", "manifest"
PROBE_MAX = 64 << 20  # bytes of unclaimed data to hash at most when opening after a crash


class PartialFiles(Protocol):
    """Where the bytes of one partial blob are kept.  ``blocks``: use it in threads only."""

    manifest: Manifest
    have: Bitmap
    blocks: bool

    def write(self, indexes: Iterable[int], data: bytes | memoryview) -> None:
        """Verify a chunk, then write it.  Raises DigestMismatchError, StoreFullError."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, which the caller knows to be here."""
        ...

    def read_cached(self, start: int, stop: int) -> bytes | None:
        """Return what ``read`` does if no disk has to be waited for, else None."""
        ...

    def descriptor(self) -> int | None:
        """Return a descriptor of the bytes for the caller to close, or None: they have no file."""
        ...

    def sync(self) -> None:
        """Make the bytes written so far durable."""
        ...

    def save(self, saved: bytes) -> None:
        """Claim chunks whose bytes are durable."""
        ...

    def finish(self) -> Path | bytes:
        """Return a durable file of all, ready to be adopted, or all of it to be kept."""
        ...

    def close(self) -> None:
        """Let go.  Nobody may read or write any more."""
        ...

    def remove(self) -> None:
        """Delete what is on the disk."""
        ...


class PartialFolder:
    """The files of one partial blob.  Writes and reads may run in several threads at once."""

    blocks = True

    def __init__(self, folder: Path, manifest: Manifest, fd: int, have: Bitmap) -> None:
        self.folder = folder
        self.manifest = manifest
        self.have = have  # changed by the owner only, never here
        self._fd = fd

    @classmethod
    def open(cls, folder: Path, manifest: Manifest) -> PartialFolder:
        """Open what is there, or begin.  Raises StoreFullError, ReadOnlyError."""
        with disk.disk_errors():
            fresh = not folder.is_dir()
            folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(folder / DATA, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.truncate(fd, manifest.size)  # sparse
                self = cls(folder, manifest, fd, Bitmap(len(manifest.chunks)))
                if fresh or not (folder / MANIFEST).exists():
                    disk.replace_file(folder / MANIFEST, manifest.encode())
                    disk.sync_folder(folder)
                    disk.sync_folder(folder.parent)
                self._recover()
            except BaseException:  # cancelled, too
                os.close(fd)
                raise
        return self

    def write(self, indexes: Iterable[int], data: bytes | memoryview) -> None:
        """Verify a chunk, then write it at each index.  Raises DigestMismatchError, StoreFullError.

        Nothing touches the disk before the digest is right.
        """
        view = memoryview(data).cast("B")
        actual = hashlib.sha256(view).digest()
        for index in indexes:
            chunk = self.manifest.chunks[index]
            if chunk.sha256 != actual or chunk.length != len(view):
                raise DigestMismatchError(Digest.sha256(chunk.sha256), Digest.sha256(actual))
            with disk.disk_errors():
                disk.write_all(self._fd, view, self.manifest.offset(index))

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, which the caller knows to be here."""
        with disk.disk_errors():
            return disk.read_exactly(self._fd, stop - start, start)

    def read_cached(self, start: int, stop: int) -> bytes | None:
        """Return what ``read`` does if no disk has to be waited for, else None.  Does not block."""
        return disk.read_cached(self._fd, stop - start, start)

    def descriptor(self) -> int | None:
        """Return a descriptor of the bytes, for the caller to close.  Raises UnavailableError."""
        with disk.disk_errors():
            return os.dup(self._fd)

    def sync(self) -> None:
        """Make the bytes written so far durable."""
        with disk.disk_errors():
            os.fdatasync(self._fd)

    def save(self, saved: bytes) -> None:
        """Claim chunks whose bytes are durable: ``saved`` is an encoded ``Saved``."""
        with disk.disk_errors():
            disk.replace_file(self.folder / HAVE, saved)

    def finish(self) -> Path:
        """Make file and length durable; return the file, ready to be adopted."""
        with disk.disk_errors():
            os.fsync(self._fd)
        return self.folder / DATA

    def close(self) -> None:
        """Close the file.  Nobody may read or write any more."""
        os.close(self._fd)

    def remove(self) -> None:
        """Delete the folder; an open file keeps its bytes for those who read it."""
        remove(self.folder)

    def _recover(self) -> None:
        """Trust what a clean end left; after any other, hash what may be wrong and may be right."""
        saved = self._load()
        if saved is not None:
            self.have = saved.have
            for index in saved.recent:
                if not saved.clean and not self._holds(index):
                    self.have.clear(index)
        if saved is None or not saved.clean:
            self._probe()
        # From here on a crash is unclean, even before the first flush.
        self.save(Saved(self.have, Bitmap(len(self.manifest.chunks)), clean=False).encode())

    def _probe(self) -> None:
        """Claim what lies on the disk unclaimed and is right."""
        budget = PROBE_MAX
        for index in list(self._written()):
            if index not in self.have and self._holds(index):
                self.have.mark(index)
            budget -= self.manifest.chunks.lengths[index]
            if budget < 0:
                break
        self.sync()

    def _load(self) -> Saved | None:
        try:
            data = (self.folder / HAVE).read_bytes()
        except FileNotFoundError:
            return None
        return Saved.decode(data, len(self.manifest.chunks))

    def _holds(self, index: int) -> bool:
        start = self.manifest.offset(index)
        data = disk.read_exactly(self._fd, self.manifest.chunks.lengths[index], start)
        return hashlib.sha256(data).digest() == self.manifest.chunks.sha256(index)

    def _written(self) -> Iterator[int]:
        """Yield missing chunks that lie wholly in extents with data, in order."""
        for start, stop in _extents(self._fd, self.manifest.size):
            for index in self.manifest.locate(start, stop):
                inside = start <= self.manifest.offset(index)
                if inside and self.manifest.offset(index + 1) <= stop and index not in self.have:
                    yield index


def _extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a sparse file that hold data (lseek(2), SEEK_DATA)."""
    stop = 0
    while stop < size:
        try:
            start = os.lseek(fd, stop, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        stop = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        yield start, stop


def remove(folder: Path) -> None:
    """Delete a partial's folder, whatever is in it, or the file of a small one."""
    with disk.disk_errors():
        if folder.is_file():
            folder.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def stored_manifest(folder: Path) -> Manifest | None:
    """Return what a folder is a part of; None if it is no use to anybody."""
    try:
        manifest = Manifest.decode((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ManifestInvalidError):
        return None
    return manifest if (folder / DATA).exists() else None


def twins(manifest: Manifest) -> dict[bytes, list[int]]:
    """Return the chunks that occur more than once, and where."""
    first: dict[bytes, int] = {}
    found: dict[bytes, list[int]] = {}
    for index, chunk in enumerate(manifest.chunks):
        if (before := first.setdefault(chunk.sha256, index)) != index:
            found.setdefault(chunk.sha256, [before]).append(index)
    return found
