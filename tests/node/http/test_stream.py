"""One HTTP/2 exchange seen by its app: disconnects, statuses without body, late answers."""

from __future__ import annotations

import trio

from node.http.asgi import Message, Receive, Scope, Send
from tests.node.http.support import http, read_body, reply, running
from tests.node.http.test_http2 import connected


async def test_an_app_that_waits_hears_of_the_disconnect() -> None:
    heard: list[Message] = []
    ended = trio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await reply(send)
        heard.append(await receive())
        ended.set()

    async with running(http(waiting)) as server, connected(server) as client:
        number = await client.request()
        await client.until_end(number)
        await ended.wait()
    assert heard == [{"type": "http.disconnect"}]


async def test_the_connection_that_ends_cancels_every_app() -> None:
    started, ended = 0, 0
    all_ended = trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal started, ended
        started += 1
        try:
            await trio.sleep_forever()
        finally:
            ended += 1
            if ended == 3:
                all_ended.set()

    async with running(http(slow)) as server, connected(server) as client:
        for _ in range(3):
            await client.request()
        await trio.sleep(0.1)
        assert started == 3
        await client.stream.aclose()
        await all_ended.wait()


async def test_many_parts_and_an_empty_end_make_one_body() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"Connection", b"keep-alive"), (b"Date", b"then")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in (b"one", b"", b"x" * 100_000):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    async with running(http(handler)) as server, connected(server) as client:
        number = await client.request()
        await client.until_end(number)
        assert client.bodies[number] == b"one" + b"x" * 100_000
        assert client.headers[number]["date"] == "then"
        assert "connection" not in client.headers[number]  # RFC 9113 §8.2.2


async def test_a_status_without_body_has_none() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"", status=304)

    async with running(http(handler)) as server, connected(server) as client:
        number = await client.request()
        await client.until_end(number)
        assert client.status[number] == "304"
        assert not client.bodies.get(number)


async def test_an_app_may_answer_a_body_it_never_reads_to_the_end() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await reply(send, status=403, reason=b"No")

    async with running(http(handler)) as server, connected(server) as client:
        number = await client.request("/", "PUT", end=False)
        await client.data(number, b"x" * 1000)
        await client.until_end(number)
        assert client.status[number] == "403"
