"""The topology names links that this node has no part in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mesh.neighbourhood import LIBP2P, SHORT, LinksRecord, Words
from mesh.neighbourhood import Path as Way
from mesh.shell import neighbourhood, topology
from mesh.status import TopologyLink
from tests.mesh.nodes import Fleet, until

A, B, C = (bytes([letter]) * 32 for letter in b"abc")


async def test_who_is_linked_only_with_one_learns_of_links_between_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbourhood, "LOOK", 0.05)
    monkeypatch.setattr(neighbourhood, "SPACING", 0.1)
    monkeypatch.setattr("mesh.neighbourhood.SPACING", 0.1)
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        await fleet.join(b, a)
        await fleet.join(c, a)

        async def known() -> bool:
            return all(len(node.mesh.topology().links) == 3 for node in (a, b, c))

        await until(known)
        ids = {node.identity.node for node in (b, c)}
        (far,) = [link for link in a.mesh.topology().links if set(link.nodes) == ids]
        assert far.age is not None
        near = [link for link in a.mesh.topology().links if link is not far and link.age is None]
        assert len(near) == 2
        assert all(link.path == "direct" for link in near)
        nodes = {node.node: node.links for node in a.mesh.topology().nodes}
        assert nodes[b.identity.node] == tuple(sorted(node.identity.node[:8] for node in (a, c)))


def record(node: bytes, *paths: Way, at: float = 1000.0) -> tuple[LinksRecord, bytes]:
    return LinksRecord(node, int(at * 1000), paths, b"k" * 32, b"s" * 64), b""


def test_both_ends_words_become_one_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "time", SimpleNamespace(time=lambda: 1010.0))
    words = Words(
        {
            B: record(B, Way(C[:SHORT], 30_000, 500, 1000), Way(b"x" * SHORT)),
            C: record(C, Way(B[:SHORT], 20_000, 700, 0, LIBP2P), Way(C[:SHORT]), at=1005.0),
        }
    )
    members = {node.hex(): None for node in (A, B, C)}
    ledger = SimpleNamespace(authority=SimpleNamespace(members=lambda: members))
    found = topology._told(ledger, SimpleNamespace(words=words))  # type: ignore[arg-type]  # a fake of its links
    pair = (B.hex(), C.hex())
    assert found == {
        pair: TopologyLink(pair, "libp2p", 0.02, (500.0, 700.0), 0.001, (0.0, 0.0), None, 5.0)
    }
