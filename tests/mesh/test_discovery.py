"""Multicast for real, on loopback: two announcers hear each other, and hostile ones do no harm."""

from __future__ import annotations

import secrets
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from mesh.discovery import Heard, Lan, available, interfaces
from tests.mesh.nodes import Fleet, Node, until

GROUP, PORT = "224.0.0.251", 5353


def no_multicast() -> str:
    """Return why multicast cannot be had on loopback, or ""."""
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inward,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward,
        ):
            inward.bind(("", 0))
            lo = socket.inet_aton("127.0.0.1")
            member = struct.pack("4s4s", socket.inet_aton(GROUP), lo)
            inward.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            inward.settimeout(2)
            outward.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, lo)
            outward.sendto(b"x", (GROUP, inward.getsockname()[1]))
            inward.recv(1)
    except OSError as error:
        return f"no multicast on loopback: {error}"
    return ""


WHY = no_multicast()
multicast = pytest.mark.skipif(bool(WHY), reason=WHY or "multicast works")


def test_zeroconf_is_not_imported_until_it_is_needed() -> None:
    import subprocess

    code = (
        "import sys, mesh.service; sys.exit('zeroconf' in sys.modules or 'ifaddr' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_loopback_is_nothing_to_announce() -> None:
    assert not available(["tls://127.0.0.1:7", "memory://a"])
    assert available(["tls://10.1.1.1:7"])
    assert all("127." not in host for host in interfaces())


@multicast
async def test_nodes_hear_each_other_and_the_farewell(nursery: trio.Nursery) -> None:
    mesh, one, two = (secrets.token_bytes(32) for _ in range(3))
    heard: list[Heard] = []
    nursery.start_soon(Lan(mesh, one, ["tls://127.0.0.1:7001"]).run, heard.append)
    leaving = trio.CancelScope()
    nursery.start_soon(_run_in, leaving, Lan(mesh, two, ["tls://127.0.0.1:7002"]))

    def of_two() -> list[Heard]:
        return [h for h in heard if h.sighting is not None and h.sighting.node == two]

    await _until(lambda: bool(of_two()))
    assert of_two()[0].sighting.addresses == ("tls://127.0.0.1:7002",)
    leaving.cancel()
    await _until(lambda: any(h.sighting is None and two.hex()[:24] in h.name for h in heard))


async def _run_in(scope: trio.CancelScope, lan: Lan) -> None:
    with scope:
        await lan.run(lambda _heard: None)


async def _until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds, 20.0)


def state_of(node: Node, other: Node) -> tuple[str, str]:
    (peer,) = [p for p in node.mesh.peers() if p.node == other.identity.node]
    return peer.state, peer.found


@multicast
async def test_members_on_one_network_meet_without_any_address(tmp_path: Path) -> None:
    """They have moved: their records name nothing, and the hub that knows them is gone."""
    async with Fleet(tmp_path, tls=True, mdns="on").open() as fleet:
        hub = await fleet.node("hub")
        a, b = await fleet.node("a"), await fleet.node("b")
        fleet.world.reachable = lambda one, two: "hub" in (one, two)
        await fleet.join(a, hub)
        await fleet.join(b, hub)
        await until(lambda: _knows(a, b))
        await until(lambda: _knows(b, a))
        hub.scope.cancel()
        for node in (a, b):
            node.mesh._addresses.records.clear()
            node.mesh._addresses.hints.clear()
        fleet.world.reachable = lambda one, two: True
        await _until(lambda: _seen(a, b) or _seen(b, a))
        await _until(lambda: state_of(a, b)[0] == "up" == state_of(b, a)[0])
        assert {state_of(a, b)[1], state_of(b, a)[1]} <= {"mdns", "inbound", "record"}


def _seen(one: Node, two: Node) -> bool:
    """It is announced once; a book that was wiped is filled again by the next change of members."""
    one.mesh._meeting.members_changed()
    return "mdns" in {one.mesh._addresses.origin(two.id, a) for a in one.mesh._addresses.of(two.id)}


async def _knows(node: Node, other: Node) -> bool:
    return node.ledger.authority.is_member(other.identity.node)


@multicast
async def test_an_invited_node_finds_an_inviter_that_has_moved(tmp_path: Path) -> None:
    async with Fleet(tmp_path, tls=True, mdns="on").open() as fleet:
        a, b = await fleet.node("a", advertise=["tls://127.0.0.1:1"]), await fleet.node("b")
        text = await a.mesh.invite()
        await _until(lambda: bool(b.mesh._meeting.sightings.addresses(a.id)))
        await b.mesh.join(text)
        await _until(lambda: state_of(b, a)[0] == "up")


@multicast
async def test_noise_and_lies_on_the_network_do_no_harm(nursery: trio.Nursery) -> None:
    mesh, one, two = (secrets.token_bytes(32) for _ in range(3))
    heard: list[Heard] = []
    nursery.start_soon(Lan(mesh, one, ["tls://127.0.0.1:7001"]).run, heard.append)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        noise.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for n in range(300):
            noise.sendto(secrets.token_bytes(20 + n), (GROUP, PORT))
            noise.sendto(
                struct.pack("!6H", 0, 0x8400, 0, 0xFFFF, 0, 0) + b"\xc0\x0c" * 200, (GROUP, PORT)
            )
            await trio.lowlevel.checkpoint()
    nursery.start_soon(Lan(mesh, two, ["tls://127.0.0.1:7002"]).run, lambda _heard: None)
    await _until(lambda: any(h.sighting is not None and h.sighting.node == two for h in heard))
