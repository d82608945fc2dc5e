"""A new key on every carrier, while links are up and while peers have not heard of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.carriers.memory import MemoryCarrier, World
from mesh.shell.own import Own
from tests.mesh.nodes import Fleet, Node, until


async def linked(*nodes: Node) -> None:
    async def all_up() -> bool:
        return all(
            other.id in node.mesh._links.control
            for node in nodes
            for other in nodes
            if other is not node
        )

    await until(all_up, 20.0)


def shown(node: Node, other: Node) -> bytes:
    peer = node.mesh._links.control[other.id].link.peer
    assert peer is not None
    return peer.key


@pytest.mark.parametrize("tls", [False, True], ids=["memory", "tls"])
async def test_links_follow_a_nodes_new_key(tmp_path: Path, tls: bool) -> None:
    async with Fleet(tmp_path, tls=tls).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        await fleet.join(b, a)
        await fleet.join(c, a)
        await linked(a, b, c)
        old = b.ledger.identity.key
        await b.ledger.council.rotate()
        new = b.ledger.identity.key

        async def followed() -> bool:
            return all(
                b.id in node.mesh._links.control and shown(node, b) == new for node in (a, c)
            )

        await until(followed, 20.0)
        manifest = await b.add(b"after" * 1000)
        await b.publish("after", manifest)

        async def arrived() -> bool:
            return await a.reach(b) > 0

        await until(arrived, 20.0)
        assert a.ledger.authority.retired(b.identity.node, old)


async def test_who_slept_through_a_rotation_learns_of_it_at_the_door(tmp_path: Path) -> None:
    async with Fleet(tmp_path, tls=True).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        await linked(a, b)
        fleet.world.reachable = lambda _source, _target: False
        for node in (a, b):
            for connection in list(node.mesh._links.control.values()):
                connection.close("cut")

        async def apart() -> bool:
            return not a.mesh._links.control and not b.mesh._links.control

        await until(apart)
        await b.ledger.council.rotate()
        await b.ledger.council.rotate()
        fleet.world.reachable = lambda _source, _target: True
        a.mesh._links.hurry()
        b.mesh._links.hurry()
        await linked(a, b)

        async def heard() -> bool:
            return a.ledger.authority.current_key(b.identity.node) == b.ledger.identity.key

        await until(heard, 20.0)


async def test_only_a_new_key_is_shown(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a = await fleet.node("a")
        own, carrier = Own(a.ledger, "s"), MemoryCarrier(World(), "x", a.identity.key)
        own.carriers = (carrier,)
        assert not own.follow_key()
        await a.ledger.council.rotate()
        assert own.follow_key()
        assert carrier.key == a.ledger.identity.key == own.me().signer.key
        assert len(own.me().succession) == 1
