"""Where deflate streams lie in zip and gzip files: by their own tables, nothing is searched for.

Files may be hostile: what does not fit together has no streams, or fewer.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

END = struct.Struct("<4s4H2IH")  # a zip file's end of central directory
ENTRY = struct.Struct("<4s6H3I5H2I")  # an entry of it
LOCAL = struct.Struct("<4s5H3I2H")  # the header before a member's data
COMMENT_MAX = 65_535  # bytes behind the end record
ENTRIES_MAX = 65_535
DIRECTORY_MAX = 32 << 20  # bytes
DEFLATE = 8  # compression method, of zip and of gzip
HEADER_MAX = 4096  # bytes of a gzip header
FIXED, TRAILER = 10, 8  # bytes of a gzip header before what its flags announce; at its end
CHECKED, EXTRA, NAME, COMMENT = 2, 4, 8, 16  # those flags
BLOCK = 256 << 10  # bytes read, or made, at a time


class Span(NamedTuple):
    """The bytes ``[start, stop)`` of a file."""

    start: int
    stop: int


def spans(file: BinaryIO) -> list[Span]:
    """Return where deflate streams should lie, in order; none overlaps another."""
    size = file.seek(0, 2)
    file.seek(0)
    begin = file.read(4)
    if begin[:3] == b"\x1f\x8b\x08":
        found = _gzip(file, size)
    elif begin == b"PK\x03\x04":
        found = sorted(_zip(file, size))
    else:
        found = []
    apart: list[Span] = []
    for span in found:
        if (apart[-1].stop if apart else 0) <= span.start < span.stop <= size:
            apart.append(span)
    return apart


def inflated(file: BinaryIO, span: Span) -> Iterator[bytes]:
    """Iterate over what a stream holds, BLOCK bytes at most at a time, at times none.

    Raises zlib.error if it does not end where the span does.
    """
    unpacker, at = zlib.decompressobj(-zlib.MAX_WBITS), span.start
    data = b""
    while not unpacker.eof:
        if not data:
            file.seek(at)
            data = file.read(min(BLOCK, span.stop - at))
            at += len(data)
        block = unpacker.decompress(data, BLOCK)
        if not data and not block and not unpacker.eof:
            raise zlib.error("a stream that ends early")
        data = unpacker.unconsumed_tail
        yield block
    if unpacker.unused_data or at != span.stop:
        raise zlib.error("a stream that ends late")


def _gzip(file: BinaryIO, size: int) -> list[Span]:
    file.seek(0)
    data = file.read(HEADER_MAX)
    try:
        flags, at = data[3], FIXED
        if flags & EXTRA:
            at += 2 + int.from_bytes(data[at : at + 2], "little")
        for flag in (NAME, COMMENT):
            if flags & flag:
                at = data.index(0, at) + 1
        at += 2 if flags & CHECKED else 0
    except (IndexError, ValueError):
        return []
    return [Span(at, size - TRAILER)]


def _zip(file: BinaryIO, size: int) -> Iterator[Span]:
    tail_at = max(0, size - END.size - COMMENT_MAX)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < END.size:
        return
    _, _, _, _, count, length, begin, _ = END.unpack_from(tail, at)
    if begin + length > size or length > DIRECTORY_MAX or count > ENTRIES_MAX:
        return  # among them zip64
    file.seek(begin)
    directory, at = file.read(length), 0
    for _ in range(count):
        if len(directory) - at < ENTRY.size:
            return
        entry = ENTRY.unpack_from(directory, at)
        magic, method, packed, header = entry[0], entry[4], entry[8], entry[16]
        if magic != b"PK\x01\x02":
            return
        at += ENTRY.size + sum(entry[10:13])
        if method == DEFLATE and header + LOCAL.size <= size:
            file.seek(header)
            local = LOCAL.unpack(file.read(LOCAL.size))
            start = header + LOCAL.size + local[9] + local[10]
            if local[0] == b"PK\x03\x04":
                yield Span(start, start + packed)
