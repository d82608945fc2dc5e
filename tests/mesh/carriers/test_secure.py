"""TLS streams: many records at a time, in both directions at once, to any end."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import memory_stream_pair

from mesh.carriers.secure import SecureStream
from mesh.carriers.tls import contexts, public_key
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
