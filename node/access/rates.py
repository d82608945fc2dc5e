"""Rate limits: token buckets in memory, bounded in number."""

from __future__ import annotations

from collections import OrderedDict

from store.errors import TooManyRequestsError

KEYS_MAX = 8192


class RateLimit:
    """At most ``burst`` events at once and ``burst / period`` a second after, per key."""

    def __init__(self, burst: float, period: float, what: str) -> None:
        self._burst, self._rate, self._what = burst, burst / period, what
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> None:
        """Count one event.  Raises TooManyRequestsError with the seconds to wait."""
        level, at = self._buckets.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        if level < 1.0:
            self._buckets[key] = (level, now)
            raise TooManyRequestsError(f"too many {self._what}", (1.0 - level) / self._rate)
        self._buckets[key] = (level - 1.0, now)
        while len(self._buckets) > KEYS_MAX:
            self._buckets.popitem(last=False)

    def forgive(self, key: str) -> None:
        """Forget what was counted: the login was right."""
        self._buckets.pop(key, None)
