"""How often others hear of a blob that is on its way."""

from __future__ import annotations

import pytest

from mesh import bits
from mesh.download import Download
from mesh.finding import HAVE_INTERVAL, HAVE_MIN, pace
from tests.mesh.world import blob

COUNT = 1000
HELD = blob(COUNT)[0]
RATE = 1e6


def under_way(have: int, now: float) -> Download:
    """Return a blob that was begun at 100 and comes at about RATE."""
    download = Download(HELD.blob.raw, HELD.size, HELD.id, True, 90.0)
    download.take_manifest(HELD)
    download.open, download.opened_at, download.have = True, 100.0, bits.full(have)
    for step in range(100):
        download.meter.add(int(RATE / 10), now - 10 + step / 10)
    return download


def test_news_are_told_at_once_at_the_beginning_and_seldom_in_the_middle() -> None:
    assert pace(under_way(0, 100.0), 100.0) == HAVE_MIN
    assert pace(under_way(10, 100.5), 100.5) == pytest.approx(0.05)
    assert pace(under_way(COUNT // 2, 130.0), 130.0) == HAVE_INTERVAL


def test_news_are_told_soon_again_near_the_end() -> None:
    left = int(0.4 * RATE / (HELD.size / COUNT))  # chunks of the last 0.4 s
    assert pace(under_way(COUNT - left, 130.0), 130.0) == pytest.approx(0.04, rel=0.15)
    assert pace(under_way(COUNT, 130.0), 130.0) == HAVE_MIN
    still = under_way(COUNT - left, 130.0)
    assert pace(still, 190.0) == HAVE_INTERVAL  # nothing has come for a minute
