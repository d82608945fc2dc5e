"""What we believe of a path: how long it takes and how much it carries.  Pure: ``now`` is given.

Spec: docs/mesh.md §6.  Round trips are smoothed as TCP does (RFC 6298); bandwidth is the delivery
rate of runs, in the manner of BBR: a windowed maximum for pipelining, an average for choosing.
"""

from __future__ import annotations

from collections import deque

RTT_WINDOW = 10.0  # seconds over which the minimum round trip is taken
BASELINE = 600.0  # seconds over which the round trip without any queue is taken
RATE_WINDOW = 10.0  # seconds, or RATE_SAMPLES samples, over which the maximum rate is taken
RATE_SAMPLES = 10
RATE_GAIN = 0.2  # weight of a new sample in the average
METER_MIN = 1.0  # seconds that a meter averages over, at least
DELIVERED_MIN = 512 << 10  # bytes that have to arrive to tell a rate: fewer tell the round trip
DELIVERED_IN = 120.0  # seconds within which they have to: small talk only tells the round trip
RTT_PRIOR = 0.05  # seconds, until the first answer
RATE_PRIOR = 1_000_000.0  # bytes per second, until the first run has arrived


class RttEstimator:
    """Smoothed, minimum and deviating round-trip time of one path, in seconds."""

    def __init__(self, prior: float = RTT_PRIOR) -> None:
        self.smoothed = prior
        self.deviation = prior / 2
        self._minima: deque[tuple[float, float]] = deque()  # rising in both time and value
        self._lows: deque[tuple[float, float]] = deque()  # the lowest of each RTT_WINDOW
        self.measured = False

    def add(self, sample: float, now: float) -> None:
        """Take one measurement."""
        sample = max(sample, 1e-6)
        if self.measured:
            self.deviation += (abs(self.smoothed - sample) - self.deviation) / 4
            self.smoothed += (sample - self.smoothed) / 8
        else:
            self.measured, self.smoothed, self.deviation = True, sample, sample / 2
        while self._minima and self._minima[-1][1] >= sample:
            self._minima.pop()
        self._minima.append((now, sample))
        while self._minima[0][0] < now - RTT_WINDOW and len(self._minima) > 1:
            self._minima.popleft()

        if self._lows and now - self._lows[-1][0] < RTT_WINDOW:
            began, low = self._lows[-1]
            self._lows[-1] = (began, min(low, sample))
        else:
            self._lows.append((now, sample))
            while self._lows[0][0] < now - BASELINE:
                self._lows.popleft()

    @property
    def queue(self) -> float:
        """How much longer round trips take now than the shortest of the last minutes."""
        base = min((low for _, low in self._lows), default=self.smoothed)
        return max(0.0, self.smoothed - base)

    @property
    def minimum(self) -> float:
        """The shortest recent round trip: the path without its queues."""
        return self._minima[0][1] if self._minima else self.smoothed


class RateEstimator:
    """Delivery rate of one path in one direction, in bytes per second."""

    def __init__(self, prior: float = RATE_PRIOR) -> None:
        self.average = prior
        self._samples: deque[tuple[float, float]] = deque(maxlen=RATE_SAMPLES)
        self.measured = False

    def add(self, size: int, elapsed: float, now: float, *, limited: bool = False) -> None:
        """Take one run of ``size`` bytes.

        ``limited``: the path was not full (we asked for too little), so the sample can only raise
        the estimate.
        """
        rate = size / max(elapsed, 1e-6)
        if limited and self.measured and rate < self.maximum:
            return
        self.average = self.average + RATE_GAIN * (rate - self.average) if self.measured else rate
        self.measured = True
        self._samples.append((now, rate))

    @property
    def maximum(self) -> float:
        """The best recent rate: what the path can carry."""
        if not self._samples:
            return self.average
        latest = self._samples[-1][0]
        return max(rate for at, rate in self._samples if at >= latest - RATE_WINDOW)


class Outflow:
    """Rate at which one peer can be sent chunks.

    Sampled while it always had some to come, and of what TCP says has arrived: a short transfer is
    over before there were any at two looks.
    """

    def __init__(self) -> None:
        self.rate = RateEstimator(0.0)
        self._at: float | None = None
        self._total = 0
        self._acked, self._busy, self._since = 0, 0.0, 0.0

    def look(self, total: int, queued: int, now: float) -> None:
        """See how many bytes have left in all, and how many still wait; call it now and then."""
        if self._at is not None and queued and now > self._at and total >= self._total:
            self.rate.add(total - self._total, now - self._at, now)
        self._at = now if queued else None
        self._total = total

    def arrived(self, acked: int, busy: float, best: float, now: float) -> None:
        """See how many bytes have arrived in all, in how many seconds with some on their way.

        ``best`` is the rate that TCP has seen: while a path fills, bytes by time are less.
        """
        if acked < self._acked or busy < self._busy:
            self._acked, self._busy, self._since = 0, 0.0, now  # another socket
        size, elapsed = acked - self._acked, busy - self._busy
        enough = size >= DELIVERED_MIN and elapsed > 0
        if enough:
            self.rate.add(size, min(elapsed, size / max(best, 1.0)), now)
        if enough or now > self._since + DELIVERED_IN:
            self._acked, self._busy, self._since = acked, busy, now


class Meter:
    """Bytes per second over the last few seconds, for people to look at."""

    def __init__(self, halflife: float = 2.0) -> None:
        self.total = 0
        self._rate = 0.0
        self._at: float | None = None
        self._first: float | None = None
        self._halflife = halflife

    def add(self, size: int, now: float) -> None:
        """Count ``size`` bytes."""
        self._decay(now)
        if self._first is None:
            self._first = now
        self.total += size
        self._rate += size * 0.693 / self._halflife

    def rate(self, now: float) -> float:
        """Return the present rate."""
        self._decay(now)
        elapsed = now - self._first if self._first is not None else 0.0
        # What it averages over is no longer than it has been in use.
        seen: float = 1 - 0.5 ** (max(elapsed, METER_MIN) / self._halflife)
        return self._rate / seen

    def _decay(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._rate *= 0.5 ** ((now - self._at) / self._halflife)
        self._at = now
