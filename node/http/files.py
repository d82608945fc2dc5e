"""Read a file's bytes for a response without ever stopping the event loop for a disk."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Final

import trio

PIECE_SIZE: Final = 1 << 20  # one thread hop per piece when the disk is cold
PROBE_SIZE: Final = 128 << 10  # the kernel reads ahead, and mostly forgets, in runs of this size


async def read_piece(
    file: int, offset: int, size: int, threads: trio.CapacityLimiter
) -> bytes | bytearray:
    """Return exactly ``size`` bytes of an open file at ``offset``.

    Bytes already in the page cache are copied at once; only a read that would wait for the disk
    costs a thread hop.  Raises EOFError if the file is shorter.
    """
    data = _read_cached(file, offset, size)
    while len(data) < size:
        more = await trio.to_thread.run_sync(
            os.pread, file, size - len(data), offset + len(data), limiter=threads
        )
        if not more:
            raise EOFError(f"file ends {size - len(data)} bytes early")
        data = data + more if data else more
    return data


def _read_cached(file: int, offset: int, size: int) -> bytes | bytearray:
    flag = getattr(os, "RWF_NOWAIT", None)
    if flag is None:
        return b""
    buffer = bytearray(size)
    try:
        count = os.preadv(file, [buffer], offset, flag)
    except OSError:  # EAGAIN: nothing cached; EOPNOTSUPP: this file system cannot say
        return b""
    del buffer[count:]
    return buffer


def cached(file: int, offset: int, count: int) -> bool:
    """Tell whether a range seems to be in the page cache: one byte of every PROBE_SIZE is.

    A page dropped in between costs a short wait for the disk, not a wrong byte.
    """
    flag = getattr(os, "RWF_NOWAIT", None)
    if flag is None:
        return False
    probe = [bytearray(1)]
    try:
        return all(
            os.preadv(file, probe, at, flag)
            for at in (*range(offset, offset + count, PROBE_SIZE), offset + count - 1)
        )
    except OSError:  # EAGAIN: not cached; EOPNOTSUPP: this file system cannot say
        return False


async def pieces(
    file: int, offset: int, count: int, threads: trio.CapacityLimiter
) -> AsyncIterator[bytes | bytearray]:
    """Yield ``count`` bytes of an open file, at most PIECE_SIZE at a time.  Raises EOFError."""
    end = offset + count
    while offset < end:
        data = await read_piece(file, offset, min(PIECE_SIZE, end - offset), threads)
        offset += len(data)
        yield data
