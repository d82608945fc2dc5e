"""When to dial whom.  Pure.  Spec: docs/mesh.md §5; design.md ruling 16."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

BUSY_INTERVAL = 0.5  # seconds between dials while work is pending for the peer
BACKOFF_MIN = 1.0  # seconds
BACKOFF_MAX = 300.0  # seconds between dials to a peer nobody needs
DEFERENCE = 1.0  # seconds that the node with the larger id lets the other one dial first


@dataclass(slots=True)
class Dial:
    """One peer that is not linked."""

    next_at: float
    pause: float = BACKOFF_MIN
    dialling: bool = False
    failures: int = 0
    last_error: str = ""
    turn: int = 0  # which of its addresses comes next


@dataclass(slots=True)
class Dialling:
    """Every peer that is not linked."""

    node: bytes
    rng: random.Random
    dials: dict[bytes, Dial] = field(default_factory=dict[bytes, Dial])

    def want(self, peer: bytes, now: float) -> Dial:
        """Begin to dial a peer, the smaller id first."""
        if peer not in self.dials:
            wait = 0.0 if self.node < peer else DEFERENCE * (0.5 + self.rng.random())
            self.dials[peer] = Dial(now + wait)
        return self.dials[peer]

    def drop(self, peer: bytes) -> None:
        """It is linked, or no member any more."""
        self.dials.pop(peer, None)

    def heard(self, peer: bytes, now: float) -> None:
        """Something was heard of the peer: try at once."""
        dial = self.want(peer, now)
        dial.pause, dial.next_at = BACKOFF_MIN, min(dial.next_at, now)

    def failed(self, peer: bytes, error: str, now: float, *, busy: bool) -> None:
        """A dial came to nothing: decorrelated jitter, short while there is work."""
        dial = self.dials.get(peer)
        if dial is None:
            return
        dial.dialling, dial.last_error = False, error
        dial.failures += 1
        dial.turn += 1
        if busy:
            dial.next_at = now + BUSY_INTERVAL * (0.5 + self.rng.random() / 2)
        else:
            dial.pause = min(BACKOFF_MAX, BACKOFF_MIN + self.rng.random() * (3 * dial.pause))
            dial.next_at = now + dial.pause

    def hurry(self, now: float) -> None:
        """Work has come up: nobody waits longer than the busy interval."""
        for dial in self.dials.values():
            dial.next_at = min(dial.next_at, now + BUSY_INTERVAL * self.rng.random())

    def due(self, now: float) -> list[bytes]:
        """Return whom to dial now."""
        return [p for p, dial in self.dials.items() if dial.next_at <= now and not dial.dialling]

    def deadline(self) -> float | None:
        """Return when somebody is due."""
        waiting = [dial.next_at for dial in self.dials.values() if not dial.dialling]
        return min(waiting, default=None)
