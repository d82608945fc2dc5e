"""Hybrid logical clocks: wall time that never runs backwards and orders what saw each other.

A timestamp is milliseconds since 1970 shifted left by 16, plus a counter.
Spec: Kulkarni et al., "Logical Physical Clocks" (2014), with one word instead of two.
"""

from __future__ import annotations

COUNTER_BITS = 16
AHEAD_MAX = 600.0  # seconds; a record from further in the future is held, not applied


def stamp(seconds: float) -> int:
    """The smallest timestamp of a moment (seconds since 1970)."""
    return int(seconds * 1000) << COUNTER_BITS


def seconds(hlc: int) -> float:
    """The wall time of a timestamp, in seconds since 1970."""
    return (hlc >> COUNTER_BITS) / 1000


def tick(last: int, now: float) -> int:
    """The next timestamp after ``last``: the wall clock, or one more where that lags behind."""
    return max(last + 1, stamp(now))


def bound(now: float) -> int:
    """The largest timestamp that is believed at ``now``."""
    return stamp(now + AHEAD_MAX)
