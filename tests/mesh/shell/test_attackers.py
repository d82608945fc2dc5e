"""Strangers that drip and members that boast: bounded in time and bytes, and others go on."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from mesh import addresses, link, messages
from mesh.carrier import Dialled, Stream
from mesh.carriers import tls
from mesh.carriers.tls import TlsCarrier, parse_address
from mesh.shell import links
from mesh.wire import BULK_FRAME_MAX, CONTROL_FRAME_MAX
from tests.mesh.keys import Signer
from tests.mesh.nodes import Fleet, Node, until


async def linked(one: Node, two: Node) -> None:
    async def up() -> bool:
        return any(p.node == two.identity.node and p.state == "up" for p in one.mesh.peers())

    await until(up)


async def drip(stream: trio.abc.Stream, data: bytes) -> float:
    """Send a byte now and then until the other side has had enough; return how long that took."""
    began = trio.current_time()
    try:
        with trio.fail_after(10):
            for byte in data:
                await stream.send_all(bytes([byte]))
                with trio.move_on_after(0.05):
                    while await stream.receive_some(4096):
                        pass
                    break
    except trio.BrokenResourceError:
        pass
    await trio.aclose_forcefully(stream)
    return trio.current_time() - began


async def test_a_slow_tls_handshake_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (tls.HANDSHAKE_TIMEOUT, link.HANDSHAKE_TIMEOUT) == (10.0, 10.0)  # what is promised
    monkeypatch.setattr("mesh.carriers.tls.HANDSHAKE_TIMEOUT", 0.5)
    async with Fleet(tmp_path, tls=True).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        stream = await trio.open_tcp_stream(*parse_address(a.addresses[0]))
        hello = b"\x16\x03\x01\x02\x00" + bytes(500)  # a ClientHello that never ends
        assert await drip(stream, hello) < 5.0
        await fleet.join(b, a)
        await linked(a, b)


async def test_a_slow_introduction_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.link.HANDSHAKE_TIMEOUT", 0.5)
    async with Fleet(tmp_path, tls=True).open() as fleet:
        a = await fleet.node("a")
        stranger = await TlsCarrier(Signer("stranger").seed).dial(a.addresses[0])
        frame = struct.pack("!IB", 60_000, 2) + bytes(500)
        assert await drip(stranger.stream, frame) < 5.0


@pytest.mark.parametrize("length", [0, CONTROL_FRAME_MAX + 1, BULK_FRAME_MAX + 1, (1 << 32) - 1])
async def test_a_member_that_announces_an_oversize_frame_loses_that_link_only(
    tmp_path: Path, length: int
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        await fleet.join(b, a)
        await fleet.join(c, a)
        await linked(a, b)
        await linked(a, c)
        await trio.sleep(0.1)
        before, other = a.mesh._links.control[b.id], a.mesh._links.control[c.id]
        writing = b.mesh._links.control[a.id]
        writing.link._push(struct.pack("!IB", length, 32))  # its own task may be sending just now
        writing.wake()

        async def dropped() -> bool:
            return before.link.closed

        await until(dropped)
        assert before.link._decoder.pending <= 64
        assert a.mesh._links.control[c.id] is other
        await linked(a, b)


async def test_a_crowd_of_silent_strangers_keeps_no_member_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slowest make room, before TLS and after it: so many wait at once, and no more."""
    assert (tls.STRANGERS_MAX, links.STRANGERS_MAX) == (128, 256)  # what is promised
    monkeypatch.setattr("mesh.carriers.tls.STRANGERS_MAX", 8)
    monkeypatch.setattr("mesh.shell.links.STRANGERS_MAX", 4)
    async with Fleet(tmp_path, tls=True).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        crowd = [await trio.open_tcp_stream(*parse_address(a.addresses[0])) for _ in range(40)]
        shy = [await TlsCarrier(Signer(f"s{n}").seed).dial(a.addresses[0]) for n in range(12)]
        await fleet.join(b, a)
        await linked(a, b)
        assert len(a.mesh._links._strangers) <= 4
        assert await still_open(crowd) <= 8
        assert await still_open([each.stream for each in shy]) <= 4
        for raw in crowd:
            await trio.aclose_forcefully(raw)
        for each in shy:
            await each.stream.aclose()


async def still_open(streams: Sequence[Stream]) -> int:
    """Count those that the other side has not closed."""
    count = 0
    for stream in streams:
        with trio.move_on_after(0.05) as waited:
            try:
                while await stream.receive_some(4096):
                    pass
            except trio.BrokenResourceError:
                pass
        count += waited.cancelled_caught
    return count


async def test_a_member_that_writes_nonsense_for_its_addresses_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended every node that heard of it, at the next start again: its record is kept."""
    async with Fleet(tmp_path, tls=True).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        for other in (b, c):
            await fleet.join(other, a)
            await linked(a, other)
        mesh, clock = bytes.fromhex(a.ledger.mesh), time.time() + 10
        lies = (
            "tls://[",
            "tls://h:99999",
            "tls://a..b:1",
            "relay://x",
            "p2p://[",
            "tls://\u2100:1",
        )
        record = addresses.sign(b.identity, mesh, lies, clock)
        b.mesh._links.send(a.id, messages.Addresses((record,)))

        async def heard() -> bool:
            return all(n.mesh._addresses.of(b.id)[: len(lies)] == lies for n in (a, c))

        await until(heard)
        tried, dial = list[str](), a.carrier.dial

        async def noted(address: str) -> Dialled:
            tried.append(address)
            return await dial(address)

        monkeypatch.setattr(a.carrier, "dial", noted)
        b.scope.cancel()

        async def all_tried() -> bool:
            return {each for each in lies if each.startswith("tls:")} <= set(tried)

        await until(all_tried)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await linked(a, c)
