"""Metrics of how this node and its peers reach each other, collected when somebody looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mesh.service import Mesh

PATHS = ("direct", "relayed", "libp2p")


class PathMetrics(Collector):
    """Links by path and by how their peer was found, and what is carried for others."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def describe(self) -> Iterable[Metric]:
        """Tell nothing before the mesh runs."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Look at the links as they are now."""
        peers = [peer for peer in self._mesh.peers() if peer.state == "up"]
        for name, said in (
            ("control", Counter(peer.path.partition(" ")[0] for peer in peers)),
            ("bulk", Counter(peer.bulk_path.partition(" ")[0] for peer in peers)),
        ):
            text = f"Peers by the path of their {name} socket"
            family = GaugeMetricFamily(f"atoll_mesh_{name}_links", text, labels=["path"])
            for path in PATHS:
                family.add_metric([path], said[path])
            yield family
        found = GaugeMetricFamily("atoll_mesh_found", "Linked peers by how found", labels=["how"])
        for how, count in Counter(peer.found for peer in peers).items():
            found.add_metric([how], count)
        yield found
        relaying = self._mesh.relaying()
        yield GaugeMetricFamily(
            "atoll_mesh_relay_streams", "Streams carried for others", value=relaying.streams
        )
        yield CounterMetricFamily(
            "atoll_mesh_relay_bytes", "Bytes carried for others", value=relaying.carried
        )
        refused = CounterMetricFamily(
            "atoll_mesh_relay_refused", "Streams not carried, and why", labels=["reason"]
        )
        for reason, count in relaying.refused.items():
            refused.add_metric([reason], count)
        yield refused
