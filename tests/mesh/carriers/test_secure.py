"""TLS streams: many records at a time, in both directions at once, to any end."""

from __future__ import annotations

import random
import socket
import struct
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from mesh.carriers.secure import RECORD_HEAD, RECORD_MAX, Records, SecureStream
from mesh.carriers.tls import Counted, contexts, public_key
from tests.mesh.keys import Signer

A = Signer("a")
CLIENT, SERVER = contexts(A.seed)


async def pair() -> tuple[SecureStream, SecureStream]:
    one, two = memory_stream_pair()
    client, server = SecureStream(one, CLIENT), SecureStream(two, SERVER, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    return client, server


async def drain(stream: SecureStream, into: bytearray, limit: int | None = None) -> None:
    while data := await stream.receive_some(limit):
        assert limit is None or len(data) <= limit
        into += data


async def test_both_directions_at_once() -> None:
    client, server = await pair()
    assert public_key(client) == A.key
    up, down = random.Random(1).randbytes(1_500_000), random.Random(2).randbytes(700_000)
    came, went = bytearray(), bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain, server, came)
        nursery.start_soon(drain, client, went, 1000)

        async def send(stream: SecureStream, data: bytes) -> None:
            await stream.send_all(data[:10])
            await stream.send_all(b"")
            await stream.send_all(memoryview(data)[10:])

        async with trio.open_nursery() as senders:
            senders.start_soon(send, client, up)
            senders.start_soon(send, server, down)
        with trio.move_on_after(5):
            while len(came) < len(up) or len(went) < len(down):  # noqa: ASYNC110  the other side tells nobody
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    await client.aclose()
    await server.aclose()
    assert came == up
    assert went == down


async def test_many_records_come_in_one_go() -> None:
    client, server = await pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, bytes(200_000))
        assert len(await server.receive_some()) == 200_000


async def test_an_end_without_a_word_is_an_end() -> None:
    client, server = await pair()
    await client.send_all(b"last words")
    await client.aclose()
    assert await server.receive_some() == b"last words"
    assert await server.receive_some() == b""
    assert await server.receive_some() == b""


async def test_tampering_breaks_it() -> None:
    client, server = await pair()
    assert isinstance(client.transport, trio.abc.Stream)
    await client.transport.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()


async def test_no_handshake_with_who_hangs_up_or_speaks_something_else() -> None:
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n"):
        one, two = memory_stream_pair()
        if said:
            await one.send_all(said)
        else:
            await one.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await SecureStream(two, SERVER, server_side=True).do_handshake()


@given(st.lists(st.integers(0, RECORD_MAX), max_size=6), st.randoms(use_true_random=False))
def test_what_a_record_lacks_is_known_wherever_it_is_cut(
    lengths: list[int], rng: random.Random
) -> None:
    stream, ends = bytearray(), []
    for length in lengths:
        stream += b"\x17\x03\x03" + length.to_bytes(2, "big") + bytes(length)
        ends.append((len(stream) - length, len(stream)))
    records, at = Records(), 0
    while at < len(stream):
        step = rng.choice([1, 2, 4, 5, 1448, 40_000])
        records.feed(bytes(stream[at : at + step]))
        at = min(at + step, len(stream))
        assert records.missing == sum(end - at for body, end in ends if body <= at < end)


def test_a_record_longer_than_any_is_not_waited_for() -> None:
    records = Records()
    records.feed(b"\x17\x03\x03\xff\xff")
    assert records.missing == 0


async def tcp_pair() -> tuple[Counted, Counted]:
    """Two ends on real sockets, which can wait for whole records."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.open_tcp_stream(*listener.socket.getsockname())
        far = await listener.accept()
    client, server = Counted(near, CLIENT), Counted(far, SERVER, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    return client, server


async def drip(source: Counted, data: bytes, step: int) -> None:
    """Encrypt at one end, and let the bytes reach the other in small packets."""
    source._tls.write(data)
    wire = source._outgoing.read()
    for at in range(0, len(wire), step):
        await source.transport.send_all(wire[at : at + step])
        await trio.sleep(0.002)


async def test_a_record_that_comes_in_packets_wakes_us_for_its_end() -> None:
    client, server = await tcp_pair()
    transport: Any = server.transport  # whose reads are counted
    reads, receive = 0, transport.receive_some

    async def counted(max_bytes: int | None = None) -> bytes:
        nonlocal reads
        reads += 1
        return await receive(max_bytes)

    data = random.Random(3).randbytes(16_000)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            transport.receive_some = counted
            nursery.start_soon(drip, client, data, 500)
            came = bytearray()
            while len(came) < len(data):
                came += await server.receive_some()
        assert came == data
        assert reads <= 4  # of 33 packets: the record's head, and its end
        await client.send_all(b"a few bytes")  # wait for nothing more
        assert await server.receive_some() == b"a few bytes"
    await client.aclose()
    await server.aclose()


async def test_after_much_at_once_a_few_bytes_are_not_kept_waiting() -> None:
    client, server = await tcp_pair()
    data = random.Random(4).randbytes(300_000)
    client._tls.write(data[:16_000])
    first = client._outgoing.read()
    came = bytearray()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, server, came)
            await client.transport.send_all(first[:2000])
            await trio.testing.wait_all_tasks_blocked(0.01)  # for the rest of the record
            client._tls.write(data[16_000:32_000])
            client._tls.write(data[32_000:48_000])
            await client.transport.send_all(first[2000:] + client._outgoing.read())
            await trio.testing.wait_all_tasks_blocked(0.01)
            await client.send_all(b"a few bytes")
            while not came.endswith(b"a few bytes"):  # noqa: ASYNC110  the stream tells nobody
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
    assert came == data[:48_000] + b"a few bytes"
    await client.aclose()
    await server.aclose()


@pytest.mark.parametrize("how", ["closed", "broken off", "cancelled"])
async def test_who_ends_amid_a_record_keeps_nobody_waiting(how: str) -> None:
    client, server = await tcp_pair()
    assert isinstance(client.transport, trio.SocketStream)
    client._tls.write(bytes(16_000))
    await client.transport.send_all(client._outgoing.read()[: RECORD_HEAD + 3000])
    with trio.fail_after(10):
        if how == "cancelled":
            with trio.move_on_after(0.05) as patience:
                await server.receive_some()
            assert patience.cancelled_caught
        elif how == "closed":
            await client.aclose()
            assert await server.receive_some() == b""
        else:
            linger = struct.pack("ii", 1, 0)  # a reset instead of an end
            client.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await client.aclose()
            with pytest.raises(trio.BrokenResourceError):
                await server.receive_some()
    await client.aclose()
    await server.aclose()


async def test_who_closes_while_it_waits_for_a_record_is_told() -> None:
    client, server = await tcp_pair()
    client._tls.write(bytes(16_000))
    await client.transport.send_all(client._outgoing.read()[:3000])

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await server.receive_some()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await server.aclose()
    await client.aclose()


async def test_who_reads_after_closing_amid_a_record_is_told_each_time() -> None:
    client, server = await tcp_pair()
    client._tls.write(bytes(16_000))
    await client.transport.send_all(client._outgoing.read()[:3000])
    with trio.move_on_after(0.05):
        await server.receive_some()
    await server.aclose()
    with trio.fail_after(10):
        for _ in range(2):
            with pytest.raises(trio.ClosedResourceError):
                await server.receive_some()
    await client.aclose()
