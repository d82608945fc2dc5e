"""What a link has been like over days: when it is up, how long it is away, what is lost.  Pure.

Spec: docs/mesh.md §6.  Fed now and then with what is seen; small enough to be saved per peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

HOURS = 24
DAY = 86400.0
HALFLIFE = 7 * DAY  # seconds of watching one hour of the day after which the past counts half
OUTAGES_MAX = 32  # lengths of the last outages
BLINK = 0.2  # seconds: a link that another replaced was not away
STEP_MAX = 60.0  # seconds that one look may stand for: a sleeping machine saw nothing
LOSS_GAIN = 0.3  # weight of a new sample in the average
SEGMENTS_MIN = 64  # sent since the last sample, for the share that was sent again to mean anything


def _day() -> list[float]:
    return [0.0] * HOURS


@dataclass(slots=True)
class LinkHistory:
    """One peer.  Times in seconds."""

    up: list[float] = field(default_factory=_day)  # by hour of the day: seconds that it was up
    seen: list[float] = field(default_factory=_day)  # and seconds that we looked
    outages: list[float] = field(default_factory=list[float])  # lengths of the last ones
    outage_count: int = 0
    loss: float | None = None  # share of TCP segments sent again, smoothed; None: never measured
    _lost_at: float | None = None
    _counted: tuple[int, int] | None = None  # (sent again, sent) by the present socket

    def look(self, elapsed: float, hour: int, *, up: bool) -> None:
        """Count ``elapsed`` seconds of an hour of the day."""
        step = min(max(elapsed, 0.0), STEP_MAX)
        kept = 0.5 ** (step / (HALFLIFE / HOURS))
        self.seen[hour] = self.seen[hour] * kept + step
        self.up[hour] = self.up[hour] * kept + (step if up else 0.0)

    def went(self, now: float) -> None:
        """The link was lost."""
        if self._lost_at is None:
            self._lost_at = now
        self._counted = None

    def came(self, now: float) -> None:
        """The link is up; if it was before, an outage is over."""
        length = 0.0 if self._lost_at is None else now - self._lost_at
        if length > BLINK:
            self.outage_count += 1
            self.outages = [*self.outages[-OUTAGES_MAX + 1 :], length]
        self._lost_at, self._counted = None, None

    def counted(self, again: int, sent: int) -> None:
        """Take what TCP says: segments sent again, and segments sent, over the present socket."""
        before, self._counted = self._counted, (again, sent)
        if before is None or sent < before[1] or again < before[0]:
            return
        segments = sent - before[1]
        if segments < SEGMENTS_MIN:
            self._counted = before  # wait for more
            return
        share = min(1.0, (again - before[0]) / segments)
        old = self.loss
        self.loss = share if old is None else old + LOSS_GAIN * (share - old)

    def availability(self, hour: int | None = None) -> float | None:
        """Return the share of time that it was up, in one hour of the day or all; None: unknown."""
        hours: Sequence[int] = range(HOURS) if hour is None else (hour,)
        seen = sum(self.seen[each] for each in hours)
        return sum(self.up[each] for each in hours) / seen if seen > 0 else None

    @property
    def outage_usual(self) -> float:
        """The median of the last outages; 0 if there was none."""
        return sorted(self.outages)[len(self.outages) // 2] if self.outages else 0.0

    @property
    def outage_longest(self) -> float:
        """The longest of the last outages; 0 if there was none."""
        return max(self.outages, default=0.0)
