"""What a bundle says at its end, read without reading the whole: how far it reaches."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

from mesh.bundle.codec import FOOTER, START, Position, Reader, end_offset
from mesh.bundle.parts import (
    MAGIC,
    PART_MAX,
    Chunks,
    Closing,
    End,
    Head,
    Opening,
    Part,
    Reach,
    read_end,
    read_head,
)
from store.errors import RejectedError

PIECE = 256 << 10


@dataclass(frozen=True, slots=True)
class Summary:
    """A bundle's first and last words.  The signatures are right; whose they are is not judged."""

    id: bytes
    opening: Opening
    closing: Closing
    reach: dict[tuple[str, int], int]  # (author, incarnation) → seq


def head_of(file: BinaryIO) -> Head:
    """The head of a bundle.  Raises RejectedError."""
    reader = Reader()
    while len(data := file.read(PIECE)):
        reader.feed(data)
        part = reader.next()
        if isinstance(part, Head):
            return part
    raise RejectedError("the bundle is truncated")


def summary(file: BinaryIO) -> Summary:
    """Read the beginning and the end of a seekable, whole bundle.  Raises RejectedError."""
    file.seek(0)
    head = head_of(file)
    opening = read_head(head)
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - FOOTER.size))
    offset = end_offset(file.read())
    if not len(MAGIC) < offset < size:
        raise RejectedError("the bundle is damaged at its end")
    last = _from(file, offset)
    if len(last) != 1 or not isinstance(last[0], End):
        raise RejectedError("the bundle is damaged at its end")
    closing = read_end(last[0], head)
    parts = _from(file, closing.reach) if closing.reach else []
    chains = [point for part in parts if isinstance(part, Reach) for point in part.chains]
    reach = {(point.author.hex(), point.incarnation): point.seq for point in chains}
    return Summary(head.id, opening, closing, reach)


def _from(file: BinaryIO, offset: int) -> list[Part | Chunks]:
    """Read parts from an offset to the end."""
    file.seek(offset)
    reader = Reader(Position(offset, START))
    found: list[Part | Chunks] = []
    while not reader.ended and (data := file.read(PART_MAX)):
        reader.feed(data)
        found += list(reader)
    return found
