"""Metrics: counted right, and with labels that clients cannot multiply."""

from __future__ import annotations

from node.metrics import Metrics
from node.packages.observe import Observation


def seen(method: str = "GET", status: int = 200, **changes: int) -> Observation:
    found = Observation(method, "npm", began=0.0)
    found.status = status
    for name, value in changes.items():
        setattr(found, name, value)
    return found


async def test_requests_are_counted_by_format_method_and_status() -> None:
    metrics = Metrics()
    metrics.request(seen(sent=100))
    metrics.request(seen(sent=50))
    metrics.request(seen("PUT", 201, received=7))
    metrics.fact("file", 3)
    gauge = metrics.gauge("peers", "Peers that are linked", ("state",))
    gauge.labels("up").set(2)
    text = metrics.render().decode()
    assert 'atoll_http_requests_total{format="npm",method="GET",status="200"} 2.0' in text
    assert 'atoll_http_requests_total{format="npm",method="PUT",status="201"} 1.0' in text
    assert 'atoll_http_bytes_total{direction="sent",format="npm"} 150.0' in text
    assert 'atoll_http_bytes_total{direction="received",format="npm"} 7.0' in text
    assert 'atoll_ledger_facts_total{kind="file"} 3.0' in text
    assert 'atoll_peers{state="up"} 2.0' in text


async def test_clients_cannot_make_up_labels() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.request(seen(f"X{number}", 405))
    lines = [line for line in metrics.render().decode().splitlines() if "405" in line]
    assert len([line for line in lines if "_total" in line]) == 1
