"""When to dial whom.  Pure.  Spec: docs/mesh.md §5; design.md ruling 16."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

BUSY_INTERVAL = 0.5  # seconds between dials while work is pending for the peer
ATTEMPTS_MAX = 16  # dials to one peer under way: each is a fresh socket, none waits for its RTO
AT_ONCE = 0.2  # seconds, jittered, so that two nodes that lose each other do not dial in step
BACKOFF_MIN = 1.0  # seconds
BACKOFF_MAX = 300.0  # seconds between dials to a peer nobody needs
HELD_AGAIN = 600.0  # seconds without a fault, after which the next pause is the shortest again
STAGGER = 1.0  # seconds that one address has before the next is tried beside it
# Of an outage so far.  Who cannot be dialled back cannot say that it is needed either: what a pause
# adds to an outage is in proportion to it, and a flapping link is taken up within a second.
BACKOFF_SHARE = 0.03
# Both sides of a link that came up may be dialling.  Of two links that cross, the one that the
# smaller id dialled stays, so that side lets its own dials run on for a moment: were both to call
# theirs off for the other's, both links would end, and the same could happen again and again.
CROSSING = 3.0  # seconds
DEFERENCE = 1.0  # seconds that the node with the larger id lets the other one dial first


@dataclass(slots=True)
class Dial:
    """One peer that is not linked."""

    next_at: float
    since: float  # when it was lost, or last heard of
    attempts: int = 0  # under way
    last_error: str = ""
    turn: int = 0  # which of its addresses comes next
    choices: int = 1  # how many it has


@dataclass(slots=True)
class Held:
    """A peer whose connection ended by a fault of ours."""

    until: float
    pause: float


@dataclass(slots=True)
class Dialling:
    """Every peer that is not linked."""

    node: bytes
    rng: random.Random
    dials: dict[bytes, Dial] = field(default_factory=dict[bytes, Dial])
    held: dict[bytes, Held] = field(default_factory=dict[bytes, Held])

    def want(self, peer: bytes, now: float) -> Dial:
        """Begin to dial a peer, the smaller id first."""
        if peer not in self.dials:
            wait = 0.0 if self.node < peer else DEFERENCE * (0.5 + self.rng.random())
            self.dials[peer] = Dial(now + wait, now)
        return self.dials[peer]

    def drop(self, peer: bytes) -> None:
        """It is linked, or no member any more."""
        self.dials.pop(peer, None)

    def heard(self, peer: bytes, now: float) -> None:
        """Something was heard of the peer, or it was just lost: try at once."""
        dial = self.want(peer, now)
        dial.since = now
        dial.next_at = min(dial.next_at, now + AT_ONCE * self.rng.random())

    def hold(self, peer: bytes, now: float) -> None:
        """A fault of ours ended a connection: neither side dials for a while, longer each time.

        Who has found a fault must not be able to keep us busy with it.
        """
        was = self.held.get(peer)
        again = was is not None and now < was.until + HELD_AGAIN
        pause = min(BACKOFF_MAX, 2 * was.pause) if was is not None and again else BACKOFF_MIN
        for node in [n for n, each in self.held.items() if now >= each.until + HELD_AGAIN]:
            del self.held[node]
        self.held[peer] = Held(now + pause, pause)

    def is_held(self, peer: bytes, now: float) -> bool:
        """Tell whether a peer is kept away."""
        return self._held_until(peer) > now

    def _held_until(self, peer: bytes) -> float:
        held = self.held.get(peer)
        return -math.inf if held is None else held.until

    def begin(self, peer: bytes, now: float, *, busy: bool, choices: int = 1) -> Dial:
        """A dial begins, to the next of its addresses.

        While there is work, the next dial does not wait for the end of this one; without, every
        address is tried, STAGGER apart, before there is a pause.
        """
        dial = self.dials[peer]
        dial.attempts += 1
        dial.turn += 1
        dial.choices = max(1, choices)
        if busy:
            dial.next_at = now + self._busy_pause()
        else:
            dial.next_at = math.inf if _round_over(dial) else now + STAGGER
        return dial

    def failed(self, peer: bytes, error: str, now: float, *, busy: bool) -> None:
        """A dial came to nothing: short pauses while there is work, and after short outages."""
        dial = self.dials.get(peer)
        if dial is None:
            return
        dial.attempts, dial.last_error = max(0, dial.attempts - 1), error
        if busy:
            dial.next_at = min(dial.next_at, now + self._busy_pause())
        elif not _round_over(dial):
            dial.next_at = min(dial.next_at, now)
        elif not dial.attempts:
            dial.next_at = now + pause_after(now - dial.since) * (0.5 + self.rng.random() / 2)

    def _busy_pause(self) -> float:
        return BUSY_INTERVAL * (0.5 + self.rng.random() / 2)

    def hurry(self, now: float) -> None:
        """Work has come up: nobody waits longer than the busy interval."""
        for dial in self.dials.values():
            dial.next_at = min(dial.next_at, now + BUSY_INTERVAL * self.rng.random())

    def due(self, now: float) -> list[bytes]:
        """Return whom to dial now."""
        return [
            peer
            for peer, dial in self.dials.items()
            if dial.next_at <= now and _free(dial) and not self.is_held(peer, now)
        ]

    def deadline(self) -> float | None:
        """Return when somebody is due."""
        waiting = [
            max(dial.next_at, self._held_until(peer))
            for peer, dial in self.dials.items()
            if _free(dial)
        ]
        found = min(waiting, default=math.inf)
        return None if found == math.inf else found


def pause_after(outage: float) -> float:
    """Return how long to wait between dials while there is no work, in seconds."""
    return min(BACKOFF_MAX, max(BUSY_INTERVAL, BACKOFF_SHARE * outage))


def _round_over(dial: Dial) -> bool:
    """Tell whether every address has had its turn."""
    return dial.turn % dial.choices == 0


def _free(dial: Dial) -> bool:
    return dial.attempts < ATTEMPTS_MAX
