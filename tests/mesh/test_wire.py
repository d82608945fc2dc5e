"""The codec under friendly and hostile bytes."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import copies as c
from mesh import messages as m
from mesh.wire import BULK_FRAME_MAX, CONTROL_FRAME_MAX, Decoder, encode
from store.errors import LocalProtocolError, RemoteProtocolError

ids = st.binary(min_size=32, max_size=32)
counts = st.integers(0, (1 << 62) - 1)
indexes = st.integers(0, m.CHUNKS_MAX)
samples: dict[type[m.Message], st.SearchStrategy[Any]] = {
    m.Challenge: st.builds(m.Challenge, counts, st.binary(min_size=16, max_size=64)),
    m.Ping: st.builds(m.Ping, counts, counts, counts),
    m.Heads: st.builds(
        m.Heads,
        st.lists(st.builds(m.Head, ids, counts, counts, ids), max_size=5).map(tuple),
        counts,
        ids,
    ),
    m.Records: st.builds(m.Records, ids, counts, counts, st.booleans(), st.binary(max_size=500)),
    m.Find: st.builds(
        m.Find, ids, counts, ids, st.integers(0, 8), st.lists(ids, max_size=8).map(tuple)
    ),
    m.Have: st.builds(m.Have, ids, ids, st.lists(indexes, max_size=20).map(tuple)),
    m.Data: st.builds(m.Data, counts, indexes, st.integers(1, 4096), st.binary(max_size=3000)),
    m.Nope: st.builds(m.Nope, counts, counts),
    c.HoldingsPage: st.builds(c.HoldingsPage, st.integers(0, 255), counts, st.binary(max_size=99)),
    c.Released: st.builds(c.Released, counts, st.booleans()),
    c.Secure: st.builds(
        c.Secure, counts, ids, counts, counts, st.lists(ids, max_size=5).map(tuple)
    ),
}
messages = st.one_of(*samples.values())


def frame(code: int, body: bytes) -> bytes:
    return struct.pack("!IB", len(body) + 1, code) + body


@given(st.lists(messages, max_size=8), st.lists(st.integers(1, 200), max_size=40))
def test_any_split_gives_the_same_messages(sent: list[m.Message], cuts: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    decoder, received = Decoder(BULK_FRAME_MAX), []
    for cut in [*cuts, len(stream)]:
        decoder.feed(stream[:cut])
        stream = stream[cut:]
        received += list(decoder)
    assert received == sent
    assert decoder.pending == 0


@given(messages, st.data())
def test_mutated_frames_give_messages_or_the_one_error(message: m.Message, data: Any) -> None:
    stream = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 6))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    decoder = Decoder()
    decoder.feed(stream)
    try:
        for received in decoder:
            assert isinstance(received, m.Message)
    except RemoteProtocolError:
        pass


@given(st.sampled_from(sorted({**m.TYPES, **c.COPIES})), st.binary(max_size=400))
def test_arbitrary_bodies_give_messages_or_the_one_error(code: int, body: bytes) -> None:
    decoder = Decoder()
    decoder.feed(frame(code, body))
    with contextlib.suppress(RemoteProtocolError):
        list(decoder)


def test_a_deeply_nested_body_is_refused() -> None:
    decoder = Decoder()
    decoder.feed(frame(16, b"\x94\x01\x02\x03" + b"\x91" * 50_000 + b"\x01"))
    with pytest.raises(RemoteProtocolError):
        list(decoder)


def test_unknown_types_are_skipped_only_with_the_high_bit() -> None:
    decoder = Decoder()
    decoder.feed(frame(200, b"\xff not msgpack") + encode(m.OpenBulk()))
    assert list(decoder) == [m.OpenBulk()]
    decoder.feed(frame(110, b"\x90"))
    with pytest.raises(RemoteProtocolError, match="unknown message type 110"):
        list(decoder)


def test_appended_elements_are_ignored_and_loose_encodings_refused() -> None:
    decoder = Decoder()
    decoder.feed(frame(17, msgspec.msgpack.encode([7, 8, 9, "from the future", [1]])))
    assert list(decoder) == [m.Pong(7, 8, 9)]
    decoder.feed(frame(17, b"\x93\xcc\x07\x08\x09"))  # 7 in two bytes
    with pytest.raises(RemoteProtocolError):
        list(decoder)


@pytest.mark.parametrize("extra", [{"a": 1}, 1.5, float("nan")])
def test_maps_and_floats_are_refused_wherever_they_hide(extra: object) -> None:
    decoder = Decoder()
    decoder.feed(frame(17, msgspec.msgpack.encode([7, 8, 9, extra])))
    with pytest.raises(RemoteProtocolError):
        list(decoder)


@pytest.mark.parametrize("length", [0, CONTROL_FRAME_MAX + 1, 0xFFFFFFFF])
def test_impossible_lengths_are_refused_before_the_bytes_come(length: int) -> None:
    decoder = Decoder()
    decoder.feed(struct.pack("!I", length))
    with pytest.raises(RemoteProtocolError):
        list(decoder)


def test_an_oversize_message_of_ours_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError):
        encode(m.Have(b"b" * 32, b"m" * 32, tuple(range(1 << 40, (1 << 40) + 20_000))))
