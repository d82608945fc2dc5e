"""Hybrid logical clocks."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from store import hlc


@given(last=st.integers(0, 1 << 62), now=st.floats(0, 4e9))
def test_time_only_goes_forward(last: int, now: float) -> None:
    following = hlc.tick(last, now)
    assert following > last
    assert following >= hlc.stamp(now)
    assert following in {last + 1, hlc.stamp(now)}


def test_a_burst_within_a_millisecond_is_counted() -> None:
    first = hlc.tick(0, 1_700_000_000.0)
    assert [hlc.tick(first + n, 1_700_000_000.0) - first for n in range(3)] == [1, 2, 3]
    assert hlc.seconds(first) == 1_700_000_000.0


def test_ten_minutes_ahead_is_believed_and_more_is_not() -> None:
    assert hlc.stamp(1000.0 + 600.0) <= hlc.bound(1000.0) < hlc.stamp(1000.0 + 600.001)
