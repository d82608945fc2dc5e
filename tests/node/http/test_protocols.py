"""Which protocol is spoken: HTTP/1.1 unless the client begins with HTTP/2."""

from __future__ import annotations

import subprocess
import sys

import pytest

from node.http.limits import Limits
from node.http.protocols import hypercorn_config
from tests.node.http.support import echo, running
from tests.node.http.test_http2 import Http2Client

WEBSOCKET = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
H2C = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]


def test_hypercorn_keeps_to_the_same_limits() -> None:
    config = hypercorn_config(Limits(idle_timeout=7.0, streams_max=9, head_size_max=999))
    assert config.keep_alive_timeout == 7.0
    assert config.h2_max_concurrent_streams == 9
    assert config.h11_max_incomplete_size == 999
    assert config.accesslog is None


@pytest.mark.parametrize("headers", [WEBSOCKET, H2C, ["Upgrade: tls/1.0"]])
async def test_an_upgrade_is_answered_as_http_1_1(headers: list[str]) -> None:
    async with running(echo) as server:
        client = await server.connect()
        for _ in range(2):  # and the connection stays what it was
            answer = await client.get("/x", *headers)
            assert (answer.status, answer.body) == (200, b"GET /x ")
            assert "upgrade" not in answer.headers


async def test_prior_knowledge_of_http_2_needs_no_upgrade() -> None:
    async with running(echo) as server:
        client = Http2Client((await server.connect()).stream)
        await client.start()
        number = await client.request("/x")
        await client.until_end(number)
        assert client.bodies[number] == b"GET /x "


async def test_connect_over_http_2_is_not_supported() -> None:
    async with running(echo) as server:
        client = Http2Client((await server.connect()).stream)
        await client.start()
        number = client.h2.get_next_available_stream_id()
        fields = [(":method", "CONNECT"), (":authority", "t:443")]
        client.h2.send_headers(number, fields, end_stream=True)
        await client.flush()
        await client.until_end(number)
        assert client.status[number] == "501"
        assert len(client.headers[number]["x-request-id"]) == 16


def test_a_server_starts_without_the_libraries_of_http_2() -> None:
    program = (
        "import sys, node.http; print(sorted({'hypercorn', 'h2', 'wsproto'} & {*sys.modules}))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert shown.stdout == b"[]\n"
