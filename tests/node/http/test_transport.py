"""The socket stream: trio's contract for streams, sendfile, and peers that stall."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
from trio.testing import check_half_closeable_stream

from node.http import transport
from node.http.limits import Limits
from node.http.transport import StalledError, Transport


def make_pair(**limits: float) -> tuple[Transport, Transport]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    threads = trio.CapacityLimiter(4)
    found = Limits(**limits)  # type: ignore[arg-type]  # keywords of Limits
    return Transport(ours, found, threads), Transport(theirs, found, threads)


async def test_it_is_a_trio_stream() -> None:
    async def pair() -> tuple[Transport, Transport]:
        return make_pair()

    await check_half_closeable_stream(pair, None)


async def test_a_peer_that_takes_nothing_is_stalled() -> None:
    ours, theirs = make_pair(write_timeout=0.05)
    with pytest.raises(StalledError):
        await ours.send_all(bytes(64 << 20))
    await ours.aclose()
    await theirs.aclose()


async def test_a_peer_that_takes_little_at_a_time_is_not() -> None:
    """The kernel calls our end writable only in large steps; the timeout looks closer."""
    ours, theirs = make_pair(write_timeout=1.0)  # a busy machine may stop us for half of it
    size, taken = 24 << 20, 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, bytes(size))
        for _ in range(10):
            await trio.sleep(0.2)
            taken += len(await theirs.receive_some(100_000))
        while taken < size:
            taken += len(await theirs.receive_some())
    await ours.aclose()
    await theirs.aclose()


@pytest.mark.parametrize("warm", [True, False])
async def test_a_file_is_sent_from_any_offset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, warm: bool
) -> None:
    """At once from the page cache, and by a thread where that does not hold the bytes."""
    if not warm:
        monkeypatch.setattr(transport, "cached", lambda *_: False)
    content = os.urandom(3 << 20)
    path = tmp_path / "blob"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    ours, theirs = make_pair()
    found = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_file, descriptor, 1000, (3 << 20) - 1000)
        while len(found) < len(content) - 1000:
            found += await theirs.receive_some()
    assert found == content[1000:]
    with pytest.raises(EOFError):
        await ours.send_file(descriptor, (3 << 20) - 5, 6)
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_file(descriptor, 0, 3 << 20)
    os.close(descriptor)
    await ours.aclose()


async def test_what_is_in_memory_is_looked_for_anew_after_each_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow peer takes minutes, and its pages may leave meanwhile: no disk on the event loop."""
    asked: list[tuple[int, int]] = []

    def cached(_file: int, offset: int, count: int) -> bool:
        asked.append((offset, count))
        return True

    monkeypatch.setattr(transport, "cached", cached)
    content = os.urandom((2 << 20) + 5)
    path = tmp_path / "blob"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    ours, theirs = make_pair()
    ours.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
    found = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_file, descriptor, 0, len(content))
        while len(found) < len(content):
            found += await theirs.receive_some(30_000)
    assert found == content
    assert asked[0] == (0, 1 << 20)
    assert len(asked) > 10
    assert [offset for offset, _ in asked] == sorted(offset for offset, _ in asked)
    os.close(descriptor)
    await ours.aclose()
    await theirs.aclose()


async def test_what_more_follows_leaves_with_it_or_soon() -> None:
    ours, theirs = make_pair()
    await ours.write(b"head", more=True)
    assert await theirs.receive_some() == b"head"  # the kernel waits for a fifth of a second
    await ours.write(b"head", more=True)
    await ours.write(b" and body")
    assert await theirs.receive_some() == b"head and body"
    await ours.aclose()
    await theirs.aclose()


async def test_a_reset_is_not_a_clean_end() -> None:
    ours, theirs = make_pair()
    ours.reset_on_close()
    await ours.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await theirs.receive_some()
    await theirs.aclose()


async def test_closing_wakes_whoever_waits() -> None:
    ours, theirs = make_pair()

    async def wait_to_read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()

    async def wait_to_write() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(bytes(64 << 20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_to_read)
        nursery.start_soon(wait_to_write)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()
    await theirs.aclose()


async def test_a_local_socket_will_do() -> None:
    one, two = socket.socketpair()
    threads = trio.CapacityLimiter(1)
    ours, theirs = Transport(one, Limits(), threads), Transport(two, Limits(), threads)
    await ours.send_all(b"hello")
    assert await theirs.receive_some(3) == b"hel"
    await ours.aclose()
    await theirs.aclose()
