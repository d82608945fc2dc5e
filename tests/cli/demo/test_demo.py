"""The demo's parts: cables that carry, count and break; packages that clients take."""

from __future__ import annotations

import json
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
import trio
from rich.console import Console

from cli.demo import clients, samples
from cli.demo.cables import Cable
from cli.demo.command import Step, Story
from cli.demo.nodes import NOWHERE, DemoNode
from store.errors import DigestMismatchError


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def ended(stream: trio.SocketStream) -> bool:
    """Whether the other end has closed, politely or not."""
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True


async def test_a_cable_carries_counts_and_breaks() -> None:
    async with trio.open_nursery() as nursery:
        (server,) = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        target = ("127.0.0.1", server.socket.getsockname()[1])
        cable = Cable("A-B", target, rate=1e9)
        port = await nursery.start(cable.run)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            assert cable.moved == 10
            cable.cut()
            assert await ended(stream)
        async with await trio.open_tcp_stream("127.0.0.1", port) as refused:
            assert await ended(refused)
        cable.mend()
        async with await trio.open_tcp_stream("127.0.0.1", port) as again:
            await again.send_all(b"x")
            assert await again.receive_some() == b"x"
        assert cable.outages == 1
        nursery.cancel_scope.cancel()


def test_the_samples_are_what_clients_expect(tmp_path: Path) -> None:
    with zipfile.ZipFile(samples.wheel(tmp_path, 1000)) as wheel:
        assert "atoll_demo-1.0.dist-info/RECORD" in wheel.namelist()
    tarball = samples.npm_tarball(tmp_path, 1000)
    with tarfile.open(tarball) as archive:
        assert archive.getnames() == ["package/package.json", "package/data.bin"]
    document = json.loads(samples.npm_document(tarball))
    assert document["_attachments"][tarball.name]["length"] == tarball.stat().st_size
    image = samples.image(tmp_path, 1_000_000)
    for blob in (image.manifest, *image.blobs):
        assert samples.sha256(blob) == blob.name
    assert image.blobs[1].stat().st_size > 1_000_000


def test_other_bytes_are_noticed() -> None:
    with pytest.raises(DigestMismatchError):
        clients._same("a", "b")


def test_the_story_is_told_as_it_goes(tmp_path: Path) -> None:
    story = Story([Cable("A-B", ("x", 1), 1.0, up=False)], [Step("pull", "skopeo", 1.5, ok=True)])
    console = Console(width=120)
    with console.capture() as capture:
        console.print(story.render())
    assert "cut" in capture.get()
    assert "skopeo" in capture.get()
    assert DemoNode("a", tmp_path).mesh_port
    assert NOWHERE.startswith("tls://")
