"""Rate limits: token buckets in memory, bounded in number."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from store.errors import TooManyRequestsError

KEYS_MAX = 8192
KEY_LENGTH_MAX = 64  # characters; clients choose some keys, so longer ones are kept as a digest


class RateLimit:
    """At most ``burst`` events at once and ``burst / period`` a second after, per key."""

    def __init__(self, burst: float, period: float, what: str) -> None:
        if burst < 1 or period <= 0:
            raise ValueError("a rate limit lets at least one event pass")
        self._burst, self._rate, self._what = burst, burst / period, what
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> None:
        """Count one event.  Raises TooManyRequestsError with the seconds to wait."""
        key, level = self._level(key, now)
        self._put(key, level, now)
        self._judge(level)
        self._put(key, level - 1.0, now)

    def check(self, key: str, now: float) -> None:
        """Raise TooManyRequestsError if ``take`` would, and count nothing."""
        self._judge(self._level(key, now)[1])

    def forgive(self, key: str) -> None:
        """Forget what was counted: the login was right."""
        self._buckets.pop(_short(key), None)

    def _level(self, key: str, now: float) -> tuple[str, float]:
        key = _short(key)
        level, at = self._buckets.get(key, (self._burst, now))
        return key, min(self._burst, level + (now - at) * self._rate)

    def _judge(self, level: float) -> None:
        if level < 1.0:
            raise TooManyRequestsError(f"too many {self._what}", (1.0 - level) / self._rate)

    def _put(self, key: str, level: float, now: float) -> None:
        self._buckets[key] = (level, now)
        self._buckets.move_to_end(key)
        while len(self._buckets) > KEYS_MAX:
            self._buckets.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Rates:
    """What a caller, or an address, may do in a minute, whichever way it asks."""

    writes: RateLimit
    searches: RateLimit


def _short(key: str) -> str:
    if len(key) <= KEY_LENGTH_MAX:
        return key
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
