"""What happens to each packet of the lab: rates, queues, delays, losses, outages.  Pure.

A node has an uplink and a downlink of its own, each a queue of bounded length before a fixed rate;
between two nodes lies a delay.  Outages and partitions are intervals after the experiment begins.
"""

from __future__ import annotations

import random
from collections import Counter

import msgspec

MBIT = 125_000.0  # bytes per second


class Outage(msgspec.Struct, frozen=True):
    """From ``at``, for ``length`` seconds, nothing passes between these pairs; none named: all."""

    at: float
    length: float
    pairs: tuple[tuple[int, int], ...] = ()

    def covers(self, source: int, target: int, elapsed: float) -> bool:
        """Tell whether it stops a packet."""
        if not self.at <= elapsed < self.at + self.length:
            return False
        return not self.pairs or (source, target) in self.pairs or (target, source) in self.pairs


class Scenario(msgspec.Struct, frozen=True):
    """Nodes and what joins them.  Rates are in bytes per second, times in seconds, one way.

    ``delay`` and ``loss`` are matrices by source and target.
    """

    up: tuple[float, ...]
    down: tuple[float, ...]
    delay: tuple[tuple[float, ...], ...]
    loss: tuple[tuple[float, ...], ...]
    queue: float = 0.1  # seconds of data that a queue holds before it drops
    mtu: int = 1500
    outages: tuple[Outage, ...] = ()
    seed: int = 1
    congestion: str = ""  # of TCP in the namespaces; "" leaves what the system has

    @property
    def count(self) -> int:
        """The number of nodes."""
        return len(self.up)


def uniform(
    count: int,
    *,
    rate: float,
    rtt: float,
    loss: float = 0.0,
    outages: tuple[Outage, ...] = (),
    congestion: str = "",
) -> Scenario:
    """Return a scenario in which all nodes are alike."""
    return Scenario(
        up=(rate,) * count,
        down=(rate,) * count,
        delay=((rtt / 2,) * count,) * count,
        loss=((loss,) * count,) * count,
        outages=outages,
        congestion=congestion,
    )


def flapping(start: float, up: float, down: float, until: float) -> tuple[Outage, ...]:
    """Return outages of ``down`` seconds, ``up`` seconds apart, everywhere at once."""
    outages, at = [], start
    while at < until:
        outages.append(Outage(at, down))
        at += up + down
    return tuple(outages)


class Shaper:
    """Decides when each packet arrives, if at all."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.carried: Counter[tuple[int, int]] = Counter()  # bytes admitted, by pair
        self.dropped: Counter[str] = Counter()  # packets, by cause
        self._rng = random.Random(scenario.seed)
        self._up = [0.0] * scenario.count
        self._down = [0.0] * scenario.count

    def admit(self, source: int, target: int, size: int, now: float, elapsed: float) -> float:
        """Return when a packet sent now arrives, or -1.0 if it never does.

        ``elapsed`` is since the experiment began, below zero before.
        """
        scenario = self.scenario
        if any(outage.covers(source, target, elapsed) for outage in scenario.outages):
            return self._drop("outage")
        leaves = max(self._up[source], now)
        if leaves - now > scenario.queue:
            return self._drop("uplink queue")
        leaves += size / scenario.up[source]
        self._up[source] = leaves
        if self._rng.random() < scenario.loss[source][target]:
            return self._drop("loss")
        lands = max(self._down[target], leaves)
        if lands - leaves > scenario.queue:
            return self._drop("downlink queue")
        lands += size / scenario.down[target]
        self._down[target] = lands
        self.carried[source, target] += size
        return lands + scenario.delay[source][target]

    def _drop(self, cause: str) -> float:
        self.dropped[cause] += 1
        return -1.0
