"""Where blobs are cut: FastCDC with normalised chunking, sizes chosen by byte offset.

Cuts are a wire format: every node must find the same ones, so the gear table, masks and sizes
below are frozen under CDC_VERSION and held by golden vectors in the tests.  pyfastcdc does the
work; the pure-Python engine finds the same cuts, some hundred times slower, where it is missing.

Spec: Xia et al., "The Design of Fast Content-Defined Chunking", IEEE TPDS 2020, algorithm 1;
design.md ruling 7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

try:
    from pyfastcdc import FastCDC
except ImportError:  # a platform without a wheel or a compiler
    FastCDC = None  # type: ignore[assignment, misc]  # not installed: the slow one does it

Buffer = bytes | bytearray | memoryview

CDC_VERSION = 1
KIB = 1 << 10
WHOLE_MAX = 256 * KIB  # bytes; a blob up to this size is a single chunk
CHUNK_MAX = 1024 * KIB  # bytes; no chunk of any blob is longer


@dataclass(frozen=True, slots=True)
class Sizes:
    """The bounds of chunks in bytes, and the masks that make ``avg`` the usual length.

    ``strict`` (one bit more than log2(avg)) holds before ``avg``, ``loose`` (one less) after it.
    """

    min: int
    avg: int
    max: int
    strict: int
    loose: int


FAR_OFFSET = 1 << 30  # bytes; from here on chunks are larger
NEAR = Sizes(16 * KIB, 64 * KIB, 256 * KIB, strict=0xD90703537000, loose=0xD90F03530000)
FAR = Sizes(64 * KIB, 256 * KIB, 1024 * KIB, strict=0xD91707537000, loose=0xD90703537000)

# The table of the Rust and Cython implementations: the head of MD5 over 64 equal bytes.
GEAR = tuple(
    int.from_bytes(hashlib.md5(bytes([byte]) * 64, usedforsecurity=False).digest()[:8], "big")
    for byte in range(256)
)
GEAR_BITS = (1 << 48) - 1  # no mask looks higher, and sums only carry upwards


def sizes_at(offset: int) -> Sizes:
    """Return the bounds of a chunk that begins at ``offset``."""
    return NEAR if offset < FAR_OFFSET else FAR


Engine = Callable[[Sizes, memoryview], Iterator[int]]


def pyfastcdc_cuts(sizes: Sizes, data: memoryview) -> Iterator[int]:
    """Yield the lengths of successive chunks of ``data``, by the Cython implementation."""
    cdc = FastCDC(sizes.avg, min_size=sizes.min, max_size=sizes.max, normalized_chunking=1)
    return (chunk.length for chunk in cdc.cut_buf(data))


def python_cuts(sizes: Sizes, data: memoryview) -> Iterator[int]:
    """Yield the lengths of successive chunks of ``data``, with nothing but Python."""
    while data:
        length = _python_cut(sizes, data[: sizes.max])
        yield length
        data = data[length:]


def _python_cut(sizes: Sizes, data: memoryview) -> int:
    """Return the length of the chunk at the head of ``data``, which is at most ``sizes.max`` long.

    The original looks at bytes in pairs: an odd last byte is never a candidate.
    """
    if len(data) <= sizes.min:
        return len(data)
    gear, value = GEAR, 0
    end = len(data) & ~1
    middle = min(sizes.avg, end)
    for position, byte in enumerate(data[sizes.min : middle], sizes.min):
        value = ((value << 1) + gear[byte]) & GEAR_BITS
        if not value & sizes.strict:
            return position
    for position, byte in enumerate(data[middle:end], middle):
        value = ((value << 1) + gear[byte]) & GEAR_BITS
        if not value & sizes.loose:
            return position
    return len(data)


ENGINE: Engine = python_cuts if FastCDC is None else pyfastcdc_cuts


class Cutter:
    """Find the chunks of one blob as its bytes come in, however they are split.

    Holds back at most CHUNK_MAX bytes.  Not for concurrent use.
    """

    def __init__(self, engine: Engine = ENGINE) -> None:
        self._engine = engine
        self._offset = 0  # of the first byte held back
        self._held = bytearray()

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return self._offset + len(self._held)

    @property
    def held(self) -> int:
        """Bytes that wait for the end of their chunk."""
        return len(self._held)

    def feed(self, data: Buffer) -> list[int]:
        """Take the next bytes; return the lengths of the chunks that are certain now."""
        return [len(chunk) for chunk in self.chunks(data)]

    def finish(self) -> list[int]:
        """Return the lengths of the last chunks."""
        return [len(chunk) for chunk in self.rest()]

    def chunks(self, data: Buffer) -> Iterator[memoryview]:
        """Take the next bytes; yield the chunks that are certain now.

        Exhaust it.  A view holds until the next step.  A chunk is certain once more than the
        longest chunk lies in hand, so that a blob of WHOLE_MAX bytes can still stay whole.
        """
        view = memoryview(data).cast("B")
        position = 0
        while self._held:
            old = len(self._held)
            sizes = sizes_at(self._offset)
            self._held += view[position : position + sizes.max + 1 - old]
            if len(self._held) <= sizes.max:
                return
            length = next(self._engine(sizes, memoryview(self._held)))
            yield memoryview(self._held)[:length]
            self._offset += length
            self._held = self._held[length:old]  # a fresh object: views of the old one may live on
            position += max(0, length - old)
        for chunk in self._direct(view[position:]):
            position += len(chunk)
            yield chunk
        self._held += view[position:]

    def rest(self) -> Iterator[memoryview]:
        """Yield the last chunks."""
        view = memoryview(self._held)
        if self._offset == 0 and len(view) <= WHOLE_MAX:
            if view:
                yield view
            return
        while view:
            length = next(self._engine(sizes_at(self._offset), view))
            yield view[:length]
            self._offset += length
            view = view[length:]

    def _direct(self, view: memoryview) -> Iterator[memoryview]:
        """Yield the chunks that lie wholly in ``view``, without copying."""
        while len(view) > (sizes := sizes_at(self._offset)).max:
            for length in self._engine(sizes, view):
                yield view[:length]
                self._offset += length
                view = view[length:]
                if len(view) <= sizes.max or sizes_at(self._offset) is not sizes:
                    break
