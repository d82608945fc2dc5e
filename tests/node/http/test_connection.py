"""Connections over TLS: the same service, timeouts and stop."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trio

from node.http.asgi import Receive, Scope, Send
from node.http.tls import own_certificate, server_context
from tests.node.http.support import PATIENCE, echo, http, running
from tests.node.http.test_http2 import Http2Client


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return own_certificate(tmp_path_factory.mktemp("tls"), [])


@pytest.fixture
def theirs(pair: tuple[Path, Path]) -> ssl.SSLContext:
    return server_context(*pair)


@pytest.fixture
def ours(pair: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pair[0]))
    context.set_alpn_protocols(["http/1.1"])
    return context


async def test_http_1_1_over_tls(theirs: ssl.SSLContext, ours: ssl.SSLContext) -> None:
    async with running(echo, tls=theirs) as server:
        assert server.bound.url.startswith("https://")
        client = await server.connect_tls(ours)
        for path in ("/a", "/b"):
            assert (await client.get(path)).body == f"GET {path} ".encode()
        body = os.urandom(200_000)
        await client.send(b"PUT /c HTTP/1.1\r\nHost: t\r\nContent-Length: 200000\r\n\r\n" + body)
        assert (await client.response()).body == b"PUT /c " + body


async def test_http_2_is_agreed_on(theirs: ssl.SSLContext, ours: ssl.SSLContext) -> None:
    ours.set_alpn_protocols(["h2", "http/1.1"])
    async with running(echo, tls=theirs) as server:
        client = Http2Client((await server.connect_tls(ours)).stream)
        await client.start()
        number = await client.request("/x")
        await client.until_end(number)
        assert client.bodies[number] == b"GET /x "


async def test_a_client_without_alpn_gets_http_1_1(
    pair: tuple[Path, Path], theirs: ssl.SSLContext
) -> None:
    async with running(echo, tls=theirs) as server:
        client = await server.connect_tls(ssl.create_default_context(cafile=str(pair[0])))
        assert (await client.get()).status == 200


async def test_files_go_through_the_cipher(
    theirs: ssl.SSLContext, ours: ssl.SSLContext, tmp_path: Path
) -> None:
    """No kernel copy here: sendfile would put plain bytes on the wire."""
    path, content = tmp_path / "blob", os.urandom(400_000)
    path.write_bytes(content)

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["scheme"] == "https"
        descriptor = os.open(path, os.O_RDONLY)
        try:
            length = [(b"content-length", b"400000")]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send({"type": "http.response.zerocopysend", "file": descriptor, "count": 400_000})
        finally:
            os.close(descriptor)

    async with running(http(handler), tls=theirs) as server:
        client = await server.connect_tls(ours)
        for _ in range(2):
            assert (await client.get()).body == content


@pytest.mark.parametrize("greeting", [b"", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_handshake_that_fails_or_takes_too_long_ends(
    theirs: ssl.SSLContext, greeting: bytes
) -> None:
    async with running(echo, tls=theirs, handshake_timeout=0.1) as server:
        client = await server.connect()
        if greeting:
            await client.send(greeting)
        await client.rest()


async def test_a_stalled_client_does_not_outlive_the_drain(
    theirs: ssl.SSLContext, ours: ssl.SSLContext
) -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})

    async with running(
        http(endless), tls=theirs, drain=0.1, write_timeout=PATIENCE, close_timeout=0.1
    ) as server:
        client = await server.connect_tls(ours)
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        await trio.sleep(0.2)
        server.stop.set()
        started = trio.current_time()
        await server.done.wait()
        assert trio.current_time() - started < PATIENCE / 4


async def test_a_stalled_client_is_dropped(theirs: ssl.SSLContext, ours: ssl.SSLContext) -> None:
    dropped = trio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send(
                    {"type": "http.response.body", "body": bytes(1 << 20), "more_body": True}
                )
        finally:
            dropped.set()

    async with running(http(endless), tls=theirs, write_timeout=0.1) as server:
        client = await server.connect_tls(ours)
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        await dropped.wait()


async def test_idle_and_stopping_close_tls_too(
    theirs: ssl.SSLContext, ours: ssl.SSLContext
) -> None:
    async with running(echo, tls=theirs, idle_timeout=0.1, drain=PATIENCE) as server:
        client = await server.connect_tls(ours)
        assert (await client.get()).status == 200
        assert await client.closed()
        await server.connect_tls(ours)
        server.stop.set()
        await server.done.wait()
