"""quart-trio on our server, and the traps of the stock pair, each shown to be there still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hypercorn.trio
import pytest
import quart
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio

from node.http.quart import READ_AHEAD_MAX, NodeQuart
from tests.node.http.support import PATIENCE, Client, running
from tests.node.http.test_http2 import Http2Client


class Trial:
    """An app in either class, with the two sides of its slow upload visible."""

    def __init__(self, kind: type[QuartTrio]) -> None:
        self.app = kind("trial")
        self.go = trio.Event()
        self.app.get("/")(self.index)
        self.app.put("/slow")(self.slow)
        self.app.put("/whole")(self.whole)
        self.app.get("/wait")(self.wait)
        self.ahead = 0
        self.waiting, self.cancelled = trio.Event(), trio.Event()

    async def index(self) -> str:
        return "hello"

    async def slow(self) -> str:
        await self.go.wait()
        self.ahead = len(quart.request.body._data)
        size = 0
        async for part in quart.request.body:
            size += len(part)
        return str(size)

    async def whole(self) -> str:
        return str(len(await quart.request.get_data()))

    async def wait(self) -> str:
        self.waiting.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()
        return ""


@asynccontextmanager
async def stock(app: QuartTrio, **options: Any) -> AsyncIterator[Client]:
    """Serve with plain Hypercorn, and connect."""
    config = Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None
    for name, value in options.items():
        setattr(config, name, value)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(hypercorn.trio.serve, app, config)
            stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
            async with stream:
                yield Client(stream)
            nursery.cancel_scope.cancel()


async def stays_open(client: Client) -> bool:
    with trio.move_on_after(0.3) as patience:
        await client.rest()
    return patience.cancelled_caught


# Connections that should close


async def test_stock_quart_still_never_closes_a_connection() -> None:
    async with stock(Trial(QuartTrio).app) as client:
        assert (await client.get("/", "Connection: close")).body == b"hello"
        assert await stays_open(client)


async def test_stock_quart_still_never_times_an_idle_connection_out() -> None:
    async with stock(Trial(QuartTrio).app, keep_alive_timeout=0.05) as client:
        assert (await client.get("/")).body == b"hello"
        assert await stays_open(client)


async def test_ours_closes_even_under_plain_hypercorn() -> None:
    async with stock(Trial(NodeQuart).app) as client:
        assert (await client.get("/", "Connection: close")).body == b"hello"
        assert await client.closed()
    async with stock(Trial(NodeQuart).app, keep_alive_timeout=0.05) as client:
        assert (await client.get("/")).body == b"hello"
        assert await client.closed()


async def test_ours_closes_and_keeps_connections_as_it_should() -> None:
    async with running(Trial(NodeQuart).app, idle_timeout=0.1) as server:
        client = await server.connect()
        for _ in range(3):
            assert (await client.get("/")).body == b"hello"
        assert await client.closed()
        client = await server.connect()
        await client.get("/", "Connection: close")
        assert await client.closed()


async def test_ours_serves_http_2() -> None:
    async with running(Trial(NodeQuart).app) as server:
        client = Http2Client((await server.connect()).stream)
        await client.start()
        for _ in range(3):
            number = await client.request("/")
            await client.until_end(number)
            assert client.bodies[number] == b"hello"


# Uploads

SIZE = 24 << 20
PUT = b"PUT %b HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"


async def upload(client: Client, path: bytes, size: int) -> None:
    await client.send(PUT % (path, size) + bytes(size))


async def test_stock_quart_still_buffers_a_whole_upload_ahead_of_its_handler() -> None:
    trial = Trial(QuartTrio)
    trial.app.config["MAX_CONTENT_LENGTH"] = None
    async with stock(trial.app) as client:
        await upload(client, b"/slow", SIZE)  # all of it, though nobody has read a byte
        trial.go.set()
        assert (await client.response()).body == b"%d" % SIZE
    assert trial.ahead > SIZE // 2


async def test_ours_reads_ahead_no_more_than_it_says() -> None:
    trial = Trial(NodeQuart)
    async with running(trial.app) as server, trio.open_nursery() as nursery:
        client = await server.connect()
        nursery.start_soon(upload, client, b"/slow", SIZE)
        await trio.sleep(0.2)
        trial.go.set()
        assert (await client.response()).body == b"%d" % SIZE
    assert 0 < trial.ahead <= 2 * READ_AHEAD_MAX


async def test_a_handler_may_still_ask_for_the_whole_body() -> None:
    async with running(Trial(NodeQuart).app) as server, trio.open_nursery() as nursery:
        client = await server.connect()
        nursery.start_soon(upload, client, b"/whole", 3 * READ_AHEAD_MAX)
        assert (await client.response()).body == b"%d" % (3 * READ_AHEAD_MAX)


async def test_stock_quart_still_refuses_uploads_over_16_mib() -> None:
    async with stock(Trial(QuartTrio).app) as client:
        with trio.move_on_after(0.5):
            await client.send(PUT % (b"/whole", SIZE) + bytes(1000))
            assert (await client.head()).status == 413
            return
    pytest.fail("the default limit is gone")


def test_ours_leaves_limits_on_size_and_time_to_the_server() -> None:
    stock_config, config = QuartTrio("a").config, NodeQuart("a").config
    for name in ("MAX_CONTENT_LENGTH", "BODY_TIMEOUT", "RESPONSE_TIMEOUT"):
        assert stock_config[name] is not None
        assert config[name] is None


# Clients that leave


async def test_a_client_that_leaves_cancels_the_handler() -> None:
    trial = Trial(NodeQuart)
    async with running(trial.app) as server:
        client = await server.connect()
        await client.send(b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n")
        await trial.waiting.wait()
        await client.stream.aclose()
        await trial.cancelled.wait()
