"""Links and relays, as Prometheus sees them."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from node.pathmetrics import PathMetrics
from tests.mesh.nodes import Fleet, until


async def test_paths_and_relays_are_counted(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        relay, a, b = [await fleet.node(name) for name in ("relay", "a", "b")]
        fleet.world.reachable = lambda one, two: two == "relay"
        await fleet.join(a, relay)
        await fleet.join(b, relay)

        async def up() -> bool:
            return sum(peer.state == "up" for peer in a.mesh.peers()) == 2

        await until(up)

        def shown(node) -> str:
            registry = CollectorRegistry()
            registry.register(PathMetrics(node.mesh))
            return generate_latest(registry).decode()

        assert 'atoll_mesh_control_links{path="direct"} 1.0' in shown(a)
        assert 'atoll_mesh_control_links{path="relayed"} 1.0' in shown(a)
        assert 'atoll_mesh_found{how="relay"} 1.0' in shown(a)

        async def one() -> bool:  # both may have had it join them at once
            return "atoll_mesh_relay_streams 1.0" in shown(relay)

        await until(one)
        text = shown(relay)
        assert "atoll_mesh_relay_bytes_total 0.0" not in text
