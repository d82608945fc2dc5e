"""The chunk decoder, alone and against h11's."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.http.asgi import RejectedRequestError
from node.http.chunks import LINE_SIZE_MAX, ChunkDecoder


def decode(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """Return body and rest; the rest is None if the end has not come."""
    decoder, body, rest = ChunkDecoder(trailer_size_max=1000), b"", b""
    for piece in pieces:
        if decoder.complete:
            rest += piece
        else:
            body += decoder.feed(piece)
    return body, decoder.rest + rest if decoder.complete else None


def decode_with_h11(data: bytes) -> tuple[bytes, bytes | None]:
    parser, body = h11.Connection(h11.SERVER), b""
    parser.receive_data(b"PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    while True:
        event = parser.next_event()
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body, parser.trailing_data[0]
        elif event is h11.NEED_DATA:
            return body, None


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    points = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(points) if a < b]


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
CUTS = st.lists(st.integers(0, 500), max_size=10)


@given(CHUNKS, st.binary(max_size=9), CUTS, st.sampled_from([b"", b"A: b\r\n", b"A:\r\nB: c\r\n"]))
def test_a_body_is_the_same_however_it_is_cut(
    chunks: list[bytes], after: bytes, cuts: list[int], trailer: bytes
) -> None:
    framed = b"".join(b"%X \r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    data = framed + b"000\r\n" + trailer + b"\r\n" + after
    assert decode(split(data, cuts)) == (b"".join(chunks), after)


FRAGMENTS = st.sampled_from(
    [
        b"0",
        b"1",
        b"a",
        b"5",
        b"\r\n",
        b"\r",
        b"\n",
        b";x",
        b" ",
        b"abcde",
        b"\0",
        b"X: y",
        b"-",
        b"+1",
    ]
)


@given(st.lists(FRAGMENTS, max_size=12).map(b"".join), CUTS)
def test_what_we_take_h11_takes_alike(data: bytes, cuts: list[int]) -> None:
    """A decoder that another reader disagrees with is how requests are smuggled."""
    try:
        ours = decode(split(data, cuts))
    except RejectedRequestError:
        return
    if ours[1] is not None:
        assert decode_with_h11(data) == ours


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b" 1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"-1\r\na\r\n",
        b"+1\r\na\r\n",
        b"1_0\r\n",
        b"11111111111111111\r\n",
        b"1\na\r\n0\r\n\r\n",
        b"1;\n\r\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na\rX",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nX: a\nY: b\r\n\r\n",
        b"1" * (LINE_SIZE_MAX + 1),
        b"1;" + b"x" * LINE_SIZE_MAX,
    ],
)
def test_malformed_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(RejectedRequestError) as refusal:
        decode([data])
    assert refusal.value.status == 400


def test_trailers_are_bounded() -> None:
    with pytest.raises(RejectedRequestError) as refusal:
        decode([b"0\r\n", *[b"X: %b\r\n" % (b"y" * 100)] * 10])
    assert refusal.value.status == 431


def test_the_middle_of_a_chunk_is_not_copied() -> None:
    decoder, piece = ChunkDecoder(trailer_size_max=0), bytes(1000)
    decoder.feed(b"1000\r\n")
    assert decoder.feed(piece) is piece
