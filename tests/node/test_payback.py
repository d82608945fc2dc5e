"""What deltas may cost, and where they are left alone."""

from __future__ import annotations

import pytest

from node.payback import CHANCES, FAMILIES_MAX, REST, REST_MAX, SAVED_MAX, SHARE, Allowance, Payback


def test_what_is_spent_comes_back_at_a_steady_rate() -> None:
    allowance = Allowance()
    assert allowance.wait(0.0) == 0
    allowance.spend(SAVED_MAX + 60, 0.0)
    assert allowance.wait(0.0) == pytest.approx(60 / SHARE)
    assert allowance.wait(30 / SHARE) == pytest.approx(30 / SHARE)
    assert allowance.wait(61 / SHARE) == 0
    assert allowance.spent == SAVED_MAX + 60


def test_no_more_is_saved_up_than_may_be_and_a_day_has_its_bound() -> None:
    allowance, day, done = Allowance(), 86400.0, 0.0
    now = 10 * day
    allowance.wait(0.0)
    while allowance.wait(now) + now < 11 * day:
        now += allowance.wait(now)
        allowance.spend(50, now)
        done += 50
    assert SHARE * day <= done <= SHARE * day + SAVED_MAX + 50


def test_what_did_not_pay_rests_ever_longer_and_comes_back() -> None:
    payback, now = Payback(), 0.0
    for _ in range(CHANCES - 1):
        payback.note("p", now, paid=False)
        assert not payback.resting("p", now)
    for times in range(3):
        payback.note("p", now, paid=False)
        assert payback.resting("p", now + REST * 2**times - 1)
        now += REST * 2**times
        assert not payback.resting("p", now)
    assert not payback.resting("q", 0.0)
    for _ in range(20):
        payback.note("p", now, paid=False)
    assert payback.resting("p", now + REST_MAX - 1)
    assert not payback.resting("p", now + REST_MAX)


def test_one_that_paid_clears_the_rest() -> None:
    payback = Payback()
    for _ in range(5):
        payback.note("p", 0.0, paid=False)
    payback.note("p", 0.0, paid=True)
    assert not payback.resting("p", 0.0)
    for _ in range(CHANCES):
        assert not payback.resting("p", 0.0)
        payback.note("p", 0.0, paid=False)
    assert payback.resting("p", REST - 1)
    assert not payback.resting("p", REST)


def test_memory_is_bounded() -> None:
    payback = Payback()
    for number in range(FAMILIES_MAX + 5):
        for _ in range(CHANCES):
            payback.note(str(number), 0.0, paid=False)
    assert len(payback) == FAMILIES_MAX
    assert not payback.resting("0", 0.0)
