"""Finding members: static peers, peer exchange, where a member came from, moving."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, cast

import trio
import trio.testing

from mesh.addresses import AddressBook, Outside
from mesh.announcement import Sighting, tag
from mesh.dialling import BACKOFF_MIN, BACKOFF_SHARE
from mesh.discovery import Heard
from mesh.ports import LedgerPort
from mesh.shell.links import Links
from mesh.shell.meeting import Meeting, Ways
from tests.mesh.nodes import Fleet, Node, until


def status(node: Node, other: Node):
    (peer,) = [p for p in node.mesh.peers() if p.node == other.identity.node]
    return peer


async def linked(one: Node, two: Node, seconds: float = 15.0) -> None:
    async def up() -> bool:
        known = [p.node for p in one.mesh.peers()]
        return two.identity.node in known and status(one, two).state == "up"

    await until(up, seconds)


async def test_peer_exchange_reaches_nodes_that_were_never_configured(tmp_path: Path) -> None:
    """Five nodes that each know the first one only are all linked with each other."""
    async with Fleet(tmp_path).open() as fleet:
        hub = await fleet.node("hub")
        others = [await fleet.node(name) for name in "bcde"]
        for node in others:
            await fleet.join(node, hub)
        for one in others:
            for two in others:
                if one is not two:
                    await linked(one, two)

        async def direct() -> bool:  # a relay may have been quicker at first
            return status(others[0], others[1]).found in {"record", "inbound"}

        await until(direct, 15.0)


async def test_an_address_record_crosses_two_hops(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        fleet.world.reachable = lambda one, two: {one, two} != {"a", "c"}
        await fleet.join(a, b)
        await fleet.join(c, b)

        async def known() -> bool:
            return c.mesh._addresses.of(a.id) == ("memory://a",)

        await until(known)
        assert status(c, a).sources == {"memory://a": "record"}


async def test_a_static_peer_is_known_by_its_key_alone(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        hub = await fleet.node("hub")
        a = await fleet.node("a", static=["memory://b", "memory://nobody"])
        b = await fleet.node("b")
        fleet.world.reachable = lambda one, two: "hub" in (one, two)
        await fleet.join(a, hub)
        await fleet.join(b, hub)
        await until(lambda: _knows(a, b))
        hub.scope.cancel()
        a.mesh._addresses.records.clear()
        b.mesh._addresses.records.clear()
        fleet.world.reachable = lambda one, two: (one, two) == ("a", "b")

        async def direct() -> bool:  # the relayed link may outlive the hub by a moment
            peer = status(a, b)
            return peer.state == "up" and peer.found == "static"

        await until(direct, 15.0)


class NobodyThere:
    """Links that never reach whom they dial."""

    def __init__(self) -> None:
        self.control: dict[bytes, object] = {}
        self.dialled: list[float] = []

    async def open_stream(self, address: str) -> NoReturn:
        self.dialled.append(trio.current_time())
        raise OSError("no route to " + address)


async def test_a_static_peer_is_sought_as_often_as_the_outage_is_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A pause adds to an outage in proportion, however often nobody was there."""
    links = NobodyThere()
    ledger = SimpleNamespace(node=bytes(32).hex())
    meeting = Meeting(
        cast(LedgerPort, ledger),
        cast(Links, links),
        cast(AddressBook, None),
        random.Random(1),
        ways=Ways(),
        outside=cast(Outside, None),
    )
    began = trio.current_time()
    with trio.move_on_after(3600):
        await meeting._seek("tls://nobody:1")
    for last, this in pairwise(links.dialled):
        assert this - last <= 1.5 * max(BACKOFF_MIN, BACKOFF_SHARE * (this - began))
    assert len(links.dialled) < 400


async def _knows(node: Node, other: Node) -> bool:
    return node.ledger.authority.is_member(other.identity.node)


async def test_a_false_announcement_costs_a_dial_and_nothing_else(tmp_path: Path) -> None:
    """Whoever answers at an announced address must be the node that was announced."""
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        await linked(a, b)
        meeting = b.mesh._meeting
        mesh = bytes.fromhex(b.ledger.mesh)
        meeting.heard(Heard("x", Sighting(a.id, tag(mesh), ("memory://liar",))))
        meeting.heard(Heard("y", Sighting(b"?" * 32, tag(mesh), ("memory://liar",))))
        meeting.heard(Heard("z", Sighting(a.id, tag(b"?" * 32), ("memory://other",))))
        sources = status(b, a).sources
        assert sources["memory://liar"] == "mdns"
        assert "memory://other" not in sources
        await fleet.world.cut("a", "b")
        await trio.sleep(0.01)
        await linked(a, b)
        await linked(b, a)
        meeting.heard(Heard("x", None))
        assert "memory://liar" not in status(b, a).sources


async def test_a_node_that_has_moved_tells_its_peers_at_once(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        await linked(a, b)
        await linked(b, a)
        await trio.sleep(0.01)
        b.mesh._meeting.reachable = ("memory://b", "memory://new")
        b.mesh._say_where()

        async def told() -> bool:
            return a.mesh._addresses.of(b.id) == ("memory://b", "memory://new")

        await until(told)
