"""Chunks over several sockets to one peer: the bytes are right whatever becomes of a socket."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from mesh.carrier import Line
from mesh.carriers import tls as carrier
from mesh.carriers.tls import TlsCarrier, parse_address
from mesh.messages import BESIDE, Done, Nope
from mesh.shell.connection import Connection
from store.chunks import Manifest
from tests.mesh.nodes import Fleet, Node, until
from tests.mesh.proxy import Proxy

both = pytest.mark.parametrize("asker", ["a", "b"])  # b has dialled a


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def bundle(node: Node, other: Node) -> list[Connection]:
    return node.mesh._links.bundle(other.id)


@asynccontextmanager
async def pair(
    path: Path, *, tls: bool = True, rate: float = 0.0, sockets: int = 4
) -> AsyncGenerator[tuple[Node, Node]]:
    """Two nodes with a bulk socket; at ``rate``, each socket carries so many bytes per second."""
    async with Fleet(path, tls=tls).open() as fleet, trio.open_nursery() as nursery:
        proxy = Proxy(rate or 1e9)
        await nursery.start(proxy.run)
        a = await fleet.node("a", [proxy.address] if rate else [])
        b = await fleet.node("b", sockets=sockets)
        if isinstance(a.carrier, TlsCarrier):
            proxy.target = parse_address(a.carrier.bound[0])
        fleet.world.reachable = lambda source, _: source == "b"
        await fleet.join(b, a)
        first = content(100_000, seed=0)
        assert await b.read(await a.add(first)) == first
        yield a, b
        nursery.cancel_scope.cancel()


async def widened(asker: Node, other: Node, sockets: int) -> None:
    """Open so many sockets."""
    asker.mesh._links.widen(other.id, sockets)
    await counted(asker, other, sockets)


async def counted(one: Node, two: Node, sockets: int) -> None:
    async def both() -> bool:
        return len(bundle(one, two)) == len(bundle(two, one)) == sockets

    await until(both)


def blameless(reader: Node, data: bytes) -> None:
    (peer,) = reader.mesh.peers()
    assert (peer.strikes, peer.wasted, peer.notes) == (0, 0, ())
    assert peer.received < 1.1 * len(data) + 200_000


@both
@pytest.mark.parametrize("tls", [False, True], ids=["memory", "tls"])
async def test_the_chunks_of_one_blob_come_over_all_sockets(
    tmp_path: Path, tls: bool, asker: str
) -> None:
    async with pair(tmp_path, tls=tls) as (a, b):
        await widened(*((a, b) if asker == "a" else (b, a)), 4)
        before = [each.sent.total for each in bundle(a, b)]
        data = content(12_000_000)
        assert await b.read(await a.add(data)) == data
        carried = [each.sent.total - was for each, was in zip(bundle(a, b), before, strict=True)]
        assert min(carried) > 100_000
        blameless(b, data)
        (link,) = a.mesh.insight.paths()
        assert link.sockets == 4
        (peer,) = a.mesh.peers()
        assert peer.sent > len(data)


async def test_both_ways_at_once(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b), trio.open_nursery() as nursery:
        await widened(b, a, 3)
        found: dict[str, bytes] = {}

        async def read(node: Node, manifest: Manifest) -> None:
            found[node.name] = await node.read(manifest)

        data = {"a": content(6_000_000, seed=1), "b": content(6_000_000, seed=2)}
        at_b, at_a = await b.add(data["a"]), await a.add(data["b"])
        nursery.start_soon(read, a, at_b)
        nursery.start_soon(read, b, at_a)
        with trio.fail_after(20):
            while found != data:  # noqa: ASYNC110  two readers
                await trio.sleep(0.02)
        blameless(a, data["a"])
        blameless(b, data["b"])


@both
async def test_a_socket_that_breaks_costs_nobody_a_byte(tmp_path: Path, asker: str) -> None:
    async with pair(tmp_path, rate=4e6) as (a, b), trio.open_nursery() as nursery:
        await widened(b, a, 3)
        data, killed = content(3_000_000), a if asker == "a" else b
        other = b if killed is a else a
        manifest = await a.add(data)

        async def kill() -> None:
            await trio.sleep(0.15)
            await bundle(killed, other)[2].stream.aclose()

        nursery.start_soon(kill)
        with trio.fail_after(20):
            assert await b.read(manifest) == data
        (peer,) = b.mesh.peers()
        assert peer.strikes == 0
        await counted(a, b, 1)


@both
async def test_sockets_that_are_given_up_lose_nothing(tmp_path: Path, asker: str) -> None:
    """The peer hears them out, so that no chunk has to come twice."""
    async with pair(tmp_path, rate=4e6) as (a, b), trio.open_nursery() as nursery:
        await widened(b, a, 4)
        first = bundle(a, b)[0]
        data, (one, two) = content(3_000_000), (a, b) if asker == "a" else (b, a)
        manifest = await a.add(data)

        async def narrow() -> None:
            await trio.sleep(0.15)
            assert b.mesh._exchange.peers[a.id].outstanding > 0
            one.mesh._links.narrow(two.id, "enough")

        nursery.start_soon(narrow)
        with trio.fail_after(20):
            assert await b.read(manifest) == data
        await counted(a, b, 1)
        assert bundle(a, b) == [first]
        blameless(b, data)


@both
async def test_a_node_that_takes_one_is_asked_for_no_more(tmp_path: Path, asker: str) -> None:
    """As is one of before there were several: it does not say that it takes them."""
    async with pair(tmp_path, sockets=1) as (a, b):
        one, two = (a, b) if asker == "a" else (b, a)
        for _ in range(3):
            one.mesh._links.widen(two.id, 4)
        await trio.sleep(0.2)
        assert len(bundle(a, b)) == len(bundle(b, a)) == 1
        data = content(1_000_000)
        assert await b.read(await a.add(data)) == data
        blameless(b, data)


async def test_whoever_opens_many_holds_four(tmp_path: Path) -> None:
    """The fifth is refused before anything could be said on it, and the others go on."""
    async with pair(tmp_path) as (a, b):
        b.mesh._links._standing.sockets_max = 100
        first = bundle(a, b)[0]
        await widened(b, a, 4)
        for _ in range(8):
            b.mesh._links.widen(a.id, 8)
            await trio.sleep(0.05)
        assert len(bundle(b, a)) == len(bundle(a, b)) == 4
        assert bundle(a, b)[0] is first
        assert a.mesh._links._accepted <= 1 + 8  # control, those that count, those at the gate
        data = content(2_000_000)
        assert await b.read(await a.add(data)) == data
        blameless(b, data)


async def test_there_is_nothing_beside_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b):
        address = bundle(b, a)[0].address
        b.mesh._links.close_bulk(a.id, "as if idle")

        async def closed() -> bool:
            return not bundle(a, b)

        await until(closed)
        why = await b.mesh._links._dial(a.id, address, BESIDE)
        assert why == "refused: no room for another bulk socket"
        assert not bundle(a, b)


async def test_what_ends_a_request_may_overtake_its_chunks(tmp_path: Path) -> None:
    """On another socket: they are no fault of the sender's, and still of use."""
    async with pair(tmp_path, rate=2e6) as (a, b), trio.open_nursery() as nursery:
        data = content(1_500_000)
        manifest = await a.add(data)

        async def end_early() -> None:
            await trio.sleep(0.2)
            requests = list(b.mesh._exchange._requests.pending)
            assert requests
            for number, word in zip(requests, (Done, Nope), strict=False):
                said: Any = word(number) if word is Done else Nope(number, 3)
                await b.mesh._board.transfers.received_bulk(a.id, said)

        nursery.start_soon(end_early)
        with trio.fail_after(20):
            assert await b.read(manifest) == data
        (peer,) = b.mesh.peers()
        assert peer.strikes == 0


