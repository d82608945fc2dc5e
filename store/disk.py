"""The local disk, as a store needs it: durable renames, and errors a client can be told."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import ReadOnlyError, StoreFullError, UnavailableError

FULL = {errno.ENOSPC, errno.EDQUOT}
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
FAILING = {errno.EIO, errno.EMFILE, errno.ENFILE}  # the disk or the process is in trouble for now


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the disk refuses into StoreFullError, ReadOnlyError or UnavailableError.

    The message keeps the system's words and drops the path, which is no client's business.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StoreFullError("no space left in the blob store") from error
        if error.errno in READ_ONLY:
            raise ReadOnlyError("the blob store cannot be written to") from error
        if error.errno in FAILING:
            raise UnavailableError(f"blob store: {os.strerror(error.errno)}") from error
        raise


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write every byte of ``data`` at ``offset``: one pwrite may write less."""
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def read_exactly(fd: int, size: int, offset: int) -> bytes:
    """Read ``size`` bytes at ``offset``; fewer only at the end of the file."""
    data = os.pread(fd, size, offset)
    while len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def read_cached(fd: int, size: int, offset: int) -> bytes | None:
    """Read ``size`` bytes that the system has in memory, else return None: never waits for a disk.

    preadv2(2) with RWF_NOWAIT; where there is none, nothing is in memory.
    """
    if not NOWAIT:
        return None
    buffer = bytearray(size)
    try:
        got = os.preadv(fd, [buffer], offset, NOWAIT)
    except OSError:
        return None
    return bytes(buffer) if got == size else None


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def ensure_folder(folder: Path) -> None:
    """Make ``folder``, durably, unless it is there."""
    if not folder.is_dir():
        folder.mkdir(mode=0o755, exist_ok=True)
        sync_folder(folder.parent)


def replace_file(target: Path, data: bytes) -> None:
    """Replace a small file atomically; its name is as durable as the next folder sync."""
    temporary = target.with_name(target.name + ".new")
    write_file(temporary, data, mode=0o600)
    temporary.replace(target)


def write_file(file: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a small file and make its bytes durable; its name is not."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_all(fd, memoryview(data), 0)
        os.fsync(fd)
    finally:
        os.close(fd)
