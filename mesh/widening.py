"""How many bulk sockets a peer is to be sent chunks over.  Pure.  Spec: docs/mesh.md §9.

Cubic and Reno take each loss for congestion, so on a lossy line one socket carries a part of the
rate that is there.  Sockets beside it carry the rest: twice as many at a time, while segments get
lost though no queue stands before the line.  Losses that grow with the sockets are our own: then
they go again.  BBR needs none of this.
"""

from __future__ import annotations

from dataclasses import dataclass

SOCKETS_MAX = 4  # bulk sockets of a pair, as browsers and download managers open them
LOSSY = 0.0005  # share of segments sent again from which on one socket is held back
SEGMENTS_MIN = 30  # that have to leave before that share is believed
SEGMENTS_KEPT = 20_000  # after so many, older ones count half
STEP = 0.3  # seconds, and STEP_TRIPS round trips, until there may be more
STEP_TRIPS = 2.0
TRIAL = 3.0  # seconds, and TRIAL_TRIPS round trips, until the sockets have to show what they gain
TRIAL_TRIPS = 20.0
GAIN = 1.1  # times the rate before that they have to carry, or else lose no more
OURS = 2.0  # times the loss before: that is our own doing
ANSWER, ANSWER_TRIPS = 3.0, 12.0  # seconds and round trips that further sockets may take
REST, REST_MAX = 60.0, 3600.0  # seconds until it is tried again after it gained nothing
IDLE = 10.0  # seconds without payload, after which one socket is enough
FULL, FULL_LEAST = 1.25, 0.004  # round trips so much longer than the shortest: a queue stands
TRIP_MIN = 0.002  # seconds of round trip below which a socket recovers at once
NEARLY = 0.9  # of the operator's cap: more sockets cannot carry more


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the sockets to one peer tells: sums over all of them, since they are up."""

    sockets: int
    queued: bool  # the peer waits for more than it has been sent
    acked: int = 0  # bytes
    again: int = 0  # segments sent again
    sent: int = 0  # segments
    rtt: float = 0.0  # seconds, now and at best
    rtt_min: float = 0.0
    yields: bool = True  # to loss: its congestion control is not BBR
    cap: float = 0.0  # bytes per second that the operator allows; 0: no cap

    @property
    def full(self) -> bool:
        """Tell whether a queue stands before the line: nothing is left to be had."""
        return self.rtt > self.rtt_min * FULL + FULL_LEAST


@dataclass(slots=True)
class _Stage:
    """A time with the same number of sockets."""

    at: float
    sockets: int
    acked: int = 0
    again: int = 0
    sent: int = 0
    looks: int = 0
    held: int = 0  # looks at which payload waited

    def rate(self, now: float) -> float:
        """Return the bytes per second that arrived."""
        return self.acked / max(now - self.at, 1e-3)

    @property
    def loss(self) -> float:
        """The share of segments that were sent again."""
        return self.again / max(self.sent, 1)


class Widening:
    """The sockets of one peer.  Look often while it is sent anything; ``wanted`` tells how many."""

    def __init__(self, most: int = SOCKETS_MAX) -> None:
        self.wanted = 1
        self._most = most
        self._last: Seen | None = None
        self._stage: _Stage | None = None
        self._before: tuple[float, float] | None = None  # rate and loss with one socket
        self._again, self._sent = 0.0, 0.0  # segments lately
        self._moved_at = 0.0
        self._asked_at, self._asked_from = 0.0, 1
        self._rest, self._rest_until = REST, 0.0

    @property
    def idle(self) -> bool:
        """Tell whether nothing has left for so long that nobody need look."""
        return self._stage is None

    def look(self, seen: Seen, now: float) -> int:
        """Take what is seen, and return how many sockets there should be."""
        last, self._last = self._last, seen
        acked = again = sent = 0
        if last is not None:  # sums fall when a socket goes
            acked, sent = max(0, seen.acked - last.acked), max(0, seen.sent - last.sent)
            again = max(0, seen.again - last.again)
        if seen.queued or acked or last is None:
            self._moved_at = now
        elif now - self._moved_at >= IDLE:
            self._begin_anew()
            return self.wanted
        if self._sent > SEGMENTS_KEPT:
            self._again, self._sent = self._again / 2, self._sent / 2
        self._again, self._sent = self._again + again, self._sent + sent
        stage = self._present(seen, now)
        stage.acked, stage.again = stage.acked + acked, stage.again + again
        stage.sent, stage.looks = stage.sent + sent, stage.looks + 1
        stage.held += seen.queued
        self._decide(seen, stage, now)
        return self.wanted

    def _present(self, seen: Seen, now: float) -> _Stage:
        stage = self._stage
        if stage is None or stage.sockets != seen.sockets:
            if stage is not None and seen.sockets < stage.sockets:  # they broke, or we left them
                self.wanted, self._before = min(self.wanted, seen.sockets), None
            stage = self._stage = _Stage(now, seen.sockets)
        return stage

    def _begin_anew(self) -> None:
        self.wanted, self._stage, self._before = 1, None, None
        self._again = self._sent = 0.0

    def _decide(self, seen: Seen, stage: _Stage, now: float) -> None:
        if seen.sockets < self.wanted:
            if now - self._asked_at >= max(ANSWER, ANSWER_TRIPS * seen.rtt_min):
                self._unanswered(seen.sockets, now)
            return
        self.wanted = seen.sockets
        early = now - stage.at < max(STEP, STEP_TRIPS * seen.rtt_min)
        if early or 2 * stage.held < stage.looks:
            return  # it is too early to tell, or the peer asks for less than even this carries
        if self._held_back(seen, stage, now):
            if self._before is None:
                self._before = stage.rate(now), self._again / self._sent
            self.wanted, self._asked_at = min(2 * seen.sockets, self._most), now
            self._asked_from = seen.sockets
        elif self._before is not None and now - stage.at >= max(TRIAL, TRIAL_TRIPS * seen.rtt_min):
            self._judge(stage, *self._before, now)

    def _held_back(self, seen: Seen, stage: _Stage, now: float) -> bool:
        """Tell whether more are to be tried."""
        if seen.sockets >= self._most or now < self._rest_until or not seen.yields or seen.full:
            return False
        if seen.cap and stage.rate(now) >= NEARLY * seen.cap:
            return False
        lossy = self._sent >= SEGMENTS_MIN and self._again >= LOSSY * self._sent > 0
        return lossy and seen.rtt_min >= TRIP_MIN

    def _judge(self, stage: _Stage, rate: float, loss: float, now: float) -> None:
        """Keep the sockets if they carry more, or at least do no harm."""
        if stage.rate(now) < GAIN * rate and stage.loss > OURS * loss:
            self._give_up(1, now)
            self._before = None
        elif stage.rate(now) >= GAIN * rate:
            self._rest = REST

    def _unanswered(self, sockets: int, now: float) -> None:
        """Make do with those that came up, and ask again if there were any."""
        if sockets > self._asked_from:
            self.wanted = sockets
        else:
            self._give_up(sockets, now)

    def _give_up(self, sockets: int, now: float) -> None:
        self.wanted, self._rest_until = sockets, now + self._rest
        self._rest = min(2 * self._rest, REST_MAX)
