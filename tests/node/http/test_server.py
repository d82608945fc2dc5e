"""The server's life: listening, limits on connections, and stopping in time."""

from __future__ import annotations

import errno
import socket
from functools import partial

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config

from node.http import Binding, Bound, serve
from node.http.asgi import Receive, Scope, Send
from tests.node.http.support import PATIENCE, Client, echo, http, read_body, reply, running

GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"


async def test_port_0_is_chosen_and_reported() -> None:
    async with running(echo) as server:
        assert server.bound.port
        assert server.bound.url == f"http://127.0.0.1:{server.bound.port}"


def test_an_ipv6_address_is_bracketed_in_its_url() -> None:
    assert Bound("::1", 443, tls=True).url == "https://[::1]:443"


async def test_a_taken_port_is_an_error_at_once() -> None:
    async with running(echo) as server:
        binding = Binding(host="127.0.0.1", port=server.bound.port)
        with pytest.raises(OSError, match="in use"):
            await serve(echo, [binding], stop=trio.Event())


@pytest.mark.parametrize("number", [errno.EPROTO, errno.EPERM, errno.EHOSTUNREACH, errno.ENETDOWN])
async def test_a_client_that_has_gone_before_it_is_accepted_ends_nobody(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(echo) as server:
        accept, errors = socket.socket.accept, [OSError(number, "gone")]

        def fail_once(listener: socket.socket) -> tuple[socket.socket, object]:
            if errors:
                raise errors.pop()
            return accept(listener)

        monkeypatch.setattr(socket.socket, "accept", fail_once)
        assert (await (await server.connect()).get()).status == 200
        assert not errors


async def test_every_address_of_a_host_has_the_same_port() -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, echo, [Binding(host="", port=0)], stop=stop))
        stop.set()
    assert len({address.port for address in bound}) == 1
    assert "0.0.0.0" in {address.host for address in bound}


async def test_the_apps_lifespan_frames_its_service() -> None:
    events: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            events.append(scope["state"]["greeting"])
            await reply(send)
            return
        scope["state"]["greeting"] = "hello"
        for _ in range(2):
            kind = (await receive())["type"]
            events.append(kind)
            await send({"type": f"{kind}.complete"})

    async with running(app) as server:
        await (await server.connect()).get()
    assert events == ["lifespan.startup", "hello", "lifespan.shutdown"]


async def test_an_app_without_lifespan_is_served_all_the_same() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await reply(send)

    async with running(app) as server:
        assert (await (await server.connect()).get()).status == 200


async def test_a_lifespan_that_does_not_end_is_left_behind() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep_forever()

    async with running(app, drain=0.1) as server:
        server.stop.set()
        await server.done.wait()


async def test_a_lifespan_that_fails_to_start_is_an_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="no database")):
        await serve(app, [Binding(host="127.0.0.1", port=0)], stop=trio.Event())


# Stopping


async def test_stopping_closes_idle_connections_at_once() -> None:
    async with running(echo, drain=PATIENCE) as server:
        used, unused = await server.connect(), await server.connect()
        await used.get()
        await trio.sleep(0.05)
        server.stop.set()
        assert await used.closed()
        assert await unused.closed()
        await server.done.wait()


async def test_stopping_refuses_new_connections() -> None:
    hold = trio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await hold.wait()
        await reply(send)

    async with running(http(handler), drain=PATIENCE) as server:
        client = await server.connect()
        await client.send(GET)
        await trio.sleep(0.05)
        server.stop.set()
        await trio.sleep(0.05)
        with pytest.raises(OSError):
            await server.connect()
        hold.set()
        await server.done.wait()


async def test_a_request_in_flight_is_finished_and_told_goodbye() -> None:
    go = trio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await reply(send)

    async with running(http(handler), drain=PATIENCE) as server:
        client = await server.connect()
        await client.send(GET)
        await trio.sleep(0.05)
        server.stop.set()
        await trio.sleep(0.05)
        go.set()
        answer = await client.response()
        assert answer.status == 200
        assert await client.closed()
        await server.done.wait()


