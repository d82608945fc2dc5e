"""Request bodies, cut in every way a network can cut them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.http.asgi import RejectedRequestError
from node.http.body import RequestBody
from node.http.limits import Limits


class Pieces:
    """A stream that gives what it was given, a piece at a time, then ends."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if max_bytes is not None and len(piece) > max_bytes:
            self._pieces.insert(0, piece[max_bytes:])
        return piece[:max_bytes]


def make(pieces: list[bytes], length: int | None, size_max: int | None = None) -> RequestBody:
    body = RequestBody(Pieces(pieces[1:]), Limits(), pieces[0] if pieces else b"")
    body.expect(length, size_max)
    return body


async def everything(body: RequestBody) -> bytes:
    data = b""
    while not body.complete:
        data += await body.read()
    return data


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    points = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(points)]


def run(pieces: list[bytes], length: int | None) -> tuple[bytes, bytes]:
    async def main() -> tuple[bytes, bytes]:
        body = make(pieces, length)
        return await everything(body), body.ahead

    return trio.run(main)


@given(st.binary(max_size=300), st.binary(max_size=20), st.lists(st.integers(0, 400), max_size=8))
def test_a_sized_body_ends_where_it_says(data: bytes, after: bytes, cuts: list[int]) -> None:
    """What follows is the next request's, and is either kept or not even read."""
    found, ahead = run(cut(data + after, cuts), len(data))
    assert found == data
    assert after.startswith(ahead)


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    st.binary(max_size=20),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_a_chunked_body_is_joined(chunks: list[bytes], after: bytes, cuts: list[int]) -> None:
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    found, ahead = run(cut(framed + b"0\r\nTrailer: x\r\n\r\n" + after, cuts), None)
    assert found == b"".join(chunks)
    assert after.startswith(ahead)


async def test_a_body_cut_short_is_not_taken_for_whole() -> None:
    for length, pieces in ((5, [b"abc"]), (None, [b"5\r\nabc"])):
        with pytest.raises(trio.BrokenResourceError):
            await everything(make(pieces, length))


async def test_a_declared_length_over_the_bound_is_refused_unread() -> None:
    with pytest.raises(RejectedRequestError) as refusal:
        make([b"abc"], 3, size_max=2)
    assert refusal.value.status == 413


async def test_chunks_over_the_bound_are_refused() -> None:
    body = make([b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"], None, size_max=2)
    with pytest.raises(RejectedRequestError) as refusal:
        await everything(body)
    assert refusal.value.status == 413


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"z\r\n", 400), (b"1\r\nab", 400), (b"0\r\nbad trailer\r\n\r\n", 400)],
)
async def test_malformed_chunks_are_refused(data: bytes, status: int) -> None:
    with pytest.raises(RejectedRequestError) as refusal:
        await everything(make([data], None))
    assert refusal.value.status == status


async def test_trailers_without_end_are_refused() -> None:
    endless = [b"0\r\n", *[b"X: %b\r\n" % (b"y" * 1000)] * 40]
    with pytest.raises(RejectedRequestError) as refusal:
        await everything(make(endless, None))
    assert refusal.value.status == 431


async def test_what_is_left_is_known_unless_it_comes_in_chunks() -> None:
    sized, chunked = make([b"ab"], 5), make([b"0\r\n\r\n"], None)
    await sized.read()
    assert (sized.left, chunked.left) == (3, float("inf"))
    await chunked.read()
    assert chunked.left == 0
