"""Leaving HTTP/1.1: WebSocket and HTTP/2 without TLS."""

from __future__ import annotations

import base64

import h2.connection
import wsproto
import wsproto.events

from node.http.asgi import Receive, Scope, Send
from tests.node.http.support import echo, reply, running
from tests.node.http.test_http2 import Http2Client


async def websocket_echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await reply(send)
        return
    assert scope["type"] == "websocket"
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/no":
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "websocket.accept"})
    message = await receive()
    await send({"type": "websocket.send", "text": message["text"].upper()})
    await send({"type": "websocket.close", "code": 1000})


async def test_a_websocket_is_hypercorns() -> None:
    async with running(websocket_echo) as server:
        client = await server.connect()
        socket = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        await client.send(socket.send(wsproto.events.Request(host="t", target="/")))
        seen: list[str] = []
        closed = False
        while not closed:
            socket.receive_data(await client.stream.receive_some(65536))
            for event in socket.events():
                if isinstance(event, wsproto.events.AcceptConnection):
                    await client.send(socket.send(wsproto.events.TextMessage(data="hello")))
                elif isinstance(event, wsproto.events.TextMessage):
                    seen.append(event.data)
                elif isinstance(event, wsproto.events.CloseConnection):
                    await client.send(socket.send(event.response()))
                    closed = True
        assert seen == ["HELLO"]
        assert await client.closed()


async def test_a_refused_websocket_is_refused_with_a_phrase() -> None:
    async with running(websocket_echo) as server:
        client = await server.connect()
        socket = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        await client.send(socket.send(wsproto.events.Request(host="t", target="/no")))
        head = await client.head()
        assert (head.status, head.reason) == (403, "Forbidden")


async def test_an_upgrade_not_properly_asked_for_is_ignored() -> None:
    """Nothing leaves our HTTP/1.1 for Hypercorn's by half a header."""
    async with running(echo) as server:
        client = await server.connect()
        for headers in (["Upgrade: websocket"], ["Connection: upgrade", "Upgrade: h2c"]):
            assert (await client.get("/", *headers)).status == 200


async def test_prior_knowledge_of_http_2_needs_no_upgrade() -> None:
    async with running(echo) as server:
        client = Http2Client((await server.connect()).stream)
        await client.start()
        number = await client.request("/x")
        await client.until_end(number)
        assert client.bodies[number] == b"GET /x "


async def test_an_upgrade_to_http_2_answers_the_request_that_asked() -> None:
    async with running(echo) as server:
        client = await server.connect()
        http2 = Http2Client(client.stream)
        settings = http2.h2.initiate_upgrade_connection()
        assert settings is not None
        assert base64.urlsafe_b64decode(settings + b"==")
        request = [
            "GET /up HTTP/1.1",
            "Host: t",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            f"HTTP2-Settings: {settings.decode()}",
        ]
        await client.send("\r\n".join([*request, "", ""]).encode())
        head = await client.head()
        assert (head.status, head.reason) == (101, "Switching Protocols")
        await http2.flush()
        for event in http2.h2.receive_data(client.buffer):
            http2._note(event)
        await http2.flush()
        await http2.until_end(1)
        assert http2.bodies[1] == b"GET /up "
        assert isinstance(http2.h2, h2.connection.H2Connection)
