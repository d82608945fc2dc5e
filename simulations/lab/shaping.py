"""What happens to each packet of the lab: rates, queues, delays, losses, outages.  Pure.

A node has an uplink and a downlink of its own, each a queue of bounded length before a rate; a site
has the same towards the other sites, which all its nodes share; between two nodes lies a delay.
Outages and changes of rate come at set times after the experiment begins.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

MBIT = 125_000.0  # bytes per second
QUEUE_LEAST = 24_000  # bytes that fit into the queue before the slowest of links
Queue = tuple[str, int]  # "uplink", "downlink" of a node; "out", "in" of a site


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


class Change(msgspec.Struct, frozen=True):
    """At ``at`` seconds a node's uplink and downlink become ``factor`` times what they were."""

    at: float
    node: int
    factor: float


class Scenario(msgspec.Struct, frozen=True):
    """Nodes and what joins them.  Rates are in bytes per second, times in seconds, one way.

    ``delay`` and ``loss`` are matrices by source and target.  ``sites`` names each node's site, and
    ``wan`` the rate of each site's line to the others, both ways; without them there is one site.
    """

    up: tuple[float, ...]
    down: tuple[float, ...]
    delay: tuple[tuple[float, ...], ...]
    loss: tuple[tuple[float, ...], ...]
    queue: float = 0.1  # seconds of data that a queue holds before it drops
    mtu: int = 1500
    outages: tuple[Outage, ...] = ()
    changes: tuple[Change, ...] = ()
    sites: tuple[int, ...] = ()
    wan: tuple[float, ...] = ()
    seed: int = 1
    congestion: str = ""  # of TCP in the namespaces; "" leaves what the system has

    @property
    def count(self) -> int:
        """The number of nodes."""
        return len(self.up)

    def apart(self, one: int, two: int) -> bool:
        """Tell whether two nodes stand at different sites."""
        return bool(self.sites) and self.sites[one] != self.sites[two]


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


def two_sites(
    count: int, *, lan: float, wan: float, lan_rtt: float, wan_rtt: float, congestion: str = ""
) -> Scenario:
    """Return a scenario of two sites of ``count`` nodes each, with one line between them."""
    sites = (0,) * count + (1,) * count
    delay = tuple(
        tuple((lan_rtt if here == there else wan_rtt) / 2 for there in sites) for here in sites
    )
    nodes = 2 * count
    return Scenario(
        up=(lan,) * nodes,
        down=(lan,) * nodes,
        delay=delay,
        loss=((0.0,) * nodes,) * nodes,
        sites=sites,
        wan=(wan, wan),
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
    """Decides when each packet passes each queue, if at all."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.carried: Counter[tuple[int, int]] = Counter()  # bytes that arrive, by pair
        self.payload: Counter[tuple[int, int]] = Counter()  # of them, without headers
        self.dropped: Counter[str] = Counter()  # packets, by cause
        self.blocked: frozenset[tuple[int, int]] = frozenset()  # pairs cut by hand
        self._rng = random.Random(scenario.seed)
        self._free: dict[Queue, float] = {}  # when each queue will be empty
        self._paths: dict[tuple[int, int], tuple[Queue, ...]] = {}
        self._rates = dict(_rates(scenario))
        self._changes = sorted(scenario.changes, key=lambda change: -change.at)

    def block(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Cut exactly these pairs, in both directions, until told otherwise."""
        self.blocked = frozenset(pair for one, two in pairs for pair in ((one, two), (two, one)))

    def admit(self, source: int, target: int, size: int, now: float, elapsed: float) -> float:
        """Return when a packet sent now has passed its sender's uplink, or -1.0 if it does not.

        It stands before its second queue then: ``onward`` takes it from there.  ``elapsed`` is
        since the experiment began, below zero before.
        """
        scenario = self.scenario
        if (source, target) in self.blocked:
            return self._drop("outage")
        for outage in scenario.outages:  # any() makes a generator for each packet
            if outage.covers(source, target, elapsed):
                return self._drop("outage")
        while self._changes and elapsed >= self._changes[-1].at:
            change = self._changes.pop()
            for kind in ("uplink", "downlink"):
                self._rates[kind, change.node] *= change.factor
        loss = scenario.loss[source][target]
        lost = loss > 0.0 and self._rng.random() < loss
        at = self.onward(source, target, size, 0, now)
        if lost and at >= 0:  # after the sender's own uplink, which it used in vain
            return self._drop("loss")
        return at

    def hops(self, source: int, target: int) -> int:
        """Return how many queues a packet passes."""
        return len(self._path(source, target))

    def onward(
        self, source: int, target: int, size: int, hop: int, at: float, payload: int = 0
    ) -> float:
        """Return when a packet that stands before a queue at ``at`` stands before the next one.

        After the last it has arrived.  -1.0: that queue is full.  Call it for packets in the order
        of ``at``: a queue serves them as they come, and holds no place for those on their way.
        """
        scenario, path = self.scenario, self._path(source, target)
        queue = path[hop]
        starts, rate = max(self._free.get(queue, 0.0), at), self._rates[queue]
        waits = starts - at
        if waits > scenario.queue and waits > QUEUE_LEAST / rate:
            return self._drop(f"{queue[0]} queue")
        passed = self._free[queue] = starts + size / rate
        if hop + 1 == len(path):
            self.carried[source, target] += size
            self.payload[source, target] += payload
        half = len(path) // 2  # the distance lies between what is the sender's and the rest
        return passed + (scenario.delay[source][target] if hop + 1 == half else 0.0)

    def _path(self, source: int, target: int) -> tuple[Queue, ...]:
        found = self._paths.get((source, target))
        if found is None:
            sites = self.scenario.sites
            line: tuple[Queue, ...] = ()
            if self.scenario.apart(source, target):
                line = (("out", sites[source]), ("in", sites[target]))
            found = (("uplink", source), *line, ("downlink", target))
            self._paths[source, target] = found
        return found

    def _drop(self, cause: str) -> float:
        self.dropped[cause] += 1
        return -1.0


def _rates(scenario: Scenario) -> Iterator[tuple[Queue, float]]:
    for node in range(scenario.count):
        yield ("uplink", node), scenario.up[node]
        yield ("downlink", node), scenario.down[node]
    for site, rate in enumerate(scenario.wan):
        yield ("out", site), rate
        yield ("in", site), rate
