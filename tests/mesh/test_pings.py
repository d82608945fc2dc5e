"""When a link is pinged."""

from __future__ import annotations

import pytest

from mesh.messages import Pong
from mesh.pings import PING_BUSY, PING_IDLE, PING_STALE, PINGS_MAX, Pings


def test_an_answer_counts_once() -> None:
    pings = Pings(0.0)
    sent = pings.ping(1.0, 0.25)
    assert (sent.sent_us, sent.backlog_ms) == (1_000_000, 250)
    pong = Pong(sent.nonce, sent.sent_us, 0)
    assert pings.answered(pong, 1.5)
    assert pings.rtt.smoothed == pytest.approx(0.5)
    assert not pings.answered(pong, 9.0)
    assert not pings.answered(Pong(77, 0, 0), 9.0)
    assert pings.rtt.smoothed == pytest.approx(0.5)


def test_what_is_never_answered_is_forgotten() -> None:
    pings = Pings(0.0)
    first = pings.ping(0.0, 0.0)
    for number in range(PINGS_MAX):
        pings.ping(float(number), 0.0)
    assert not pings.answered(Pong(first.nonce, 0, 0), 40.0)


def test_a_new_link_is_measured_at_once() -> None:
    pings = Pings(5.0)
    pings.begin()
    assert pings.due(5.0, quick=False, listening=True) <= 5.0
    pings.ping(5.0, 0.0)
    assert pings.due(5.0, quick=False, listening=False) == 5.0 + PING_IDLE


def test_who_was_heard_is_pinged_later_but_not_never() -> None:
    pings = Pings(0.0)
    pings.ping(10.0, 0.0)
    for listening, quiet in ((False, PING_IDLE), (True, 1.5 * PING_IDLE)):
        assert pings.due(5.0, quick=False, listening=listening) == 10.0 + PING_IDLE
        assert pings.due(12.0, quick=False, listening=listening) == 12.0 + quiet
        assert pings.due(99.0, quick=False, listening=listening) == 10.0 + PING_STALE
        assert pings.due(99.0, quick=True, listening=listening) == 10.0 + PING_BUSY
