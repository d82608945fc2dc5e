"""Who may send chunks next, and how long the rest must wait.  Pure.  Spec: docs/mesh.md §9.

One node has one uplink, and many peers that want something through it.  Each gets its turn by how
much it has had (deficit round-robin with unequal pieces), weighted by how much its request matters;
a cap, if there is one, is a token bucket.  Without a cap TCP shares, and every turn comes at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.profile import RateEstimator

WEIGHTS = (8, 4, 2, 2, 1)  # by Want.priority: of 9 bytes, 8 for a waiting client, 1 for a courier
BURST = 0.1  # seconds of the cap that may go at once after a pause
FORFEIT = 0.05  # seconds a peer may be late for its turn before the next one has it
SAMPLE = 0.25  # seconds of a busy uplink that make one sample of its rate


@dataclass(slots=True)
class Uplink:
    """The turns at the uplink of one node.  ``cap`` in bytes per second; 0 is none."""

    cap: float = 0.0
    rate: RateEstimator = field(default_factory=RateEstimator)
    sent_total: int = 0
    _tokens: float = 0.0
    _at: float = 0.0
    _had: dict[bytes, float] = field(default_factory=dict[bytes, float])
    _floor: float = 0.0
    _waiting: dict[bytes, float] = field(default_factory=dict[bytes, float])
    _busy_since: float | None = None
    _busy_sent: int = 0

    def wait(self, peer: bytes, now: float) -> float:
        """Return 0 if it is the peer's turn, else in how many seconds to ask again."""
        if not self.cap:
            return 0.0
        self._refill(now)
        if self._tokens < 0:
            pause = -self._tokens / self.cap
            self._waiting[peer] = now + pause
            return max(pause, 1e-3)
        self._waiting[peer] = now
        for late in [p for p, due in self._waiting.items() if now > due + FORFEIT]:
            del self._waiting[late]
        first = min(self._waiting, key=lambda p: (self._had.get(p, 0.0), p))
        if first == peer:
            return 0.0
        return FORFEIT / 5

    def sent(self, peer: bytes, size: int, priority: int, now: float) -> None:
        """The peer was sent a piece."""
        self.sent_total += size
        self._busy_sent += size
        if not self.cap:
            return
        self._refill(now)
        self._tokens -= size
        self._waiting.pop(peer, None)
        begin = max(self._had.get(peer, 0.0), self._floor)
        self._floor = begin  # who was away has no claim to what it did not ask for meanwhile
        self._had[peer] = begin + size / WEIGHTS[priority]

    def forget(self, peer: bytes) -> None:
        """The peer is gone."""
        self._waiting.pop(peer, None)
        self._had.pop(peer, None)

    def backlog(self, queued: int, now: float) -> float:
        """Return in how many seconds ``queued`` bytes would be gone; call it now and then.

        The uplink's rate is what left while there was always something to send.
        """
        if not queued:
            self._busy_since = None
            return 0.0
        if self._busy_since is None:
            self._busy_since, self._busy_sent = now, 0
        elif now - self._busy_since >= SAMPLE:
            self.rate.add(self._busy_sent, now - self._busy_since, now)
            self._busy_since, self._busy_sent = now, 0
        return queued / self.known if self.known > 0 else 0.0

    @property
    def known(self) -> float:
        """The rate of the uplink in bytes per second, 0 while unknown."""
        return self.cap or (self.rate.average if self.rate.measured else 0.0)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._tokens + self.cap * (now - self._at), self.cap * BURST)
        self._at = now
