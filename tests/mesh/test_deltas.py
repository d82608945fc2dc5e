"""Which deltas are taken: bytes, time, and what came of earlier ones."""

from __future__ import annotations

import hashlib

import pytest

from mesh.deltas import (
    BAD_MAX,
    GRACE,
    TRIED_MAX,
    TRIES_MAX,
    Delta,
    Judge,
    Way,
    best,
    making,
    patience,
    seconds,
)
from mesh.download import Download
from mesh.wire import Decoder, encode

MB = 1_000_000
PEER = b"p" * 32


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def download(size: int = 10 * MB) -> Download:
    return Download(digest("new"), size, b"", False, 0.0)


def offer(name: str = "delta", size: int = MB) -> Delta:
    return Delta(digest("old"), digest(name), size)


@pytest.mark.parametrize(
    ("missing", "size", "rate", "metered", "takes"),
    [
        (10 * MB, 2 * MB, 1e6, False, True),
        (10 * MB, 9 * MB, 1e6, False, False),  # the gain is less than what it costs
        (10 * MB, 2 * MB, 1e9, False, False),  # on a fast link it would only take longer
        (10 * MB, 2 * MB, 1e9, True, True),  # unless bytes cost
        (MB // 10, 60_000, 1e4, True, False),  # too little to bother
        (MB, 2 * MB, 1e4, True, False),  # most of it is here
    ],
)
def test_when_it_pays(missing: int, size: int, rate: float, metered: bool, takes: bool) -> None:
    found = best(missing, [offer(size=size)], Way(rate, rate, metered))
    assert found == (offer(size=size) if takes else None)


def test_a_near_holder_of_the_whole_is_better_than_a_delta_from_afar() -> None:
    assert best(10 * MB, [offer()], Way(1e6, 1e6))
    assert not best(10 * MB, [offer()], Way(100e6, 1e6))


def test_work_is_weighed_against_bytes() -> None:
    plain, deep = offer("plain", 4 * MB), Delta(digest("old"), digest("deep"), MB, 40 * MB)
    thin, thick = Way(1e5, 1e5), Way(3e6, 3e6)
    for offers in ([plain, deep], [deep, plain]):
        assert best(10 * MB, offers, thin) == deep
        assert best(10 * MB, offers, thick) == plain
        assert best(10 * MB, offers, Way(3e6, 3e6, metered=True)) == deep


def test_offers_that_make_no_sense_are_not_considered() -> None:
    new = digest("new")
    sane = offer()
    offers = [
        sane,
        offer(size=0),
        offer(size=1 << 61),
        offer(size=10 * MB),
        Delta(digest("old"), digest("delta"), MB, 1 << 61),
        Delta(new, digest("delta"), MB),
        Delta(digest("old"), new, MB),
        Delta(digest("old"), digest("old"), MB),
    ]
    judge = Judge()
    assert judge.sane(PEER, download(), offers) == [sane]
    finishing = download()
    finishing.finishing = True
    assert judge.sane(PEER, finishing, offers) == []
    assert judge.sane(PEER, download(1 << 40), offers) == []


def test_what_was_tried_in_vain_is_tried_no_more_and_memory_is_bounded() -> None:
    judge = Judge()
    for _ in range(TRIES_MAX):
        assert len(judge.sane(PEER, download(), [offer(), offer("other")])) == 2
        judge.attempt(digest("new"), digest("delta"))
    assert judge.sane(PEER, download(), [offer(), offer("other")]) == [offer("other")]
    judge.attempt(digest("new"), digest("other"), TRIES_MAX)
    assert judge.sane(PEER, download(), [offer(), offer("other")]) == []
    for number in range(TRIED_MAX):
        judge.attempt(digest("new"), digest(str(number)))
    assert len(judge.tried) == TRIED_MAX


def test_a_peer_holds_a_blob_back_so_often_whatever_it_names() -> None:
    judge = Judge()
    for number in range(TRIES_MAX):
        assert judge.sane(PEER, download(), [offer(str(number))])
        judge.turn(PEER, digest("new"))
    assert judge.sane(PEER, download(), [offer("another")]) == []
    assert judge.sane(b"q" * 32, download(), [offer("another")])
    other = Download(digest("newer"), 10 * MB, b"", False, 0.0)
    assert judge.sane(PEER, other, [offer("another")])
    for number in range(TRIED_MAX):
        judge.turn(PEER, digest(str(number)))
    assert len(judge.turns) == TRIED_MAX


def test_a_delta_may_take_as_long_as_it_should_twice_and_not_longer_than_the_blob() -> None:
    fast, slow = Way(1e6, 1e6), Way(1e6, 1e3)
    assert patience(10 * MB, offer(), fast) == GRACE + 2 * seconds(10 * MB, offer(), fast)
    assert patience(10 * MB, offer(), slow) == GRACE + 10 + making(10 * MB, offer())


def test_a_liar_is_believed_no_more() -> None:
    judge = Judge()
    for _ in range(BAD_MAX):
        assert judge.sane(PEER, download(), [offer()])
        judge.blame(PEER)
    assert judge.sane(PEER, download(), [offer()]) == []
    assert judge.sane(b"q" * 32, download(), [offer()])


def test_who_does_not_know_the_message_skips_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from mesh import wire
    from mesh.deltas import Deltas
    from mesh.messages import Forget

    frames = encode(Deltas(digest("new"), (offer(),))) + encode(Forget(digest("new")))
    decoder = Decoder()
    decoder.feed(frames)
    assert [type(each).__name__ for each in decoder] == ["Deltas", "Forget"]
    monkeypatch.setattr(wire, "ALL", {k: v for k, v in wire.ALL.items() if v is not Deltas})
    decoder.feed(frames)
    assert [type(each).__name__ for each in decoder] == ["Forget"]
