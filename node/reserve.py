"""Room kept aside on the data disk, so that a node whose disk has filled up can still start.

SQLite opens a database only where its log's index fits (32 KiB each, and a page of log). Without
this a node that died on a full disk could not come back to serve what it holds, nor to delete any.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)
FILE = "reserve"
SIZE = 2 << 20  # bytes
ROOM = 16 * SIZE  # free bytes from which on SIZE of them are not missed


def spend(folder: Path) -> bool:
    """Give the reserve up when the disk is full; tell whether that was needed and possible."""
    file = folder / FILE
    if not file.exists() or shutil.disk_usage(folder).free >= SIZE:
        return False
    with suppress(OSError):  # a disk that is read-only too: the start will say so
        file.unlink()
        log.warning("the data disk is full: using the reserve", freed=SIZE)
        return True
    return False


def keep(folder: Path) -> None:
    """Take the reserve (again) where there is room for it."""
    file = folder / FILE
    if file.exists() or shutil.disk_usage(folder).free < ROOM:
        return
    part = folder / f"{FILE}.part"
    with part.open("wb") as opened:
        with suppress(OSError):  # a file system without it: zeros take the blocks just as well
            os.posix_fallocate(opened.fileno(), 0, SIZE)
        opened.write(bytes(SIZE))
    part.replace(file)
