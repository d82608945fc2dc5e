"""Canonical MessagePack: one value, one byte string, so that ids can be recomputed anywhere.

The subset (design.md ruling 5): nil, booleans, integers, UTF-8 strings, binary and arrays, each in
its shortest form; no maps, floats or extensions.  A message is an array that begins with an integer
tag.  Ids and signatures always cover the bytes as received; re-encoding only *checks* them.

Spec: MessagePack <https://github.com/msgpack/msgpack/blob/master/spec.md>.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from store.errors import RejectedError

DEPTH_MAX = 8  # arrays within arrays; a body needs five
SKIPPABLE = 0x80  # tags with this bit are skipped undecoded by those who do not know them
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # hostile bytes raise all 3

T = TypeVar("T")
encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class UnknownTagError(RejectedError):
    """A tag that must not be skipped, from a newer version than ours."""


def _plain(value: Any, depth: int) -> bool:
    """Whether a decoded value holds nothing but the subset."""
    kind = type(value)
    if kind is list:
        return depth > 0 and all(_plain(item, depth - 1) for item in value)
    return value is None or kind in (int, str, bytes, bool)


def parse(data: bytes) -> list[Any]:
    """Decode one array, untyped.  Raises RejectedError for anything that is not canonical."""
    try:
        value = _decode(data)
    except MALFORMED as error:
        raise RejectedError("not MessagePack") from error
    if type(value) is not list or not _plain(value, DEPTH_MAX):
        raise RejectedError("not an array of plain values")
    if encode(value) != data:
        raise RejectedError("not in canonical form")
    return value


def decode(data: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    """Decode a message of a known type, elements that a newer version appended being ignored.

    Raises RejectedError unless the bytes are the canonical form of what they say.
    """
    try:
        value = decoder.decode(data)
    except MALFORMED as error:
        raise RejectedError(f"malformed message: {error}"[:200]) from error
    if encode(value) != data:  # longer or shorter than our version of the type: still canonical?
        parse(data)
    return value
