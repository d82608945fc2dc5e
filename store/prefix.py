"""The whole-blob digest of a partial blob, pushed forward as chunks arrive.

So little is left to hash when the last one does.  All of it blocks; several threads may call.
"""

from __future__ import annotations

import hashlib
import threading

from store.digest import Digest
from store.partial_folder import PartialFiles

HASH_AHEAD = 4  # chunks: so far each arrival may push the digest


class Prefix:
    """The whole-blob SHA-256, pushed forward as chunks arrive so that the end costs little."""

    def __init__(self, files: PartialFiles) -> None:
        self._files = files
        self._sha256 = hashlib.sha256()
        self._next = 0  # chunk
        self._lock = threading.Lock()

    @property
    def digest(self) -> Digest:
        """The digest of what was hashed; the blob's, once catch_up() has said so."""
        return Digest.sha256(self._sha256.digest())

    def push(self, index: int, data: bytes | memoryview) -> None:
        """Hash a few chunks in order, if nobody else does: ``data`` is chunk ``index``."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            for _ in range(HASH_AHEAD):
                if self._next == index:
                    self._add(data)
                elif not self._add_next():
                    return
        finally:
            self._lock.release()

    def catch_up(self, chunks: int) -> bool:
        """Hash up to ``chunks`` more; tell whether that was the end of the blob."""
        with self._lock:
            for _ in range(chunks):
                if not self._add_next():
                    break
            return self._next == len(self._files.manifest.chunks)

    def _add_next(self) -> bool:
        manifest, index = self._files.manifest, self._next
        if index == len(manifest.chunks) or index not in self._files.have:
            return False
        self._add(self._files.read(manifest.offset(index), manifest.offset(index + 1)))
        return True

    def _add(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self._next += 1
