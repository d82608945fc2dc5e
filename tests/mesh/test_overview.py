"""What people see of a mesh of two."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mesh.ports import LedgerPort
from mesh.status import PeerStatus, Topology
from tests.mesh.nodes import Fleet, until


async def test_peers_and_topology_say_who_is_where(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        ledger: LedgerPort = a.ledger
        await fleet.join(b, a)

        async def up() -> bool:
            return all(p.state == "up" and p.rtt for n in (a, b) for p in n.mesh.peers())

        await until(up)
        (peer,) = a.mesh.peers()
        assert isinstance(peer, PeerStatus)
        assert (peer.node, peer.site, peer.strikes) == (b.identity.node, "b", 0)
        assert (peer.trouble, peer.banned, peer.behind, peer.ahead) == ("", False, 0, 0)
        assert abs(peer.skew) < 1
        topology = b.mesh.topology()
        assert isinstance(topology, Topology)
        assert topology.mesh == ledger.mesh
        assert {node.site: len(node.links) for node in topology.nodes} == {"a": 1, "b": 1}
        assert b.mesh.insight.transfers() == b.mesh.insight.sending() == []
        assert msgspec.json.encode([peer, topology])  # for the API
