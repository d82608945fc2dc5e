"""When a link is pinged, and what its answers tell.  Pure.

Spec: docs/mesh.md §5.
"""

from __future__ import annotations

import math

from mesh.messages import Ping, Pong
from mesh.profile import RttEstimator

PING_IDLE = 5.0  # seconds without a byte from the peer, until it is pinged
PING_STALE = 10.0  # seconds between pings at most: whose own wait in a queue lives by the peer's
PING_BUSY = 1.0  # seconds between pings while work is pending
PINGS_MAX = 32  # unanswered pings remembered


class Pings:
    """The pings of one side of a link, and the round trip that they measured."""

    def __init__(self, now: float) -> None:
        self.rtt = RttEstimator()
        self._at = now
        self._count = 0
        self._unanswered: dict[int, float] = {}

    def begin(self) -> None:
        """The handshake is through: measure at once."""
        self._at = -math.inf

    def due(self, heard: float, *, quick: bool, listening: bool) -> float:
        """Return when to ping.  ``heard`` is when the last byte came.

        A quiet link needs it from one side only, and the dialler comes first.
        """
        if quick:
            return self._at + PING_BUSY
        quiet = 1.5 * PING_IDLE if listening else PING_IDLE
        return min(max(self._at + PING_IDLE, heard + quiet), self._at + PING_STALE)

    def ping(self, now: float, backlog: float) -> Ping:
        """Make the next ping.  ``backlog`` is how many seconds our uplink's queue takes."""
        self._count += 1
        self._at = self._unanswered[self._count] = now
        while len(self._unanswered) > PINGS_MAX:
            del self._unanswered[next(iter(self._unanswered))]
        return Ping(self._count, int(now * 1e6), int(backlog * 1000))

    def answered(self, pong: Pong, now: float) -> bool:
        """Take a round trip.  Return whether it was one: False for what nobody asked."""
        sent = self._unanswered.pop(pong.nonce, None)
        if sent is not None:
            self.rtt.add(now - sent, now)
        return sent is not None
