"""How often others hear of a blob that is on its way."""

from __future__ import annotations

import pytest

from mesh import bits
from mesh.beliefs import PeerBelief
from mesh.download import LIES_MAX, Download
from mesh.finding import HASTY_MAX, HAVE_EACH, HAVE_INTERVAL, HAVE_MIN, Finding, due
from mesh.messages import COMPLETE, PARTIAL, Bitfield, HaveBlob
from tests.mesh.world import blob

COUNT = 1000
HELD = blob(COUNT)[0]
RATE = 1e6
P = b"p" * 32


def under_way(have: int, now: float) -> Download:
    """Return a blob that was begun at 100 and comes at about RATE."""
    download = Download(HELD.blob.raw, HELD.size, HELD.id, True, 90.0)
    download.take_manifest(HELD)
    download.open, download.opened_at, download.have = True, 100.0, bits.full(have)
    for step in range(100):
        download.meter.add(int(RATE / 10), now - 10 + step / 10)
    return download


def after(download: Download, now: float, told: int = 1) -> float:
    """Return for how long its news are gathered, for so many peers."""
    download.told_at = now
    peers = [bytes([number]) for number in range(told)]
    steps = (step / 1000 for step in range(1, 102))
    return next(step for step in steps if due(download, peers, now + step))


def test_news_are_told_at_once_at_the_beginning_and_seldom_in_the_middle() -> None:
    assert after(under_way(0, 100.0), 100.0) == HAVE_MIN
    assert after(under_way(10, 100.5), 100.5) == pytest.approx(0.055, abs=0.003)
    assert after(under_way(COUNT // 2, 130.0), 130.0) == HAVE_INTERVAL


def test_news_are_told_soon_again_near_the_end() -> None:
    left = int(0.4 * RATE / (HELD.size / COUNT))  # chunks of the last 0.4 s
    assert after(under_way(COUNT - left, 130.0), 130.0) == pytest.approx(0.04, rel=0.15)
    assert after(under_way(COUNT, 130.0), 130.0) == HAVE_MIN
    still = under_way(COUNT - left, 130.0)
    assert after(still, 190.0) == HAVE_INTERVAL  # nothing has come for a minute


def test_news_cost_no_more_for_a_crowd_and_are_hasty_a_few_times_only() -> None:
    assert after(under_way(0, 100.0), 100.0, told=8) == pytest.approx(8 * HAVE_EACH)
    assert after(under_way(0, 100.0), 100.0, told=100) == HAVE_INTERVAL
    assert after(under_way(0, 100.0), 100.0, told=0) == HAVE_INTERVAL
    finding, download = Finding(b"me", {}, {}), under_way(0, 100.0)
    now = download.told_at = 100.0
    for chunk in range(COUNT):  # it would go on like this for as long as it looks like the end
        now += HAVE_MIN
        download.opened_at = now - 0.01
        download.news = 1 << chunk
        if due(download, [b"p"], now):
            list(finding.news(download, 0, now))
    assert download.hasty == HASTY_MAX
    assert now > 100.0 + HASTY_MAX * HAVE_MIN


def test_what_costs_by_the_size_of_a_blob_is_not_done_for_every_chunk() -> None:
    download = under_way(0, 100.0)
    download.told_at = 100.0
    download.have = None  # type: ignore[assignment]  # would fail if looked at
    for millisecond in range(20):
        assert not due(download, [b"p"], 100.0 + millisecond / 1001)


def test_nothing_new_does_not_put_off_what_comes_next() -> None:
    finding, download = Finding(b"me", {}, {}), under_way(COUNT // 2, 130.0)
    download.told_at = 100.0
    list(finding.news(download, 0, 130.0))
    assert due(download, [b"p"], 130.01)


def test_the_chunks_of_one_manifest_are_none_of_another() -> None:
    """A relay that turned to ours was asked for what it had by the other, and counted as a liar."""
    finding, download = Finding(b"me", {b"p": PeerBelief(b"p")}, {}), under_way(0, 100.0)
    raw, size, other = HELD.blob.raw, HELD.size, bytes(32)
    download.manifest_id = other
    finding.hear_have_blob(download, b"p", HaveBlob(raw, PARTIAL, size, other))
    finding.hear_chunks(download, b"p", Bitfield(raw, other, 0, b"\xff"), 100.0)
    holder = download.holders[b"p"]
    finding.hear_have_blob(download, b"p", HaveBlob(raw, PARTIAL, size, other))
    assert holder.chunks == bits.full(8)
    download.manifest_id = HELD.id
    finding.hear_have_blob(download, b"p", HaveBlob(raw, PARTIAL, size, HELD.id))
    assert download.chunks_of(holder) == 0
    finding.hear_chunks(download, b"p", Bitfield(raw, HELD.id, 8, b"\xff"), 100.0)
    assert download.chunks_of(holder) == bits.span(8, 16)
    download.manifest_id = other
    finding.hear_chunks(download, b"p", Bitfield(raw, other, 0, b"\xff"), 100.0)
    assert download.chunks_of(holder) == bits.full(8)


def test_whose_link_drops_does_not_let_us_wait() -> None:
    download = Download(HELD.blob.raw, HELD.size, HELD.id, True, 90.0)
    finding = Finding(b"me", {}, {HELD.blob.raw: download})
    download.asked_pages = {0: (b"p", 3.0), 1: (b"q", 3.0)}
    download.lapsed_pages = {(b"p", 1), (b"q", 0)}
    finding.unlinked(b"p")
    assert list(download.pages_wanted()) == [0], "of another, at once"
    assert download.lapse(3.0) == {b"q"}
    assert not download.expects(1, b"p")


def test_who_believed_a_wrong_manifest_may_come_to_the_right_one() -> None:
    """One that has proved wrong is held against whoever names it, and only for as long."""
    download = under_way(0, 100.0)
    finding = Finding(b"me", {P: PeerBelief(P, linked=True)}, {HELD.blob.raw: download})
    wrong = b"w" * 32

    def says(manifest: bytes) -> bool:
        said = HaveBlob(HELD.blob.raw, COMPLETE, HELD.size, manifest)
        finding.hear_have_blob(download, P, said)
        return not download.holders[P].bad

    assert says(wrong)
    download.refused.add(wrong)
    download.holders[P].bad = True
    assert not says(wrong)
    assert says(HELD.id)
    assert not says(wrong)
    download.holders[P].lies = LIES_MAX
    download.holders[P].bad = False
    download.holders[P].lied(100.0)
    assert not says(HELD.id)  # that it often had not what it named is another matter