async def test_a_request_that_takes_too_long_is_cancelled() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with running(http(handler), drain=0.1) as server:
        client = await server.connect()
        await client.send(GET)
        await trio.sleep(0.05)
        server.stop.set()
        await server.done.wait()


@http
async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})


@pytest.mark.parametrize("request_bytes", [GET, b"GET / HTTP/1.0\r\n\r\n"])
async def test_a_stalled_client_does_not_outlive_the_drain(request_bytes: bytes) -> None:
    async with running(endless, drain=0.1, write_timeout=PATIENCE) as server:
        client = await server.connect(buffer=4096)
        await client.send(request_bytes)
        await trio.sleep(0.1)  # by now every buffer between us is full
        server.stop.set()
        started = trio.current_time()
        await server.done.wait()
        assert trio.current_time() - started < PATIENCE / 4


async def test_stock_hypercorn_still_lets_a_stalled_client_outlive_the_drain() -> None:
    """The trap this server exists for: when this fails, Hypercorn has learnt to time writes out."""
    config, stop, done = Config(), trio.Event(), trio.Event()
    config.bind, config.errorlog, config.graceful_timeout = ["127.0.0.1:0"], None, 0.1

    async def run(task_status: trio.TaskStatus[list[str]]) -> None:
        await hypercorn.trio.serve(
            endless,  # type: ignore[arg-type]  # a fake of it
            config,
            shutdown_trigger=stop.wait,
            task_status=task_status,
        )
        done.set()

    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(run)
        sock = trio.socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await sock.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        client = Client(trio.SocketStream(sock))
        await client.send(GET)
        await trio.sleep(0.1)
        stop.set()
        with trio.move_on_after(0.5):  # five times its drain
            await done.wait()
        outlived = not done.is_set()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await client.stream.aclose()  # a reset is what it takes
        nursery.cancel_scope.cancel()
    assert outlived


# Limits on connections


async def test_too_many_connections_from_one_address_are_closed() -> None:
    async with running(echo, peer_connections_max=2) as server:
        clients = [await server.connect() for _ in range(3)]
        assert await clients[2].closed()
        assert (await clients[0].get()).status == 200
        await clients[1].stream.aclose()
        await trio.sleep(0.05)
        assert (await (await server.connect()).get()).status == 200


async def test_the_longest_idle_connection_makes_room() -> None:
    async with running(echo, connections_max=2) as server:
        first, second = await server.connect(), await server.connect()
        await first.get()
        await second.get()
        third = await server.connect()
        assert (await third.get()).status == 200
        assert await first.closed()
        assert (await second.get()).status == 200


async def test_busy_connections_make_a_new_one_wait() -> None:
    async with running(echo, connections_max=1) as server:
        busy = await server.connect()
        await busy.send(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nx")
        await trio.sleep(0.05)
        waiting = await server.connect()
        await waiting.send(GET)
        with trio.move_on_after(0.1) as patience:
            await waiting.response()
        assert patience.cancelled_caught
        await busy.send(b"x")
        assert (await busy.response()).status == 200
        assert (await waiting.response()).status == 200


async def test_a_broken_connection_does_not_disturb_the_others() -> None:
    async with running(echo) as server:
        rude, polite = await server.connect(), await server.connect()
        await rude.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n")
        assert (await polite.get()).status == 200
        assert (await rude.response()).status == 400


async def test_uploads_end_before_stop_does() -> None:
    """A drain covers a body that is still coming."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, await read_body(receive))

    async with running(http(handler), drain=PATIENCE) as server:
        client = await server.connect()
        await client.send(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nab")
        await trio.sleep(0.05)
        server.stop.set()
        await trio.sleep(0.05)
        await client.send(b"cd")
        assert (await client.response()).body == b"abcd"
        await server.done.wait()
