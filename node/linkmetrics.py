"""Metrics of links and transfers, collected when somebody looks.  At most so many as members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mesh.service import Mesh

FIELDS = (
    ("rtt", "atoll_link_rtt_seconds", "Round trip, smoothed"),
    ("rtt_min", "atoll_link_rtt_min_seconds", "Shortest recent round trip"),
    ("rtt_deviation", "atoll_link_rtt_deviation_seconds", "Deviation of round trips"),
    ("queue", "atoll_link_queue_seconds", "Longer than the shortest round trip"),
    ("backlog", "atoll_link_backlog_seconds", "Upload queue of the peer, as it says"),
    ("down", "atoll_link_receive_rate", "Bytes per second that its chunks come at"),
    ("sending", "atoll_link_send_rate", "Bytes per second that it takes chunks at"),
    ("loss", "atoll_link_resent_ratio", "Share of TCP segments sent again"),
    ("sockets", "atoll_link_sockets", "TCP connections that chunks take"),
    ("availability", "atoll_link_up_ratio", "Share of the time that the link is up"),
    ("outage_usual", "atoll_link_outage_seconds", "Median of the last outages"),
    ("outage_longest", "atoll_link_outage_longest_seconds", "Longest of the last outages"),
)


class LinkMetrics(Collector):
    """What is believed of every path, and what moves."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def describe(self) -> Iterable[Metric]:
        """Tell nothing before the mesh runs."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Look at the links as they are now."""
        insight = self._mesh.insight
        paths = insight.paths()
        for field, name, text in FIELDS:
            gauge = GaugeMetricFamily(name, text, labels=["peer", "site"])
            for path in paths:
                value = getattr(path, field)
                if value is not None:
                    gauge.add_metric([path.node[:8], path.site], value)
            yield gauge
        up = GaugeMetricFamily("atoll_link_up", "1 if the link is up", labels=["peer", "site"])
        outages = CounterMetricFamily("atoll_link_outages", "Outages seen", labels=["peer", "site"])
        for path in paths:
            up.add_metric([path.node[:8], path.site], float(path.up))
            outages.add_metric([path.node[:8], path.site], path.outages)
        yield up
        yield outages
        transfers = insight.transfers()
        yield GaugeMetricFamily("atoll_transfers", "Blobs on their way here", value=len(transfers))
        left = sum(each.size - each.verified for each in transfers)
        yield GaugeMetricFamily("atoll_transfer_bytes_left", "Bytes they lack", value=left)
        yield from self._totals()
        queued = sum(each.queued for each in insight.sending())
        yield GaugeMetricFamily("atoll_sending_bytes", "Bytes peers wait for", value=queued)

    def _totals(self) -> Iterator[Metric]:
        totals = self._mesh.insight.totals()
        family = CounterMetricFamily("atoll_transfer_bytes", "Bytes fetched", labels=["use"])
        family.add_metric(["useful"], totals.received)
        family.add_metric(["wasted"], totals.wasted)
        yield family
        family = CounterMetricFamily("atoll_transfer_ends", "Transfers over", labels=["outcome"])
        family.add_metric(["complete"], totals.complete)
        family.add_metric(["given up"], totals.given_up)
        yield family
        family = CounterMetricFamily("atoll_transfer_faults", "What went wrong", labels=["kind"])
        family.add_metric(["stall"], totals.stalls)
        family.add_metric(["bad"], totals.bad)
        yield family
        text = "Chunks that sources told us to get elsewhere"
        yield CounterMetricFamily("atoll_transfer_redirected", text, value=totals.redirected)
        deltas, text = self._mesh.deltas, "Blobs made of a delta and an older blob"
        yield CounterMetricFamily("atoll_delta_blobs", text, value=deltas.used)
        text = "Bytes that deltas spared"
        yield CounterMetricFamily("atoll_delta_spared_bytes", text, value=deltas.spared)
        text = "Deltas that made other bytes than they said"
        yield CounterMetricFamily("atoll_delta_refused", text, value=deltas.refused)
