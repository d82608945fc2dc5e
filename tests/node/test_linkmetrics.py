"""Links and transfers as Prometheus sees them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from mesh.beliefs import PeerBelief
from mesh.exchange import Exchange
from mesh.explaining import Known, links
from mesh.journal import Totals
from node.linkmetrics import LinkMetrics


@dataclass
class Insight:
    items: list[Any] = field(default_factory=list[Any])

    def paths(self) -> list[Any]:
        return self.items

    def transfers(self) -> list[Any]:
        return []

    def totals(self) -> Totals:
        return Totals(received=70, wasted=3, complete=2)

    def sending(self) -> list[Any]:
        return []


@dataclass
class Deltas:
    used: int = 4
    spared: int = 900
    refused: int = 1


@dataclass
class Fake:
    insight: Insight
    deltas: Deltas = field(default_factory=Deltas)


def test_every_link_is_told_and_what_is_unknown_is_not() -> None:
    exchange = Exchange(b"n" * 32, random.Random(1))
    belief = exchange.peers.setdefault(b"\xab" * 32, PeerBelief(b"\xab" * 32, site="quay"))
    belief.rtt.add(0.05, 1.0)
    belief.linked = True
    registry = CollectorRegistry()
    registry.register(LinkMetrics(cast(Any, Fake(Insight(links(Known(exchange, {}, 1.0)))))))
    text = generate_latest(registry).decode()
    assert 'atoll_link_rtt_seconds{peer="abababab",site="quay"} 0.05' in text
    assert 'atoll_link_up{peer="abababab",site="quay"} 1.0' in text
    assert "atoll_link_resent_ratio{" not in text
    assert "atoll_transfers 0.0" in text
    assert 'atoll_transfer_bytes_total{use="useful"} 70.0' in text
    assert 'atoll_transfer_ends_total{outcome="complete"} 2.0' in text
    assert "atoll_delta_blobs_total 4.0" in text
    assert "atoll_delta_spared_bytes_total 900.0" in text
    assert "atoll_delta_refused_total 1.0" in text