async def test_a_lossy_line_is_given_more_sockets_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one again when nothing leaves any more."""
    unsent = 1

    def lossy(sock: Any) -> Line | None:
        found = real(sock)
        if found is None:
            return None
        sent = 200 + found.sent
        return Line("cubic", found.acked, 1 + sent // 50, sent, 0.02, 0.02, unsent)

    real = carrier.line
    monkeypatch.setattr("mesh.carriers.tls.line", lossy)
    monkeypatch.setattr("mesh.widening.SEGMENTS_MIN", 0)
    async with pair(tmp_path) as (a, b):
        data = content(1_000_000)
        assert await b.read(await a.add(data)) == data
        a.mesh._board.sending._widenings[b.id]._again += 1
        await counted(a, b, 4)
        unsent = 0
        monkeypatch.setattr("mesh.widening.IDLE", 0.1)
        monkeypatch.setattr("mesh.shell.sending.IDLE", 0.1)
        await counted(a, b, 1)
        assert not a.mesh._board.sending._watched


async def test_the_line_is_read_from_the_kernel() -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def swallow(stream: trio.SocketStream) -> None:
            async for _ in stream:
                pass

        nursery.start_soon(trio.serve_listeners, swallow, [listener])
        port = listener.socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(bytes(100_000))
            found = carrier.line(stream.socket)
            assert found is not None
            assert found.congestion
            assert found.sent > 0
            assert 0 <= found.again < found.sent  # a busy machine acknowledges late
            assert 0 < found.rtt_min <= found.rtt < 1.0
        nursery.cancel_scope.cancel()
