"""Which chunks of a partial blob are here: fast in memory, small and checked on disk.

On disk: magic, clean flag, number of chunks, a bit a chunk for all that is here, a bit a chunk for
what was marked since the write before, CRC-32 of all that.  In memory a chunk is one byte, so that
scanning for the next missing one is a memchr.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

HEADER = struct.Struct("!4s?I")
CRC = struct.Struct("!I")
MAGIC = b"have"
AS_DIGITS = bytes.maketrans(b"\0\1", b"01")
AS_FLAGS = bytes.maketrans(b"01", b"\0\1")


class Bitmap:
    """A set of chunk indexes below ``count``."""

    def __init__(self, count: int, marked: Iterable[int] = ()) -> None:
        self._flags = bytearray(count)
        self._marked = 0
        for index in marked:
            self.mark(index)

    def mark(self, index: int) -> None:
        """Add an index."""
        self._marked += not self._flags[index]
        self._flags[index] = 1

    def clear(self, index: int) -> None:
        """Remove an index."""
        self._marked -= self._flags[index]
        self._flags[index] = 0

    def __contains__(self, index: int) -> bool:
        return self._flags[index] == 1

    def __len__(self) -> int:
        return self._marked

    def __iter__(self) -> Iterator[int]:
        return self._scan(b"\1")

    @property
    def missing(self) -> Missing:
        """The other indexes, as a live view."""
        return Missing(self)

    def next_missing(self, start: int) -> int | None:
        """Return the first missing index from ``start`` on."""
        found = self._flags.find(b"\0", start)
        return None if found < 0 else found

    def packed(self) -> bytes:
        """Return one bit a chunk, the first chunk in the highest bit."""
        digits = bytes(self._flags).translate(AS_DIGITS)
        size = -(-len(digits) // 8)
        return int(digits.ljust(size * 8, b"0") or b"0", 2).to_bytes(size, "big")

    @classmethod
    def unpack(cls, count: int, packed: bytes) -> Bitmap:
        """Read what packed() made."""
        bits = bin(int.from_bytes(b"\1" + packed, "big"))[3:]
        bitmap = cls(count)
        bitmap._flags[:] = bits[:count].encode().translate(AS_FLAGS)
        bitmap._marked = bitmap._flags.count(1)
        return bitmap

    def _scan(self, flag: bytes) -> Iterator[int]:
        found = self._flags.find(flag)
        while found >= 0:
            yield found
            found = self._flags.find(flag, found + 1)


class Missing(Collection[int]):
    """The indexes that are not marked, in order; may change while it is iterated."""

    def __init__(self, bitmap: Bitmap) -> None:
        self._bitmap = bitmap

    def __len__(self) -> int:
        return len(self._bitmap._flags) - len(self._bitmap)  # noqa: SLF001  one thing in two views

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and index not in self._bitmap

    def __iter__(self) -> Iterator[int]:
        return self._bitmap._scan(b"\0")  # noqa: SLF001  one thing in two views

    def runs(self) -> Iterator[range]:
        """Yield maximal runs of missing indexes."""
        flags = self._bitmap._flags  # noqa: SLF001  one thing in two views
        start = flags.find(b"\0")
        while start >= 0:
            stop = flags.find(b"\1", start)
            stop = len(flags) if stop < 0 else stop
            yield range(start, stop)
            start = flags.find(b"\0", stop)


@dataclass(frozen=True, slots=True)
class Saved:
    """A bitmap as it lies on disk.  ``recent`` was marked since the write before this one."""

    have: Bitmap
    recent: Bitmap
    clean: bool

    def encode(self) -> bytes:
        """Return the file's content."""
        have = self.have.packed()
        data = HEADER.pack(MAGIC, self.clean, len(self.have) + len(self.have.missing))
        data += have + self.recent.packed()
        return data + CRC.pack(zlib.crc32(data))

    @classmethod
    def decode(cls, data: bytes, count: int) -> Saved | None:
        """Read a file's content; None if it is damaged or about another number of chunks."""
        size = -(-count // 8)
        if len(data) != HEADER.size + 2 * size + CRC.size:
            return None
        body, (crc,) = data[: -CRC.size], CRC.unpack(data[-CRC.size :])
        magic, clean, stored = HEADER.unpack_from(body)
        if (magic, stored, crc) != (MAGIC, count, zlib.crc32(body)):
            return None
        have, recent = body[HEADER.size : HEADER.size + size], body[HEADER.size + size :]
        return cls(Bitmap.unpack(count, have), Bitmap.unpack(count, recent), clean)
