"""Token buckets: how many, how soon again, and how much memory."""

from __future__ import annotations

import pytest

from node.access import rates
from node.access.rates import RateLimit
from store.errors import TooManyRequestsError


def test_a_burst_passes_and_then_a_steady_trickle() -> None:
    limit = RateLimit(3, 30.0, "tries")
    for _ in range(3):
        limit.take("a", 0.0)
    with pytest.raises(TooManyRequestsError, match="tries") as caught:
        limit.take("a", 0.0)
    assert caught.value.retry_after == pytest.approx(10.0)
    limit.take("b", 0.0)
    limit.take("a", 10.0)
    with pytest.raises(TooManyRequestsError):
        limit.take("a", 19.0)


def test_checking_counts_nothing() -> None:
    limit = RateLimit(1, 30.0, "tries")
    for _ in range(5):
        limit.check("a", 0.0)
    limit.take("a", 0.0)
    with pytest.raises(TooManyRequestsError):
        limit.check("a", 0.0)
    limit.forgive("a")
    limit.check("a", 0.0)


def test_memory_is_bounded_in_keys_and_in_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked for a user name may send a megabyte of it."""
    monkeypatch.setattr(rates, "KEYS_MAX", 10)
    limit = RateLimit(2, 30.0, "tries")
    for number in range(50):
        limit.take(f"{number}" + "x" * 1_000_000, 0.0)
    assert len(limit._buckets) == 10
    assert sum(map(len, limit._buckets)) < 1000
    limit.take("49" + "x" * 1_000_000, 0.0)
    with pytest.raises(TooManyRequestsError):
        limit.take("49" + "x" * 1_000_000, 0.0)


def test_a_limit_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        RateLimit(0, 60.0, "writes")
