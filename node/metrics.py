"""Prometheus metrics, on a registry of the node's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from node.packages.observe import Observation
from store.errors import RegistryError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)


class Metrics:
    """Everything the node counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.refreshers: list[Callable[[], Awaitable[None]]] = []
        labels = ("format", "method", "status")
        self._requests = Counter(
            "atoll_http_requests", "Requests answered", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "atoll_http_request_seconds",
            "Time to the last byte",
            ("format",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._bytes = Counter(
            "atoll_http_bytes", "Body bytes", ("format", "direction"), registry=self.registry
        )
        self._commits = Counter(
            "atoll_ledger_facts", "Facts applied to the catalog", ("kind",), registry=self.registry
        )
        self._replaced = Counter(
            "atoll_conflicts_lost",
            "Files whose bytes on this node lost to a rival's",
            registry=self.registry,
        )
        self._tasks = self.gauge("tasks", "Tasks alive: what leaks when something is not ended")
        self._directions: dict[tuple[str, str], Counter] = {}
        self._kept: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def request(self, seen: Observation) -> None:
        """Count a finished request."""
        # Clients may make methods up; each new label would stay in memory for ever.
        method = seen.method if seen.method in METHODS else "other"
        key = (seen.format, method, seen.status)
        kept = self._kept.get(key)
        if kept is None:
            counted = self._requests.labels(seen.format, method, str(seen.status))
            kept = self._kept[key] = counted, self._seconds.labels(seen.format)
        kept[0].inc()
        kept[1].observe(seen.seconds)
        if seen.sent:
            self._moved(seen.format, "sent").inc(seen.sent)
        if seen.received:
            self._moved(seen.format, "received").inc(seen.received)

    def _moved(self, name: str, direction: str) -> Counter:
        """The counter of a format's bytes: looking labels up costs more than counting."""
        counter = self._directions.get((name, direction))
        if counter is None:
            counter = self._directions[name, direction] = self._bytes.labels(name, direction)
        return counter

    def fact(self, kind: str, number: int = 1) -> None:
        """Count facts that reached the catalog."""
        self._commits.labels(kind).inc(number)

    def replaced(self) -> None:
        """Count a coordinate that showed other bytes until now."""
        self._replaced.inc()

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        """Make a counter; its name gets the prefix ``atoll_``."""
        return Counter(f"atoll_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        """Make a gauge; its name gets the prefix ``atoll_``."""
        return Gauge(f"atoll_{name}", text, labels, registry=self.registry)

    async def text(self) -> bytes:
        """The exposition text, after whatever has to be read first."""
        for refresh in self.refreshers:
            with suppress(RegistryError):  # a database that fails tells nothing new
                await refresh()
        return self.render()

    def render(self) -> bytes:
        """The exposition text."""
        with suppress(RuntimeError):  # nothing runs, as in a unit test
            self._tasks.set(trio.lowlevel.current_statistics().tasks_living)
        return generate_latest(self.registry)
