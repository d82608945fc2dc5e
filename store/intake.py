"""One pass over a blob's bytes: digests, checksums and chunks, computed side by side.

``Intake`` is pure.  Its ``sinks`` are independent of each other, so ``store.lanes`` may feed each
in a thread of its own: hashing and cutting let go of the interpreter lock.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable

from store.blobs import Ingested
from store.chunking import WHOLE_MAX, Cutter
from store.chunks import Chunks, Manifest
from store.digest import Digest
from store.errors import DigestMismatchError

STATE = 1 << 10  # bytes of a hash and its surroundings, generously
Sink = Callable[[memoryview], None]


class ChunkLister:
    """Cut a blob and hash its chunks as its bytes come in."""

    def __init__(self) -> None:
        self._cutter = Cutter()
        self._lengths = array("I")
        self._hashes = bytearray()

    @property
    def weight(self) -> int:
        """Bytes of memory that it keeps."""
        return self._cutter.held + len(self._hashes) + 4 * len(self._lengths)

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        for chunk in self._cutter.chunks(data):
            self._add(chunk)

    def finish(self, blob: Digest) -> Manifest:
        """Return the manifest of the blob, whose digest somebody else has computed."""
        size = self._cutter.size
        if size <= WHOLE_MAX:  # its one chunk is hashed already
            return Manifest.whole(blob, size)
        for chunk in self._cutter.rest():
            self._add(chunk)
        return Manifest(blob, size, Chunks(self._lengths, bytes(self._hashes)))

    def _add(self, chunk: memoryview) -> None:
        self._lengths.append(len(chunk))
        self._hashes += hashlib.sha256(chunk).digest()


class Intake:
    """What one pass over the bytes learns: SHA-256, the checksums asked for, and the chunks.

    ``checksums`` are hashlib names with a fixed length.  Raises ValueError for any other: formats
    name them, no client does.
    """

    def __init__(self, expected: Digest | None = None, checksums: Iterable[str] = ()) -> None:
        names = ["sha256", *checksums, *([expected.algorithm] if expected else [])]
        self._expected = expected
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        self._chunks = ChunkLister()
        # Each must see every byte, in order; they do not care about each other.
        self.sinks: list[Sink] = [
            *(value.update for value in self._hashes.values()),
            self._chunks.update,
        ]

    @property
    def weight(self) -> int:
        """Bytes of memory that it keeps between two updates, about."""
        return self._chunks.weight + STATE * len(self._hashes)

    def update(self, data: memoryview) -> None:
        """Take the next bytes into every sink, one after another."""
        for sink in self.sinks:
            sink(data)

    def finish(self) -> Ingested:
        """Return what was learnt.  Raises DigestMismatchError."""
        checksums = {name: value.hexdigest() for name, value in self._hashes.items()}
        expected = self._expected
        if expected and checksums[expected.algorithm] != expected.hex:
            actual = Digest(expected.algorithm, checksums[expected.algorithm])
            raise DigestMismatchError(expected, actual)
        manifest = self._chunks.finish(Digest.sha256(checksums["sha256"]))
        return Ingested(manifest.blob, manifest.size, checksums, manifest)
