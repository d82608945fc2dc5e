"""What an app may send over HTTP/1.1, files above all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from node.http.asgi import Receive, Scope, Send
from node.http.exchange import INLINE_FILE_MAX
from tests.node.http.support import PATIENCE, Client, http, reply, running

LARGE = INLINE_FILE_MAX + 300_000
GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"


CONTENT = bytes(range(256)) * (LARGE // 256 + 1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exchange") / "blob"
    path.write_bytes(CONTENT)
    return path


def file_app(path: Path, offset: int, count: int, *, sized: bool = True, twice: bool = False):
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        assert "http.response.zerocopysend" in scope["extensions"]
        descriptor = os.open(path, os.O_RDONLY)
        length = [(b"content-length", b"%d" % (count * (1 + twice)))] if sized else []
        part = {"type": "http.response.zerocopysend", "file": descriptor}
        part |= {"offset": offset, "count": count}
        try:
            await send({"type": "http.response.start", "status": 200, "headers": length})
            if twice:
                await send({**part, "more_body": True})
            await send(part)
        finally:
            os.close(descriptor)

    return http(handler)


@pytest.mark.parametrize("count", [0, 1, 1000, INLINE_FILE_MAX, INLINE_FILE_MAX + 1, LARGE - 7])
@pytest.mark.parametrize("sized", [True, False])
async def test_a_file_part_arrives_whole_and_the_connection_lives_on(
    file: Path, count: int, sized: bool
) -> None:
    """Also in chunks, when its length was not told."""
    async with running(file_app(file, 7, count, sized=sized)) as server:
        client = await server.connect()
        for _ in range(2):
            assert (await client.get()).body == CONTENT[7 : 7 + count]
        assert (await client.get(method="HEAD")).status == 200
        assert len((await client.get()).body) == count


async def test_several_parts_of_a_file_make_one_body(file: Path) -> None:
    async with running(file_app(file, 0, LARGE, twice=True)) as server:
        client = await server.connect()
        assert (await client.get()).body == CONTENT[:LARGE] * 2


async def test_pipelined_files_keep_their_order(file: Path) -> None:
    async with running(file_app(file, 0, LARGE)) as server:
        client = await server.connect()
        await client.send(GET * 3)
        for _ in range(3):
            assert (await client.response()).body == CONTENT[:LARGE]


async def test_a_file_shorter_than_promised_breaks_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"x" * (LARGE - 10))
    async with running(file_app(path, 0, LARGE)) as server:
        client = await server.connect()
        await client.send(GET)
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await client.response()
    assert "10 bytes early" in caplog.text


async def test_a_small_file_shorter_than_promised_is_a_500(tmp_path: Path) -> None:
    """It is read before a byte of the response has left."""
    path = tmp_path / "short"
    path.write_bytes(b"x" * 990)
    async with running(file_app(path, 0, 1000)) as server:
        assert (await (await server.connect()).get()).status == 500


async def drain(client: Client) -> None:
    while await client.stream.receive_some(1 << 20):
        pass


def big_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(256 << 20)  # sparse, and more than any socket buffer holds


async def test_a_client_that_aborts_amid_a_file_frees_it(tmp_path: Path) -> None:
    path, closed = tmp_path / "big", trio.Event()
    big_file(path)

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            length = [(b"content-length", b"%d" % (256 << 20))]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send(
                {"type": "http.response.zerocopysend", "file": descriptor, "count": 256 << 20}
            )
            raise AssertionError("nobody can have taken it all")
        finally:
            os.close(descriptor)
            closed.set()

    async with running(http(handler)) as server:
        client = await server.connect()
        await client.send(GET)
        await client.stream.receive_some(1000)
        await client.stream.aclose()
        await closed.wait()


async def test_a_client_that_stalls_amid_a_file_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "big"
    big_file(path)
    async with running(file_app(path, 0, 256 << 20), write_timeout=0.1) as server:
        client = await server.connect(buffer=4096)
        await client.send(GET)
        await trio.sleep(0.5)
        with pytest.raises(trio.BrokenResourceError):
            await drain(client)


async def test_a_client_that_reads_slowly_is_not_dropped(tmp_path: Path) -> None:
    """It takes several write timeouts for the rest, but never one without progress."""
    path, size = tmp_path / "blob", 16 << 20
    path.write_bytes(bytes(size))
    async with running(file_app(path, 0, size), write_timeout=0.4) as server:
        client = await server.connect()
        await client.send(GET)
        head = await client.head()
        left = int(head.headers["content-length"]) - len(client.buffer)
        for _ in range(12):
            await trio.sleep(0.1)
            left -= len(await client.stream.receive_some(200_000))
        while left:
            left -= len(await client.stream.receive_some(1 << 20))


async def test_a_stream_without_length_goes_out_in_chunks() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one", b"", b"x" * 100_000):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    async with running(http(handler)) as server:
        client = await server.connect()
        answer = await client.get()
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == b"one" + b"x" * 100_000
        assert (await client.get()).status == 200


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(status: int) -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"must not be sent"})

    async with running(http(handler)) as server:
        client = await server.connect()
        assert [(await client.get()).status for _ in range(2)] == [status, status]


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body"}],
        [{"type": "http.response.start", "status": 200, "headers": []}] * 2,
        [{"type": "http.response.start", "status": 200, "headers": []}, {"type": "nonsense"}],
        [{"type": "http.response.start", "status": 200, "headers": [(b"bad name", b"")]}],
        [{"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nb: c")]}],
    ],
)
async def test_messages_out_of_order_or_malformed_are_the_apps_fault(
    messages: list[dict[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(dict(message))

    async with running(http(handler)) as server:
        client = await server.connect()
        assert (await client.get()).status == 500
    assert "request failed" in caplog.text


async def test_an_app_keeps_its_own_date() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"Date", b"then"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    async with running(http(handler)) as server:
        client = await server.connect()
        await client.send(GET)
        with trio.fail_after(PATIENCE):
            head = await client._until(b"\r\n\r\n")
    assert head.lower().count(b"date:") == 1


async def test_the_upload_is_read_only_as_fast_as_the_app_asks() -> None:
    """With the app asleep a client cannot send more than sockets hold."""
    go = trio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        await reply(send, b"%d" % size)

    size = 64 << 20
    async with running(http(handler)) as server:
        client = await server.connect()
        await client.send(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size)
        with trio.move_on_after(0.2) as stuck:
            await client.stream.send_all(bytes(size))
        assert stuck.cancelled_caught
        go.set()
