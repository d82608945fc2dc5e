"""A whole node in this process: it answers, stops in time, and says why it cannot start."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from node.config import Access, Config, Http
from node.control import FILE
from node.run import run
from tests.node.world import PASSWORD

PATIENCE = 20.0  # seconds, on a busy machine


def config(folder: Path, **http: Any) -> Config:
    return Config(
        data=str(folder / "data"),
        http=Http(listen="127.0.0.1:0", **http),
        access=Access(admin_password=PASSWORD),
    )


@asynccontextmanager
async def running(settings: Config) -> AsyncGenerator[tuple[str, trio.Event]]:
    """A node; leaving asks it to stop and waits until it has."""
    stop, answered, urls = trio.Event(), trio.Event(), list[str]()

    def ready(url: str) -> None:
        urls.append(url)
        answered.set()

    with trio.fail_after(3 * PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(run, settings, stop=stop, ready=ready))
            await answered.wait()
            yield urls[0], stop
            stop.set()


async def get(url: str, path: str = "/livez") -> bytes:
    parts = urlsplit(url)
    stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 0)
    async with stream:
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        )
        answer = b""
        async for part in stream:
            answer += part
    return answer


async def test_it_answers_and_cleans_up_behind_itself(tmp_path: Path) -> None:
    settings = config(tmp_path)
    async with running(settings) as (url, _):
        assert (await get(url)).startswith(b"HTTP/1.1 200 ")
        assert b'"healthy"' in await get(url, "/health")
        assert (settings.path / FILE).stat().st_mode & 0o777 == 0o600
    assert not (settings.path / FILE).exists(), "the secret of an ended run is of use to nobody"
    with pytest.raises(OSError):
        await get(url)


async def test_a_client_that_stalls_does_not_outlive_the_drain(tmp_path: Path) -> None:
    settings = config(tmp_path, drain=0.5)
    async with running(settings) as (url, stop):
        parts = urlsplit(url)
        stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 0)
        head = "PUT /general/generic/x HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"
        await stream.send_all(head.encode() + b"abc")
        await trio.sleep(0.1)
        began = trio.current_time()
        stop.set()
    assert trio.current_time() - began < PATIENCE
    await stream.aclose()


async def test_stopping_before_it_is_ready_works_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that waited for its inviter ignored SIGTERM until it was sent twice."""

    async def wait_for_the_inviter(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("node.run.start_mesh", wait_for_the_inviter)
    stop = trio.Event()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(run, config(tmp_path), stop=stop, ready=lambda url: pytest.fail(url))
            )
            await trio.sleep(0.3)
            stop.set()


async def test_a_taken_port_ends_it_with_the_systems_words(tmp_path: Path) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    settings = Config(
        data=str(tmp_path / "data"),
        http=Http(listen=f"127.0.0.1:{port}"),
        access=Access(admin_password=PASSWORD),
    )
    with pytest.raises(BaseExceptionGroup) as caught:
        await run(settings, stop=trio.Event(), ready=lambda url: None)
    assert caught.group_contains(OSError, match="in use")
    assert not (settings.path / FILE).exists()
    await listeners[0].aclose()
