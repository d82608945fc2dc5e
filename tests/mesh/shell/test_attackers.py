"""Strangers that drip and members that boast: bounded in time and bytes, and others go on."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from mesh import link
from mesh.carrier import Stream
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
        await b.mesh._links.control[a.id].stream.send_all(struct.pack("!IB", length, 32))

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
