"""Local files that are read again and again, without a thread while the system has them in memory.

A thread costs more than copying a chunk from the page cache.  Only for one thread: an event loop's.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from store import disk

FILES_MAX = 64  # kept open
KEPT = 5.0  # seconds that a file stays open unused: a deleted one takes room until then


class WarmFiles:
    """Open files by name.  A file that was deleted or replaced is not read any more."""

    def __init__(self) -> None:
        self._open: OrderedDict[bytes, tuple[int, float]] = OrderedDict()  # the last used last

    def __len__(self) -> int:
        return len(self._open)

    def read(
        self, name: bytes, path: Callable[[], Path | None], start: int, stop: int, now: float
    ) -> bytes | None:
        """Return bytes ``[start, stop)``, or None if that may have to wait for the disk.

        ``path`` is called when the file is not open yet.
        """
        descriptor = self._descriptor(name, path, now)
        return None if descriptor < 0 else disk.read_cached(descriptor, stop - start, start)

    def tidy(self, now: float) -> None:
        """Close what has not been used lately."""
        for name in [name for name, (_, used) in self._open.items() if used < now - KEPT]:
            self._close(name)

    def close(self) -> None:
        """Close all."""
        for name in list(self._open):
            self._close(name)

    def _descriptor(self, name: bytes, path: Callable[[], Path | None], now: float) -> int:
        if name in self._open:
            descriptor, _ = self._open[name]
            if os.fstat(descriptor).st_nlink:
                self._open[name] = (descriptor, now)
                self._open.move_to_end(name)
                return descriptor
            self._close(name)
        found = path()
        if found is None:
            return -1
        try:
            descriptor = os.open(found, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1  # who reads it the slow way says what is wrong
        self._open[name] = (descriptor, now)
        while len(self._open) > FILES_MAX:
            self._close(next(iter(self._open)))
        return descriptor

    def _close(self, name: bytes) -> None:
        descriptor, _ = self._open.pop(name)
        os.close(descriptor)
