"""HTTP/2 over real sockets, against the h2 library as client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import trio

from node.http.asgi import Receive, Scope, Send
from tests.node.http.support import PATIENCE, Server, echo, http, read_body, reply, running


class Http2Client:
    """A client with prior knowledge that HTTP/2 is spoken."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1"))
        self.status: dict[int, str] = {}
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaway: int | None = None
        self.gone = False
        self.generous = True
        """Whether windows are given back as data comes."""

    async def start(self, **settings: int) -> None:
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            await self.stream.send_all(data)

    async def request(
        self, path: str = "/", method: str = "GET", *, end: bool = True, **headers: str
    ) -> int:
        number = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "t")]
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.h2.send_headers(number, fields, end_stream=end)
        await self.flush()
        return number

    async def data(self, number: int, data: bytes, *, end: bool = False) -> None:
        for start in range(0, len(data), 16384):
            self.h2.send_data(number, data[start : start + 16384])
        if end:
            self.h2.end_stream(number)
        await self.flush()

    async def read(self) -> None:
        try:
            data = await self.stream.receive_some(1 << 20)
        except trio.BrokenResourceError:
            data = b""
        self.gone = not data
        for event in self.h2.receive_data(data) if data else []:
            self._note(event)
        await self.flush()

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.headers[event.stream_id] = dict(event.headers)
            self.status[event.stream_id] = self.headers[event.stream_id][":status"]
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            if self.generous:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event.error_code

    async def until_end(self, *numbers: int) -> None:
        while not self.gone and not {*numbers} <= self.ended | set(self.resets):
            await self.read()


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Http2Client]:
    client = Http2Client((await server.connect()).stream)
    await client.start()
    yield client


async def test_streams_are_served_side_by_side() -> None:
    hold = trio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["http_version"] == "2"
        if scope["path"] == "/slow":
            await hold.wait()
        else:
            hold.set()
        await reply(send, scope["path"].encode())

    async with running(http(handler)) as server, connected(server) as client:
        slow, fast = await client.request("/slow"), await client.request("/fast")
        await client.until_end(slow, fast)
        assert client.bodies == {slow: b"/slow", fast: b"/fast"}
        assert client.headers[fast]["server"] == "atoll"


async def test_bodies_go_both_ways() -> None:
    async with running(echo) as server, connected(server) as client:
        number = await client.request("/up", "PUT", end=False)
        await client.data(number, b"x" * 60_000, end=True)
        await client.until_end(number)
        assert client.bodies[number] == b"PUT /up " + b"x" * 60_000


async def test_a_handler_that_does_not_read_stops_only_its_own_stream() -> None:
    """Stock Hypercorn's reader waits for that handler, and every stream with it."""
    hold = trio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/deaf":
            await hold.wait()
        await reply(send, b"%d" % len(await read_body(receive)))

    async with running(http(handler)) as server, connected(server) as client:
        deaf = await client.request("/deaf", "PUT", end=False)
        for _ in range(30):  # more than Hypercorn's queue of ten, within the default window
            await client.data(deaf, b"x" * 1000)
        other = await client.request("/other")
        await client.until_end(other)
        assert client.bodies[other] == b"0"
        hold.set()
        await client.data(deaf, b"", end=True)
        await client.until_end(deaf)
        assert client.bodies[deaf] == b"30000"


async def test_the_window_opens_only_as_the_app_reads() -> None:
    go = trio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await reply(send, b"%d" % len(await read_body(receive)))

    window = 100_000
    async with (
        running(http(handler), stream_window=window) as server,
        connected(server) as client,
    ):
        number = await client.request("/", "PUT", end=False)
        while client.h2.local_flow_control_window(number) != window:
            await client.read()  # the server's settings
        await client.data(number, b"x" * window)
        with trio.move_on_after(0.1) as patience:
            while True:
                await client.read()
        assert patience.cancelled_caught
        assert client.h2.local_flow_control_window(number) == 0
        go.set()
        while client.h2.local_flow_control_window(number) < window // 2:
            await client.read()
        await client.data(number, b"y", end=True)
        await client.until_end(number)
        assert client.bodies[number] == b"%d" % (window + 1)


async def test_an_answer_before_the_body_ends_the_upload_without_error() -> None:
    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, status=404)

    async with running(http(deaf)) as server, connected(server) as client:
        number = await client.request("/", "PUT", end=False)
        while number not in client.resets:
            await client.read()
        assert client.status[number] == "404"
        assert client.bodies[number] == b"ok\n"
        assert client.resets[number] == h2.errors.ErrorCodes.NO_ERROR
        late = await client.request("/", "PUT", end=False)
        await client.data(late, b"x" * 10_000)  # crosses the answer: stock Hypercorn crashes
        again = await client.request("/")
        await client.until_end(again)
        assert client.status[again] == "404"


