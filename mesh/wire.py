"""Mesh wire codec: bytes in, messages out.  No sockets, no clock.  Spec: docs/mesh.md §2.

A frame is ``u32 length, u8 type, array``; Data alone is ``u32 length, u8 type, u16 header length,
array, raw bytes`` (design.md ruling 6).  Arrays are in the canonical subset of ruling 5: what does
not re-encode to the same bytes is refused, so that nothing can be said in two ways.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, TypeVar

import msgspec

from mesh.cargo import CARGO
from mesh.copies import COPIES
from mesh.deltas import DELTAS
from mesh.messages import TYPES, ChunkIndex, Count, Data, Message
from mesh.neighbourhood import NEIGHBOURHOOD
from store.errors import LocalProtocolError, RemoteProtocolError

CONTROL_FRAME_MAX = 64 * 1024  # bytes after the length field
CHUNK_MAX = 1024 * 1024  # the largest chunk, and the largest payload of one Data
BULK_FRAME_MAX = CHUNK_MAX + 64 * 1024
SKIPPABLE = 0x80  # types with this bit may be ignored by who does not know them

T = TypeVar("T")
LENGTH = struct.Struct("!I")
HEAD = struct.Struct("!IB")
HEADER_LENGTH = struct.Struct("!H")
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)

ALL = {**TYPES, **COPIES, **CARGO, **NEIGHBOURHOOD, **DELTAS}
CODES = {kind: code for code, kind in ALL.items()}
DECODERS = {code: msgspec.msgpack.Decoder(kind) for code, kind in ALL.items()}
DATA = CODES[Data]
_encode = msgspec.msgpack.Encoder().encode
_decode_any = msgspec.msgpack.Decoder().decode


class _Header(msgspec.Struct, array_like=True, frozen=True):
    """Data without its payload."""

    request: Count
    first: ChunkIndex
    count: Annotated[int, msgspec.Meta(ge=1, le=4096)]


_header_decoder = msgspec.msgpack.Decoder(_Header)


def encode(message: Message) -> bytes:
    """Frame one message.  Raises LocalProtocolError if it exceeds what a peer accepts."""
    code = CODES[type(message)]
    if isinstance(message, Data):
        return b"".join(encode_data(message))
    body = _encode(message)
    if len(body) >= CONTROL_FRAME_MAX:
        raise LocalProtocolError(f"{type(message).__name__} of {len(body)} bytes")
    return HEAD.pack(len(body) + 1, code) + body


def encode_data(message: Data) -> tuple[bytes, bytes]:
    """Frame a Data without copying its payload: send both parts, in order."""
    if len(message.raw) > CHUNK_MAX:
        raise LocalProtocolError(f"Data of {len(message.raw)} bytes")
    header = _encode(_Header(message.request, message.first, message.count))
    length = 1 + HEADER_LENGTH.size + len(header) + len(message.raw)
    return HEAD.pack(length, DATA) + HEADER_LENGTH.pack(len(header)) + header, message.raw


def decode_body(code: int, body: bytes) -> Message:
    """Read one message's array.  Raises RemoteProtocolError."""
    decoder = DECODERS.get(code)
    if decoder is None:
        raise RemoteProtocolError(f"unknown message type {code}")
    return _canonical(decoder, body)


def _canonical(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    """Decode, and refuse what is not canonical.  Elements at the end may be missing or more."""
    try:
        message = decoder.decode(body)
        if _encode(message) != body:
            value = _decode_any(body)
            if _encode(value) != body or not _plain(value):
                raise RemoteProtocolError("array is not canonical")
    except MALFORMED as error:
        raise RemoteProtocolError(f"undecodable message: {error}") from error
    return message


def _plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | str | bytes)


class Decoder:
    """Reassemble messages, however the network chopped them: ``feed()``, then iterate.

    A bad frame raises RemoteProtocolError; framing is lost with it, so drop the link.  At most one
    frame and what one ``feed`` brought is held.
    """

    def __init__(self, frame_max: int = CONTROL_FRAME_MAX) -> None:
        self.frame_max = frame_max
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they arrived."""
        self._buffer += data

    @property
    def pending(self) -> int:
        """Bytes of an incomplete frame."""
        return len(self._buffer)

    def rest(self) -> bytes:
        """Give up what has not been decoded: what follows is no longer framed."""
        left = bytes(self._buffer)
        self._buffer.clear()
        return left

    def __iter__(self) -> Iterator[Message]:
        while (message := self.next()) is not None:
            yield message

    def next(self) -> Message | None:
        """Return the next complete message, skipping what may be skipped, or None."""
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if not 1 <= length <= self.frame_max:
                raise RemoteProtocolError(f"frame of {length} bytes")
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return None
            code = self._buffer[LENGTH.size]
            known = code in ALL or not code & SKIPPABLE
            message = self._decode(code, end) if known else None
            del self._buffer[:end]
            if message is not None:
                return message
        return None

    def _decode(self, code: int, end: int) -> Message:
        with memoryview(self._buffer) as view:
            if code == DATA:
                return _decode_data(view[HEAD.size : end])
            return decode_body(code, bytes(view[HEAD.size : end]))


def _decode_data(frame: memoryview) -> Data:
    if len(frame) < HEADER_LENGTH.size:
        raise RemoteProtocolError("truncated Data")
    (length,) = HEADER_LENGTH.unpack_from(frame)
    start = HEADER_LENGTH.size + length
    if len(frame) < start or len(frame) - start > CHUNK_MAX:
        raise RemoteProtocolError("truncated or oversize Data")
    header = _canonical(_header_decoder, bytes(frame[HEADER_LENGTH.size : start]))
    return Data(header.request, header.first, header.count, bytes(frame[start:]))
