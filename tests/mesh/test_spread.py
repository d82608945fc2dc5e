"""What many want leaves a busy uplink once; who had it is named, once."""

from __future__ import annotations

from mesh.messages import Message, Nope, Redirect, Want
from mesh.serving import LOOK_CHUNKS, Piece, Serving
from mesh.spread import BLOBS_MAX, CONTENTION, KEEP, Spread

BLOB, MANIFEST = b"b" * 32, b"m" * 32
SIZE = 64 * 1024
ONE, TWO, THREE = (bytes([n]) * 32 for n in (1, 2, 3))
RATE = 4 * SIZE / CONTENTION  # four waiting first copies make an uplink contended


def queue(*runs: int) -> Serving:
    serving = Serving()
    serving.received(Want(1, BLOB, MANIFEST, runs, SIZE, 0, 2))
    return serving


def length(_blob: bytes, _manifest: bytes, index: int) -> int | None:
    return SIZE if index < 100 else None


def take(
    spread: Spread, peer: bytes, serving: Serving, *others: Serving, rate: float = RATE
) -> Message | Piece | None:
    said = spread.next(peer, serving, [serving, *others], rate, length, 1.0)
    if isinstance(said, Piece):
        spread.sent(peer, said, 1.0)
    return said


def test_a_second_copy_yields_while_others_wait_for_first_ones() -> None:
    spread, busy = Spread(), queue(20, 40)
    first = take(spread, ONE, queue(0, 1), busy)
    assert isinstance(first, Piece)
    again = queue(0, 2)
    said = take(spread, TWO, again, busy)
    assert said == Redirect(1, (ONE,), (0, 1))
    rest = take(spread, TWO, again, busy)
    assert isinstance(rest, Piece)
    assert (rest.first, rest.count) == (1, 1)
    assert rest.last


def test_who_comes_again_is_served() -> None:
    spread, busy = Spread(), queue(20, 40)
    take(spread, ONE, queue(0, 1), busy)
    assert isinstance(take(spread, TWO, queue(0, 1), busy), Redirect)
    assert isinstance(take(spread, TWO, queue(0, 1), busy), Piece)
    assert isinstance(take(spread, ONE, queue(0, 1), busy), Piece)  # it lost what it had, perhaps


def test_nothing_is_refused_where_the_uplink_is_not_the_narrow_place() -> None:
    spread = Spread()
    take(spread, ONE, queue(0, 1))
    assert isinstance(take(spread, TWO, queue(0, 1), queue(20, 22)), Piece)  # little waits
    assert isinstance(take(spread, TWO, queue(0, 1), queue(20, 40), rate=0.0), Piece)  # unknown
    assert isinstance(take(spread, THREE, queue(0, 1), queue(0, 1)), Piece)  # no first copies wait


def test_what_only_a_lost_peer_had_is_a_first_copy_again() -> None:
    spread, busy = Spread(), queue(20, 40)
    take(spread, ONE, queue(0, 1), busy)
    spread.forget(ONE)
    assert isinstance(take(spread, TWO, queue(0, 1), busy), Piece)


def test_what_was_sent_long_ago_counts_no_more() -> None:
    spread, busy = Spread(), queue(20, 40)
    take(spread, ONE, queue(0, 1), busy)
    serving = queue(0, 1)
    said = spread.next(TWO, serving, [serving, busy], RATE, length, 2.0 + KEEP)
    assert isinstance(said, Piece)


def test_memory_is_bounded() -> None:
    spread = Spread()
    for number in range(BLOBS_MAX + 10):
        blob = number.to_bytes(32, "big")
        spread.sent(ONE, Piece(1, blob, MANIFEST, 0, 1, last=True), float(number))
    assert len(spread.blobs) == BLOBS_MAX


def test_absurd_requests_cost_little() -> None:
    spread, absurd = Spread(), queue(0, 1 << 22)
    take(spread, ONE, queue(0, 1), absurd)
    said = take(spread, TWO, absurd, queue(20, 40))
    assert isinstance(said, Redirect)
    assert said.runs == (0, 1)
    assert absurd.bytes_beyond({BLOB: 0}) <= LOOK_CHUNKS * SIZE
    rest = [take(spread, TWO, absurd, queue(20, 40)) for _ in range(200)]
    assert any(isinstance(each, Nope) for each in rest)  # beyond the end of the blob
    assert rest[-1] is None
