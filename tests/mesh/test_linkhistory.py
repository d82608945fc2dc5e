"""What a link was like over days."""

from __future__ import annotations

import pytest

from mesh.linkhistory import BLINK, OUTAGES_MAX, SEGMENTS_MIN, STEP_MAX, LinkHistory


def test_each_hour_of_the_day_has_its_own_availability() -> None:
    history = LinkHistory()
    assert history.availability() is None
    for _ in range(60):
        history.look(5.0, 3, up=True)
        history.look(5.0, 4, up=False)
    assert history.availability(3) == pytest.approx(1.0)
    assert history.availability(4) == pytest.approx(0.0)
    assert history.availability(5) is None
    assert history.availability() == pytest.approx(0.5)


def test_the_present_outweighs_last_month() -> None:
    history = LinkHistory()
    for up in (False, True):
        for _ in range(30 * 60):
            history.look(60.0, 7, up=up)
    found = history.availability(7)
    assert found is not None
    assert found > 0.9


def test_a_machine_that_slept_has_seen_nothing() -> None:
    history = LinkHistory()
    history.look(8 * 3600.0, 2, up=True)
    assert history.seen[2] == STEP_MAX


def test_outages_are_measured_and_replaced_links_are_none() -> None:
    history = LinkHistory()
    history.came(0.0)
    for length in (8.0, BLINK / 2, 2.0, 30.0):
        history.went(100.0)
        history.went(101.0)  # told twice
        history.came(100.0 + length)
    assert history.outage_count == 3
    assert (history.outage_usual, history.outage_longest) == (8.0, 30.0)
    for _ in range(2 * OUTAGES_MAX):
        history.went(0.0)
        history.came(1.0)
    assert len(history.outages) == OUTAGES_MAX


def test_loss_is_what_tcp_sends_again() -> None:
    history = LinkHistory()
    history.counted(0, 0)
    assert history.loss is None
    history.counted(1, SEGMENTS_MIN // 2)  # too few to tell
    assert history.loss is None
    history.counted(10, 1000)
    assert history.loss == pytest.approx(0.01)
    history.counted(0, 10)  # another socket: count afresh
    history.counted(5, 510)
    assert history.loss == pytest.approx(0.01)
