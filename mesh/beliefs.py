"""What we believe of one peer as a source of chunks, and what it has done to us.  Pure.

Spec: docs/mesh.md §8 and §10.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mesh.limits import FREE, Terms
from mesh.linkhistory import LinkHistory
from mesh.profile import Meter, Outflow, RateEstimator, RttEstimator
from mesh.scheduler import WINDOW_MIN, Source, window

STRIKES_MAX = 2  # bad chunks before a peer is banned as a source of blobs
STALL_MIN = 2.0  # seconds without progress before a peer counts as stalled
YIELD = 0.1  # seconds of queue on a path from which on background traffic keeps back
BAN = 24 * 3600.0  # seconds
NOTES_MAX = 16  # remembered faults of one peer
FAILURES_MAX = 6
SAMPLE_MIN = 0.1  # seconds from one sample of a rate to the next
ELAPSED_MIN = 0.02  # seconds that a sample counts for at least: the first chunks may be a burst
FULL = 1.25  # round trips' worth outstanding from which on a path, not our asking, sets the rate
LAPSE_PAUSE = 30.0  # seconds that others are asked first for manifests, after it let us wait
LAPSE_PAUSE_MAX = 3600.0  # and at most: twice as long each time it did so after a pause
BULK_RETRY = (0.25, 0.5, 1.0, 2.0, 5.0)  # seconds before a bulk socket is tried again

ABSENT, OPENING, OPEN = 0, 1, 2  # PeerBelief.bulk


@dataclass(frozen=True, slots=True)
class Asked:
    """From when on chunks could come, and what their peer had delivered when they were asked."""

    at: float
    delivered: int


@dataclass(slots=True)
class PeerBelief:
    """One linked peer.  Survives the link, so that strikes and rates are not forgotten."""

    node: bytes
    site: str = ""
    rtt: RttEstimator = field(default_factory=RttEstimator)
    rate: RateEstimator = field(default_factory=RateEstimator)
    received: Meter = field(default_factory=Meter)
    linked: bool = False
    bulk: int = ABSENT
    bulk_retry_at: float = 0.0
    outstanding: int = 0
    sockets: int = 1  # that it sends chunks over: each has something to carry
    progress_at: float = 0.0  # when it last gave us something, or was asked after a pause
    delay: float = 0.0
    failures: int = 0
    snubbed: bool = False
    strikes: int = 0
    banned_until: float = 0.0
    busy_until: float = 0.0
    wasted: int = 0  # bytes that came twice, or wrong
    history: LinkHistory = field(default_factory=LinkHistory)
    outflow: Outflow = field(default_factory=Outflow)
    background_until: float = 0.0  # it puts off what nobody waits for until then
    recalled: bool = False  # its rate is known from a former life
    lapses: int = 0  # pauses that it earned by not answering in time
    lapsed_at: float = 0.0
    behind_until: float = 0.0
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=NOTES_MAX))
    _delivered: int = 0  # bytes that were asked for and came, ever
    _flows_from: float = 0.0  # the first bytes after a pause cannot come before
    _sampled_at: float = 0.0

    def usable(self, now: float) -> bool:
        """Tell whether it may be asked for chunks at all."""
        return self.linked and now >= self.banned_until and now >= self.busy_until

    def trusted(self, now: float) -> bool:
        """Tell whether what it says it has may be counted on at present."""
        return now >= self.banned_until and not self.snubbed

    def source(
        self,
        has: int,
        chunk: int,
        site: str = "",
        *,
        terms: Terms = FREE,
        now: float = 0.0,
        background: bool = False,
    ) -> Source:
        """Return the scheduler's view, for a blob of ``chunk``-size chunks of which it has some.

        ``background``: nobody waits for it, so it yields to whatever else fills the path.
        """
        limit = self.window(chunk)
        if background:
            limit = max(int(limit * self.keeps), 2 * chunk, WINDOW_MIN)
        if terms.down is not None:
            limit = min(limit, self.outstanding + max(0, int(terms.down.room(now))))
        return Source(
            peer=self.node,
            has=has,
            outstanding=self.outstanding,
            window=1 if self.snubbed else limit,
            rtt=self.rtt.smoothed,
            rate=self.rate.average,
            delay=self.delay + self.overdue(chunk, now),
            failures=self.failures,
            snubbed=self.snubbed,
            far=self.site != site,
            metered=terms.metered,
            cost=terms.cost,
            capped=terms.down is not None,
        )

    @property
    def keeps(self) -> float:
        """The share of its window that background traffic keeps: less, the longer the queue.

        All of it up to YIELD and nothing from twice that on, in the manner of LEDBAT (RFC 6817):
        a swarm fills queues by itself, and must not take them for somebody else's.
        """
        return min(1.0, max(0.0, 2.0 - self.rtt.queue / YIELD))

    def describe(self) -> str:
        """Say in a few words what a choice of this peer rests on."""
        rate = f"{self.rate.average / 1e6:.2f} MB/s" if self.rate.measured else "unknown rate"
        queue = f", {self.delay:.1f} s queue" if self.delay >= 0.1 else ""
        return f"{rate}, {self.rtt.smoothed * 1000:.0f} ms{queue}"

    def window(self, chunk: int = 0) -> int:
        """Return how many bytes to have on their way; few until its rate is known."""
        rate = self.rate.maximum if self.rate.measured or self.recalled else 0.0
        several = self.sockets * (WINDOW_MIN + 2 * chunk) if self.sockets > 1 else 0
        return max(window(rate, self.rtt.smoothed, chunk), several)

    def advertised(self, backlog: float) -> None:
        """It says how long its upload queue is; what we wait for ourselves is counted apart."""
        self.delay = max(0.0, backlog - self.outstanding / max(self.rate.average, 1.0))

    def asked(self, size: int, now: float) -> Asked:
        """``size`` bytes were asked for.  Return what ``arrived`` is to be told of them."""
        if not self.outstanding:
            self.progress_at = now
            self._flows_from = now + self.rtt.minimum
        self.outstanding += size
        return Asked(max(now, self._flows_from), self._delivered)

    def let_go(self, size: int) -> None:
        """``size`` bytes are no longer awaited."""
        self.outstanding = max(0, self.outstanding - size)

    def revived(self, now: float) -> None:
        """It gives again what it owed, if late."""
        self.progress_at = now
        self.snubbed = False
        self.failures = 0

    def arrived(self, size: int, now: float, asked: Asked) -> None:
        """``size`` bytes of what was ``asked`` for have come.

        All that has come since they were asked for, by the time that took, is a sample of the rate:
        chunks that wait in one queue with those of others often come in pairs, and the time between
        the two would be that of the whole path.
        """
        self.received.add(size, now)
        self.revived(now)
        awaited, self.outstanding = self.outstanding, max(0, self.outstanding - size)
        self._delivered += size
        if not self.outstanding or now - self._sampled_at >= max(SAMPLE_MIN, self.rtt.minimum):
            elapsed = max(now - asked.at, self.rtt.minimum / 4, ELAPSED_MIN)
            gained, self._sampled_at = self._delivered - asked.delivered, now
            # By Little's law what is awaited takes awaited / rate: little longer than the bare
            # round trip, and the path was not full.  The window tells nothing of that: one that
            # is too large would never be filled, and so never come down.
            limited = awaited < FULL * self.rtt.minimum * gained / elapsed or not self.outstanding
            tells = gained >= elapsed * self.rate.maximum or elapsed >= SAMPLE_MIN
            if tells or not limited:  # a small blob tells the round trip only
                self.rate.add(gained, elapsed, now, limited=limited)

    def stalled(self, now: float) -> bool:
        """Tell whether it owes us something and shows no progress."""
        if not self.outstanding or self.snubbed:
            return False
        next_chunk = self.rtt.smoothed + self.delay + 262_144 / max(self.rate.average, 1.0)
        patience = max(STALL_MIN, 2 * next_chunk + 4 * self.rtt.deviation)
        return now - self.progress_at > patience

    def overdue(self, chunk: int, now: float) -> float:
        """Return for how long it has kept still beyond what a chunk takes it, while it owes some.

        It is to be expected to keep still for as long again.
        """
        if not self.outstanding:
            return 0.0
        usual = self.rtt.smoothed + self.delay + chunk / max(self.rate.average, 1.0)
        return max(0.0, now - self.progress_at - usual)

    def let_wait(self, now: float) -> None:
        """It did not answer in time: others are asked first, for a while."""
        self.lapsed_at = now
        if now >= self.behind_until:  # what was asked at the same time counts once
            pause = LAPSE_PAUSE * 2.0 ** min(self.lapses, 10)
            self.lapses += 1
            self.behind_until = now + min(pause, LAPSE_PAUSE_MAX)

    def answered(self, now: float) -> None:
        """It answered in time: a slow link is not punished for ever."""
        self.lapses, self.behind_until = 0, now

    def late(self, now: float) -> float:
        """Return when it last let us wait, while that counts, or 0.0: smaller is better."""
        return self.lapsed_at if now < self.behind_until else 0.0

    def fail(self, now: float) -> None:
        """It broke off, or refused: worth less until it delivers again."""
        self.failures = min(self.failures + 1, FAILURES_MAX)
        step = min(self.failures, len(BULK_RETRY)) - 1
        self.bulk_retry_at = now + BULK_RETRY[step]

    def strike(self, reason: str, now: float) -> None:
        """It gave us what it must not give.  Twice, and it is banned as a source."""
        self.strikes += 1
        self.notes.append(reason)
        if self.strikes >= STRIKES_MAX:
            self.banned_until = now + BAN
            self.notes.append(f"banned as a source of blobs after {self.strikes} strikes")
