"""A partial blob that is a single chunk: held in memory, for there is nothing to resume.

A folder with a manifest and a bitmap costs seven syncs of the disk; a small blob is not worth them.
What ``store.partial_folder`` does with files this does without: a store keeps the bytes once they
are whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from store.bitmap import Bitmap
from store.chunking import WHOLE_MAX
from store.chunks import Manifest
from store.digest import Digest
from store.errors import DigestMismatchError


class PartialMemory:
    """At most WHOLE_MAX bytes."""

    blocks = False  # nothing here waits for a disk

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.have = Bitmap(len(manifest.chunks))
        self._data = b""

    @staticmethod
    def suits(manifest: Manifest) -> bool:
        """Tell whether a blob is small enough."""
        return len(manifest.chunks) == 1 and manifest.size <= WHOLE_MAX

    def write(self, indexes: Iterable[int], data: bytes | memoryview) -> None:
        """Verify the chunk and keep it.  Raises DigestMismatchError."""
        raw = bytes(data)
        chunk, actual = self.manifest.chunks[0], hashlib.sha256(raw).digest()
        if chunk.sha256 != actual or chunk.length != len(raw):
            raise DigestMismatchError(Digest.sha256(chunk.sha256), Digest.sha256(actual))
        self._data = raw

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, which the caller knows to be here."""
        return self._data[start:stop]

    def read_cached(self, start: int, stop: int) -> bytes | None:
        """Return what ``read`` does."""
        return self.read(start, stop)

    def descriptor(self) -> int | None:
        """Return None: there is no file yet."""
        return None

    def sync(self) -> None:
        """Do nothing: nothing is claimed to survive."""

    def save(self, saved: bytes) -> None:
        """Do nothing: nothing is claimed to survive."""

    def finish(self) -> bytes:
        """Return the bytes, for a store to keep."""
        return self._data

    def close(self) -> None:
        """Let go of the bytes."""
        self._data = b""

    def remove(self) -> None:
        """Do nothing: nothing is on the disk."""
