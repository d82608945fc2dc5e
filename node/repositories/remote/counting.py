"""Counters of remote repositories, for metrics and for the cache's own view."""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import Counter

from node.metrics import Metrics

RESULTS = ("hit", "miss", "stale", "revalidated", "negative", "refreshed")


@dataclass(slots=True)
class Tally:
    """What one repository did since the node started."""

    results: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    requests: int = 0  # to the upstream
    errors: int = 0
    bytes: int = 0  # from the upstream


class Counts:
    """Tallies by repository, and the same for Prometheus."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._tallies: dict[str, Tally] = {}
        self._lookups: Counter | None = None
        if metrics is not None:
            self._lookups = metrics.counter(
                "proxy_cache_lookups", "Requests to remote repositories", ("repository", "result")
            )
            self._fetches = metrics.counter(
                "upstream_fetches", "Fetches from upstreams", ("repository", "outcome")
            )
            self._bytes = metrics.counter(
                "upstream_bytes", "Bytes received from upstreams", ("repository",)
            )

    def of(self, repository: str) -> Tally:
        """The tally of a repository."""
        return self._tallies.setdefault(repository, Tally())

    def lookup(self, repository: str, result: str) -> None:
        """Count a request by what became of it."""
        self.of(repository).results[result] += 1
        if self._lookups is not None:
            self._lookups.labels(repository, result).inc()

    def fetch(self, repository: str, *, size: int, failed: bool) -> None:
        """Count a fetch."""
        tally = self.of(repository)
        tally.requests += 1
        tally.errors += failed
        tally.bytes += size
        if self._lookups is not None:
            self._fetches.labels(repository, "error" if failed else "ok").inc()
            self._bytes.labels(repository).inc(size)
