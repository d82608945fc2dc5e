"""What comes, measured against what was asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeGuard

import pytest

from mesh import messages as m
from mesh.asking import Asking, average
from mesh.beliefs import OPEN, PeerBelief
from mesh.download import ASK_AGAIN, LIE_PAUSE, LIES_MAX, Download, Holder
from mesh.effects import DropBulk, Effect, TellBulk, Write
from mesh.receiving import DRY_MAX, Receiving
from mesh.requests import Requests
from mesh.scheduler import Ask
from tests.mesh.world import CHUNK, blob

HELD, CONTENT = blob(8)
RAW = HELD.blob.raw
P, Q = b"p" * 32, b"q" * 32


class Desk:
    """One blob, two peers that have all of it."""

    def __init__(self) -> None:
        self.peers = {peer: PeerBelief(peer, linked=True, bulk=OPEN) for peer in (P, Q)}
        download = Download(RAW, HELD.size, HELD.id, authenticated=True, started=0.0)
        download.take_manifest(HELD)
        download.open, download.local = True, 1
        self.download = download
        self.requests = Requests(self.peers, {RAW: download})
        rng = random.Random(1)
        self.asking = Asking(b"me", self.peers, {RAW: download}, self.requests, rng)
        self.receiving = Receiving(self.peers, {RAW: download}, self.requests, self.asking)

    def ask(self, peer: bytes, *chunks: int) -> int:
        (effect,) = self.requests.issue(
            self.download, Ask(peer, chunks, len(chunks) * CHUNK), now=0.0
        )
        assert isinstance(effect, TellBulk)
        assert isinstance(effect.message, m.Want)
        return effect.message.request

    def data(self, request: int, first: int, count: int = 1) -> m.Data:
        return m.Data(request, first, count, CONTENT[first * CHUNK : (first + count) * CHUNK])


def test_what_was_asked_is_written_and_no_longer_awaited() -> None:
    desk = Desk()
    request = desk.ask(P, 2, 3)
    (effect,) = desk.receiving.received(P, desk.data(request, 2, 2), 0.1)
    assert effect == Write(RAW, P, 2, 2, CONTENT[2 * CHUNK : 4 * CHUNK])
    assert desk.peers[P].outstanding == 0
    assert desk.requests.pending == {}


@pytest.mark.parametrize(
    "answer",
    [
        m.Data(1, 5, 1, CONTENT[5 * CHUNK : 6 * CHUNK]),
        m.Data(1, 2, 1, b"too short"),
        m.Data(77, 2, 1, CONTENT[2 * CHUNK : 3 * CHUNK]),
        m.Data(1, 4000, 96, b""),
    ],
)
def test_what_was_not_asked_is_a_strike(answer: m.Data) -> None:
    desk = Desk()
    desk.ask(P, 2)
    effects = desk.receiving.received(P, answer, 0.1)
    assert not any(isinstance(effect, Write) for effect in effects)
    assert desk.peers[P].strikes == 1


def test_nobody_answers_for_somebody_else() -> None:
    desk = Desk()
    request = desk.ask(P, 2)
    assert desk.receiving.received(Q, desk.data(request, 2), 0.1) == []
    assert desk.peers[Q].strikes == 1
    assert request in desk.requests.pending


def test_the_loser_of_a_race_is_called_off_and_not_blamed() -> None:
    desk = Desk()
    slow, fast = desk.ask(P, 4), desk.ask(Q, 4)
    effects = desk.receiving.received(Q, desk.data(fast, 4), 0.1)
    assert TellBulk(P, m.Cancel(slow)) in effects
    desk.receiving.received(P, desk.data(slow, 4), 0.2)
    assert desk.peers[P].strikes == 0
    assert desk.peers[P].wasted == CHUNK


def test_who_is_called_off_is_asked_for_something_else_at_once() -> None:
    """Also when the winner owes so much that nothing can be asked of it."""
    desk = Desk()
    for peer in (P, Q):
        desk.download.holders[peer] = Holder(m.COMPLETE, HELD.size, HELD.id)
    slow, fast = desk.ask(P, 4), desk.ask(Q, 4)
    desk.peers[Q].outstanding += 10**7
    effects = desk.receiving.received(Q, desk.data(fast, 4), 0.1)
    assert TellBulk(P, m.Cancel(slow)) in effects
    assert [each.peer for each in effects if asks(each)] == [P]


def busy() -> Desk:
    """One source, with room for two chunks, which is too little for what nobody waits for."""
    desk = Desk()
    desk.download.holders[Q] = Holder(m.COMPLETE, HELD.size, HELD.id)
    belief = desk.peers[Q]
    belief.rate.add(5_000_000, 1.0, 0.0)
    belief.outstanding = belief.source(0, CHUNK).room - 2 * CHUNK
    return desk


def nobody_reads(_: Desk) -> int:
    return 0


def someone_reads(desk: Desk) -> int:
    desk.download.readers = (3,)
    return 1


def someone_further_on_reads(desk: Desk) -> int:
    desk.download.local = 0
    return 1


def what_is_read_is_on_its_way(desk: Desk) -> int:
    desk.ask(Q, 3)
    desk.download.readers = (3,)
    return 0


@pytest.mark.parametrize("news", ["told", "arrived"])
@pytest.mark.parametrize(
    "who", [nobody_reads, someone_reads, someone_further_on_reads, what_is_read_is_on_its_way]
)
def test_little_room_is_worth_a_request_for_who_waits(
    who: Callable[[Desk], int], news: str
) -> None:
    desk = busy()
    wanted = who(desk)
    if news == "told":
        effects = desk.asking.heard(Q, desk.download, 0.1, freed=False)
    else:
        effects = desk.asking.arrived(desk.peers[Q], desk.download, 0.1)
    assert len([each for each in effects if asks(each)]) == wanted


def test_who_awaits_chunks_no_longer_leaves_them_to_those_with_room() -> None:
    desk = busy()
    desk.download.holders[P] = Holder(m.COMPLETE, HELD.size, HELD.id)
    effects = desk.asking.heard(Q, desk.download, 0.1, freed=True)
    assert P in [each.peer for each in effects if asks(each)]


def asks(effect: Effect) -> TypeGuard[TellBulk]:
    return isinstance(effect, TellBulk) and isinstance(effect.message, m.Want)


def test_two_strikes_end_the_bulk_socket() -> None:
    desk = Desk()
    assert list(desk.receiving.blame(P, "one", 0.0)) == []
    desk.ask(P, 1)
    (effect,) = desk.receiving.blame(P, "two", 0.0)
    assert effect == DropBulk(P, "two")
    assert desk.requests.pending == {}


def test_refusals_free_the_chunks_for_others() -> None:
    desk = Desk()
    for peer in (P, Q):
        desk.download.holders[peer] = Holder(m.COMPLETE, HELD.size, HELD.id)
    desk.peers[Q].bulk = OPEN
    request = desk.ask(P, *range(8))
    effects = desk.receiving.received(P, m.Nope(request, m.GONE), 0.1)
    asked = [e.peer for e in effects if isinstance(e, TellBulk)]
    assert set(asked) == {Q}
    assert "had not" in desk.peers[P].notes[-1]
    assert desk.download.holders[P].again_at == pytest.approx(0.1 + ASK_AGAIN)
    desk.receiving.received(Q, m.Busy(next(iter(desk.requests.pending)), 700), 0.2)
    assert desk.peers[Q].usable(0.3)  # only what nobody waits for is put off
    assert desk.peers[Q].background_until == pytest.approx(0.9)
    desk.download.priority = m.URGENT
    again = desk.ask(Q, *range(8))
    desk.receiving.received(Q, m.Busy(again, 700), 0.2)
    assert not desk.peers[Q].usable(0.8)
    assert desk.peers[Q].usable(1.0)


def test_who_could_not_give_the_manifest_counts_again_once_it_says_what_it_has() -> None:
    desk = Desk()
    holder = desk.download.holders[P] = Holder(m.COMPLETE, HELD.size, HELD.id, answered=True)
    for lies in range(1, LIES_MAX + 1):
        desk.download.asked_pages = {0: (P, 3.0), 1: (P, 3.0), 2: (Q, 3.0)}
        desk.receiving.no_manifest(desk.download, P, 0.1)
        assert desk.download.asked_pages == {2: (Q, 3.0)}  # one answer stands for all pages
        assert holder.lies == lies
        assert not desk.download.usable_holder(holder)
        assert not holder.gives
        assert not holder.answered
        assert holder.again_at == pytest.approx(0.1 + ASK_AGAIN)
        holder.state, holder.answered = m.COMPLETE, True  # as it says anew
        assert desk.download.usable_holder(holder) is (lies < LIES_MAX)
    holder.forgive(0.1 + LIE_PAUSE)
    assert desk.download.usable_holder(holder)
    assert "had it not" in desk.peers[P].notes[-1]
    assert desk.peers[P].strikes == 0


def test_another_manifest_is_tried_when_nobody_gives_by_the_one_on_hearsay() -> None:
    desk = Desk()
    download, other = desk.download, bytes(32)
    download.holders[P] = Holder(m.COMPLETE, HELD.size, HELD.id, answered=True)
    download.holders[Q] = Holder(m.COMPLETE, HELD.size, other, answered=True)
    request = desk.ask(P, 2)
    assert list(desk.receiving.reconsider(download, 1.0)) == []  # a record vouches for it
    download.authenticated = False
    assert list(desk.receiving.reconsider(download, 1.0)) == []  # P gives
    desk.peers[P].banned_until = 9.0
    assert list(desk.receiving.reconsider(download, 1.0)) == [TellBulk(P, m.Cancel(request))]
    assert download.manifest is None
    assert download.manifest_id == other
    assert not download.refused
    assert list(desk.receiving.reconsider(download, 1.0)) == []


def test_who_waits_for_the_rest_by_a_made_up_manifest_keeps_nobody_from_another() -> None:
    """Two that believed it hold the same chunks, each in the hope of the other."""
    desk = Desk()
    download, other = desk.download, bytes(32)
    download.authenticated, download.have = False, 0b11
    download.holders[P] = Holder(m.PARTIAL, HELD.size, HELD.id, chunks=0b111, answered=True)
    download.holders[Q] = Holder(m.COMPLETE, HELD.size, other, answered=True)
    assert list(desk.receiving.reconsider(download, 1.0)) == []  # P has something new
    download.have = 0b111
    assert list(desk.receiving.reconsider(download, 2.0)) == []  # more may come to P
    download.holders[P].chunks = 0b1111
    assert list(desk.receiving.reconsider(download, 3.0)) == []
    download.have = 0b1111
    assert list(desk.receiving.reconsider(download, 4.0)) == []
    assert list(desk.receiving.reconsider(download, 3.9 + DRY_MAX)) == []
    assert download.manifest_id == HELD.id
    assert list(desk.receiving.reconsider(download, 4.0 + DRY_MAX)) == []
    assert download.manifest_id == other, "although as many name the first"


def test_a_manifest_on_hearsay_that_never_comes_gives_way_to_another() -> None:
    desk = Desk()
    download, other = Download(RAW, 7, bytes(32), authenticated=False, started=0.0), HELD.id
    download.holders[P] = Holder(m.COMPLETE, 7, bytes(32), answered=True)
    download.holders[Q] = Holder(m.PARTIAL, HELD.size, other, answered=True)
    download.asked_pages, download.tried = {0: (P, 3.0)}, True
    assert list(desk.receiving.reconsider(download, 1.0)) == []
    download.early = b"a page"
    assert list(desk.receiving.reconsider(download, 5.0)) == []
    assert list(desk.receiving.reconsider(download, 4.9 + DRY_MAX)) == []
    assert download.manifest_id == bytes(32)
    assert list(desk.receiving.reconsider(download, 5.0 + DRY_MAX)) == []
    assert (download.manifest_id, download.size) == (other, HELD.size)
    assert (download.holders[P].vain, download.holders[Q].vain) == (1, 0)
    assert not any(holder.bad for holder in download.holders.values())


def test_a_manifest_tried_in_vain_has_longer_the_next_time() -> None:
    """Who is only slow would otherwise never bring a chunk before the turn of the next."""
    desk = Desk()
    download = Download(RAW, HELD.size, HELD.id, authenticated=False, started=0.0)
    download.holders[P] = Holder(m.COMPLETE, HELD.size, HELD.id, answered=True, vain=2)
    download.holders[Q] = Holder(m.COMPLETE, 7, bytes(32), answered=True, vain=2)
    list(desk.receiving.reconsider(download, 1.0))
    list(desk.receiving.reconsider(download, 0.9 + 4 * DRY_MAX))
    assert download.manifest_id == HELD.id
    list(desk.receiving.reconsider(download, 1.0 + 4 * DRY_MAX))
    assert download.manifest_id == bytes(32)


def test_who_was_never_tried_has_its_turn_after_ten_seconds() -> None:
    desk = Desk()
    download = Download(RAW, HELD.size, HELD.id, authenticated=False, started=0.0)
    download.holders[P] = Holder(m.COMPLETE, HELD.size, HELD.id, answered=True, vain=6)
    download.holders[Q] = Holder(m.COMPLETE, 7, bytes(32), answered=True)
    list(desk.receiving.reconsider(download, 1.0))
    list(desk.receiving.reconsider(download, 1.0 + DRY_MAX))
    assert download.manifest_id == bytes(32)
    assert download.holders[P].vain == 6, "nothing was asked for by its manifest"


def test_the_average_chunk() -> None:
    assert average(Desk().download) == CHUNK