async def test_files_are_sent_in_frames(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    content = os.urandom(300_000)
    path.write_bytes(content)

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        part = {"file": descriptor, "offset": 100, "count": 299_900}
        await send({"type": "http.response.zerocopysend", **part})
        os.close(descriptor)

    async with running(http(handler)) as server, connected(server) as client:
        got, head = await client.request("/"), await client.request("/", "HEAD")
        await client.until_end(got, head)
        assert client.bodies[got] == content[100:]
        assert not client.bodies.get(head)


async def test_a_stream_whose_window_stays_shut_is_reset() -> None:
    """The connection lives: only that stream makes no progress."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, bytes(5_000_000) if scope["path"] == "/big" else b"ok")

    async with (
        running(http(handler), write_timeout=0.2) as server,
        connected(server) as client,
    ):
        client.generous = False
        big = await client.request("/big")
        await client.until_end(big)
        assert big in client.resets
        client.h2.increment_flow_control_window(1_000_000)
        small = await client.request("/")
        await client.until_end(small)
        assert client.bodies[small] == b"ok"


async def test_a_body_that_stops_is_refused() -> None:
    async with running(echo, read_timeout=0.1) as server, connected(server) as client:
        number = await client.request("/", "PUT", end=False)
        await client.data(number, b"abc")
        await client.until_end(number)
        assert client.status[number] == "408"


async def test_bodies_over_the_bound_are_refused() -> None:
    async with running(echo, body_size_max=10) as server, connected(server) as client:
        declared = await client.request("/", "PUT", end=False, content_length="11")
        streamed = await client.request("/", "PUT", end=False)
        await client.data(streamed, b"x" * 11)
        await client.until_end(declared, streamed)
        assert client.status == {declared: "413", streamed: "413"}


async def test_a_reset_cancels_the_app() -> None:
    ended = trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with running(http(slow)) as server, connected(server) as client:
        number = await client.request()
        await trio.sleep(0.05)
        client.h2.reset_stream(number)
        await client.flush()
        await ended.wait()


async def test_rapid_resets_end_the_connection() -> None:
    async with (
        running(echo, resets_max=20, resets_period=PATIENCE) as server,
        connected(server) as client,
    ):
        for _ in range(20):
            number = await client.request("/", "PUT", end=False)
            client.h2.reset_stream(number)
            await client.flush()
        while not client.gone and client.goaway is None:
            await client.read()
        assert client.goaway == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


async def test_an_app_that_fails_amid_its_response_resets_its_stream() -> None:
    async def bug(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/early":
            raise ZeroDivisionError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    async with running(http(bug)) as server, connected(server) as client:
        early, late = await client.request("/early"), await client.request("/late")
        await client.until_end(early, late)
        assert client.status[early] == "500"
        assert client.resets[late] == h2.errors.ErrorCodes.INTERNAL_ERROR


async def test_malformed_paths_are_refused() -> None:
    async with running(echo) as server, connected(server) as client:
        number = await client.request("/\xff")
        other = await client.request("/fine")
        await client.until_end(number, other)
        assert client.status == {number: "400", other: "200"}


async def test_stopping_ends_idle_and_stalled_connections() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})

    async with (
        running(http(endless), drain=0.1, write_timeout=PATIENCE) as server,
        connected(server) as idle,
        connected(server) as stalled,
    ):
        await stalled.request()
        await idle.read()
        await trio.sleep(0.1)
        server.stop.set()
        started = trio.current_time()
        await server.done.wait()
        assert trio.current_time() - started < PATIENCE / 4


async def test_an_idle_connection_is_closed() -> None:
    async with running(echo, idle_timeout=0.1) as server, connected(server) as client:
        number = await client.request()
        await client.until_end(number)
        while not client.gone:
            await client.read()


async def test_a_frame_against_the_protocol_ends_the_connection_with_a_reason() -> None:
    async with running(echo) as server, connected(server) as client:
        await client.stream.send_all(b"\0\0\1\0\0\0\0\0\0x")  # DATA on stream 0
        while not client.gone:
            await client.read()
        assert client.goaway == h2.errors.ErrorCodes.PROTOCOL_ERROR


async def test_bytes_that_never_make_a_frame_are_not_kept_for_ever() -> None:
    """The h2 library looks at a frame's length only once it has all of the frame."""
    async with (
        running(echo, connection_window=100_000) as server,
        connected(server) as client,
    ):
        with suppress(trio.BrokenResourceError):  # it may end before we do
            await client.stream.send_all(b"\xff\xff\xff\0\0\0\0\0\1" + bytes(300_000))
        while not client.gone:
            await client.read()
