"""Bundle codec: parts to bytes and back.  No files, no clock.  Spec: docs/bundles.md §2.

A part is ``u32 length, u8 type, array``; Chunks alone is ``u32 length, u8 type, u16 header length,
array, raw bytes``, as on the wire.  The running digest is a chain of SHA-256 over the parts, so
that reading may stop after any part and go on from there with 32 bytes of memory.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from mesh.bundle.parts import (
    CODES,
    MAGIC,
    PART_MAX,
    RAW_MAX,
    RUN,
    TYPES,
    Chunks,
    End,
    Head,
    Part,
    Run,
)
from store import canonical
from store.errors import RejectedError

PREFIX = struct.Struct("!IB")
RUN_LENGTH = struct.Struct("!H")
FOOTER = struct.Struct("!Q8s")  # offset of the End part, and:
FOOTER_MAGIC = b"ATLBEND\n"
START = hashlib.sha256(MAGIC).digest()  # the running digest before the first part
SKIPPABLE = 0x80  # types with this bit may be ignored by who does not know them
_DECODERS = {code: msgspec.msgpack.Decoder(kind) for code, kind in TYPES.items()}


def advance(digest: bytes, part: bytes | bytearray | memoryview) -> bytes:
    """The running digest after one more part."""
    return hashlib.sha256(digest + hashlib.sha256(part).digest()).digest()


def encode(part: Part | Chunks) -> bytes:
    """Frame one part."""
    if isinstance(part, Chunks):
        header = canonical.encode(Run(part.first, part.count))
        length = 1 + RUN_LENGTH.size + len(header) + len(part.raw)
        prefix = PREFIX.pack(length, RUN) + RUN_LENGTH.pack(len(header))
        return b"".join((prefix, header, part.raw))
    body = canonical.encode(part)
    if len(body) >= PART_MAX:
        raise RejectedError(f"a {type(part).__name__} of {len(body)} bytes fits no bundle")
    return PREFIX.pack(len(body) + 1, CODES[type(part)]) + body


class Writer:
    """Frame parts one after another, keeping the offset and the running digest."""

    def __init__(self) -> None:
        self.offset = 0
        self.digest = START

    def begin(self) -> bytes:
        """The bytes before the first part."""
        self.offset = len(MAGIC)
        return MAGIC

    def write(self, part: Part | Chunks) -> bytes:
        """The bytes of the next part."""
        data = encode(part)
        self.offset += len(data)
        self.digest = advance(self.digest, data)
        return data

    def finish(self, end: End) -> bytes:
        """The bytes of the last part and what follows it."""
        data = encode(end)
        return data + FOOTER.pack(self.offset, FOOTER_MAGIC)


class Position(NamedTuple):
    """Where reading stands between two parts: enough to go on from there."""

    offset: int
    digest: bytes


BEGINNING = Position(0, START)


class Reader:
    """Reassemble parts, however the bytes come: ``feed()``, then iterate.

    ``position`` is that after the part that was given last.  Whatever the bytes, RejectedError is
    all that is raised; nothing after it is worth reading.  Holds one part and one ``feed`` at most.
    """

    def __init__(self, position: Position = BEGINNING) -> None:
        self._buffer = bytearray()
        self.position = position
        self.before = position  # of the part that was given last
        self.ended = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the file."""
        if not self.ended:  # after the end there is only the footer
            self._buffer += data

    def __iter__(self) -> Iterator[Part | Chunks]:
        while (part := self.next()) is not None:
            yield part

    def next(self) -> Part | Chunks | None:
        """Return the next whole part, skipping what may be skipped, or None."""
        if self.position.offset == 0:
            if len(self._buffer) < len(MAGIC):
                return None
            if self._buffer[: len(MAGIC)] != MAGIC:
                raise RejectedError("this is not a bundle, or one of a newer version")
            del self._buffer[: len(MAGIC)]
            self.position = Position(len(MAGIC), START)
        while not self.ended and len(self._buffer) >= PREFIX.size:
            length, code = PREFIX.unpack_from(self._buffer)
            if not 1 <= length <= PART_MAX:
                raise self._damaged(f"a part of {length} bytes")
            stop = 4 + length
            if len(self._buffer) < stop:
                return None
            part = self._take(code, stop)
            if part is not None:
                return part
        return None

    def _take(self, code: int, stop: int) -> Part | Chunks | None:
        part: Part | Chunks | None = None
        with memoryview(self._buffer) as view, view[:stop] as data:
            if code == RUN:
                part = self._chunks(data)
            elif not code & SKIPPABLE:
                part = self._array(code, bytes(data[PREFIX.size :]))
            digest = advance(self.position.digest, data)
        self.before = self.position
        self.position = Position(self.position.offset + stop, digest)
        self.ended = isinstance(part, End)
        del self._buffer[: len(self._buffer) if self.ended else stop]
        if (self.before.offset == len(MAGIC)) != isinstance(part, Head):
            raise self._damaged("the head is not the first part")
        return part

    def _array(self, code: int, body: bytes) -> Part:
        decoder = _DECODERS.get(code)
        if decoder is None:
            raise self._damaged(f"a part of unknown type {code}: it needs a newer version")
        try:
            return canonical.decode(body, decoder)
        except RejectedError as error:
            raise self._damaged(str(error)) from error

    def _chunks(self, data: memoryview) -> Chunks:
        start = PREFIX.size + RUN_LENGTH.size
        if len(data) < start:
            raise self._damaged("a truncated part")
        start += RUN_LENGTH.unpack_from(data, PREFIX.size)[0]
        if len(data) < start or len(data) - start > RAW_MAX:
            raise self._damaged("chunks that are truncated or too large")
        run = self._array(RUN, bytes(data[PREFIX.size + RUN_LENGTH.size : start]))
        assert isinstance(run, Run)  # what RUN decodes to
        return Chunks(run.first, run.count, bytes(data[start:]))

    def _damaged(self, why: str) -> RejectedError:
        return RejectedError(f"the bundle is damaged at byte {self.position.offset}: {why}")


def end_offset(footer: bytes) -> int:
    """Where the End part is, by the last bytes of a file.  Raises RejectedError."""
    if len(footer) < FOOTER.size:
        raise RejectedError("the bundle is truncated")
    offset, magic = FOOTER.unpack(footer[-FOOTER.size :])
    if magic != FOOTER_MAGIC:
        raise RejectedError("the bundle is truncated")
    return int(offset)
