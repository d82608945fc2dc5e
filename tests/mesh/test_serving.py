"""The queue of one peer's wants."""

from __future__ import annotations

import pytest

from mesh import messages as m
from mesh.serving import CREDIT_INITIAL, REQUESTS_MAX, RUNS_MAX, Piece, Serving
from store.errors import RemoteProtocolError

SIZE = 65536


def want(request: int, *runs: int, group: int = SIZE, priority: int = 0) -> m.Want:
    return m.Want(request, b"b" * 32, b"m" * 32, runs, group, 0, priority)


def length(_blob: bytes, _manifest: bytes, index: int) -> int | None:
    return SIZE if index < 100 else None


def drain(serving: Serving) -> list[tuple[int, int, int, bool]]:
    found = []
    while isinstance(piece := serving.next(length), Piece):
        found.append((piece.request, piece.first, piece.count, piece.last))
    return found


def test_runs_are_cut_into_groups() -> None:
    serving = Serving()
    serving.received(want(1, 0, 3, 7, 8, group=2 * SIZE))
    assert drain(serving) == [(1, 0, 2, False), (1, 2, 1, False), (1, 7, 1, True)]
    assert len(serving) == 0


def test_the_urgent_goes_first_and_the_cancelled_not_at_all() -> None:
    serving = Serving()
    serving.received(want(1, 0, 2, priority=2))
    serving.received(want(2, 5, 6, priority=0))
    serving.received(want(3, 9, 10, priority=1))
    serving.received(m.Cancel(3))
    assert [request for request, *_ in drain(serving)] == [2, 1, 1]


def test_what_is_not_here_is_refused_and_never_silent() -> None:
    serving = Serving()
    serving.received(want(1, 98, 102, group=4 * SIZE))
    assert isinstance(serving.next(length), Piece)
    assert serving.next(length) == m.Nope(1, m.GONE)


def test_credit_bounds_what_is_sent() -> None:
    serving = Serving()
    for request in range(8):
        serving.received(want(request, 0, 64, group=1 << 20))
    assert sum(count for _, _, count, _ in drain(serving)) * SIZE == CREDIT_INITIAL
    serving.received(m.Credit(1 << 20))
    assert sum(count for _, _, count, _ in drain(serving)) * SIZE == 1 << 20


def test_a_peer_that_asks_for_too_much_is_put_off() -> None:
    serving = Serving()
    for request in range(REQUESTS_MAX):
        assert serving.received(want(request, 0, 1)) == []
    assert serving.received(want(9999, 0, 1)) == [m.Busy(9999, 500)]


@pytest.mark.parametrize("runs", [(), (1,), (3, 3), (5, 2)])
def test_senseless_wants_break_the_rules(runs: tuple[int, ...]) -> None:
    with pytest.raises(RemoteProtocolError):
        Serving().received(want(1, *runs))


def test_the_runs_a_peer_may_queue_are_bounded() -> None:
    serving = Serving()
    runs = tuple(range(4096))
    answers = [serving.received(want(number, *runs)) for number in range(20)]
    assert sum(not each for each in answers) == RUNS_MAX // 2048
    assert all(isinstance(each[0], m.Busy) for each in answers if each)
