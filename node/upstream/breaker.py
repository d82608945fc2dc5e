"""When not to ask an upstream: it is down, or asked us to wait, or has its share already.  Pure.

Only failures to answer count (no connection, a timeout, 5xx): a missing file says nothing about
the upstream's health.  After some in a row the circuit opens, briefly at first; then one request is
let through as a probe, and its fate decides.  So a short hiccup costs a second, not minutes.
"""

from __future__ import annotations

FAILURES_MAX = 4  # in a row, before the circuit opens
PAUSE, PAUSE_MAX = 1.0, 60.0  # seconds that it stays open: doubled for each failed probe
WAIT_MAX = 600.0  # seconds that an upstream may ask us to stay away


class Breaker:
    """The circuit of one upstream.  ``now`` is monotonic, in seconds."""

    def __init__(self) -> None:
        self.failures = 0
        self._until = 0.0
        self._pause = PAUSE
        self._probe_until = 0.0

    def state(self, now: float) -> str:
        """``closed``, ``open`` or ``half-open``, as people are told."""
        if now < self._until:
            return "open"
        return "half-open" if self.failures >= FAILURES_MAX else "closed"

    def admits(self, now: float, *, patience: float = 30.0) -> bool:
        """Tell whether a request may go out now; a half-open circuit admits one at a time.

        A probe that never reports holds its place for ``patience`` seconds at most.
        """
        if now < self._until:
            return False
        if self.failures >= FAILURES_MAX:
            if now < self._probe_until:
                return False
            self._probe_until = now + patience
        return True

    def wait(self, now: float) -> float:
        """Seconds until it is worth asking again."""
        return max(0.0, max(self._until, self._probe_until) - now)

    def succeeded(self) -> None:
        """Note that the upstream answered, whatever it said."""
        self.failures, self._pause, self._until, self._probe_until = 0, PAUSE, 0.0, 0.0

    def failed(self, now: float) -> None:
        """Note that it did not."""
        self.failures += 1
        self._probe_until = 0.0
        if self.failures >= FAILURES_MAX:
            self._until = max(self._until, now + self._pause)
            self._pause = min(PAUSE_MAX, 2 * self._pause)

    def told_to_wait(self, now: float, seconds: float) -> None:
        """Note a Retry-After."""
        self._until = max(self._until, now + min(max(seconds, PAUSE), WAIT_MAX))


class Pace:
    """At most ``rate`` requests a second, a second's worth of them at once; 0: any number."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = 0.0

    def delay(self, now: float) -> float:
        """Take a place; return how many seconds to wait for it."""
        if self._rate <= 0:
            return 0.0
        begin = max(self._next, now - 1.0)
        self._next = begin + 1.0 / self._rate
        return max(0.0, begin - now)
