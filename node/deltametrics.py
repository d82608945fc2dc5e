"""Metrics of the deltas that this node makes and keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node.deltas import DeltaKeeper


class DeltaMetrics(Collector):
    """What making them costs and gives; ``node.linkmetrics`` tells what using them spares."""

    def __init__(self, keeper: DeltaKeeper) -> None:
        self._keeper = keeper

    def describe(self) -> Iterable[Metric]:
        """Tell nothing before anybody looks."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Look at the shelf and at what was spent."""
        keeper = self._keeper
        yield CounterMetricFamily("atoll_delta_made", "Deltas made here", value=keeper.made)
        text = "Seconds of a core that making them took"
        yield CounterMetricFamily("atoll_delta_cpu_seconds", text, value=keeper.allowance.spent)
        text = "Bytes that deltas take on the disk"
        yield GaugeMetricFamily("atoll_delta_bytes", text, value=keeper.shelf.taken)
        yield GaugeMetricFamily("atoll_delta_count", "Deltas kept", value=len(keeper.shelf))
        text = "Packages of which deltas did not pay lately"
        yield GaugeMetricFamily("atoll_delta_resting", text, value=len(keeper.payback))
