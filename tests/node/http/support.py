"""A server on a free port, a client that says exactly what it is told, and small apps."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from node.http import Binding, Bound, Limits, serve
from node.http.asgi import App, BodyMax, Message, Receive, Scope, Send

PATIENCE = 20.0  # seconds: no test waits this long unless something is broken


@dataclass
class Response:
    version: str
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes = b""


class Client:
    """One connection, written to and read from byte by byte."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def get(self, path: str = "/", *headers: str, method: str = "GET") -> Response:
        lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]
        await self.send("\r\n".join(lines).encode())
        return await self.response(method)

    async def _more(self) -> None:
        data = bytes(await self.stream.receive_some(65536))
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            await self._more()
        head, _, self.buffer = self.buffer.partition(mark)
        return head

    async def _exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            await self._more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    async def head(self) -> Response:
        start, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, reason = start.split(" ", 2)
        fields = (line.split(": ", 1) for line in lines)
        return Response(version, int(status), reason, {k.lower(): v for k, v in fields})

    async def response(self, method: str = "GET") -> Response:
        found = await self.head()
        if method == "HEAD" or found.status < 200 or found.status in (204, 304):
            return found
        if "content-length" in found.headers:
            found.body = await self._exactly(int(found.headers["content-length"]))
        elif found.headers.get("transfer-encoding") == "chunked":
            while size := int(await self._until(b"\r\n"), 16):
                found.body += await self._exactly(size)
                assert await self._exactly(2) == b"\r\n"
            assert await self._until(b"\r\n") == b""
        else:
            found.body = await self.rest()
        return found

    async def rest(self) -> bytes:
        """Read to the end; a reset counts as an end that loses nothing we look at."""
        try:
            while True:
                await self._more()
        except (EOFError, trio.BrokenResourceError):
            data, self.buffer = self.buffer, b""
            return data

    async def closed(self) -> bool:
        return await self.rest() == b""


@dataclass
class Server:
    bound: Bound
    stop: trio.Event
    nursery: trio.Nursery
    done: trio.Event
    clients: list[Client] = field(default_factory=list)

    async def connect(self, *, buffer: int | None = None) -> Client:
        sock = trio.socket.socket()
        if buffer is not None:  # small, so that little fits between server and client
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, buffer)
        try:
            await sock.connect((self.bound.host, self.bound.port))
        except OSError:
            sock.close()
            raise
        client = Client(trio.SocketStream(sock))
        self.clients.append(client)
        return client

    async def connect_tls(self, context: ssl.SSLContext) -> Client:
        plain = await self.connect()
        stream = trio.SSLStream(
            plain.stream, context, server_hostname="localhost", https_compatible=True
        )
        await stream.do_handshake()
        client = Client(stream)
        self.clients.append(client)
        return client


@asynccontextmanager
async def running(
    app: App,
    *,
    tls: ssl.SSLContext | None = None,
    drain: float = 1.0,
    body_max: BodyMax | None = None,
    **limits: Any,
) -> AsyncIterator[Server]:
    """Serve ``app`` on a free port; stop it, and close all clients, on the way out."""
    stop, done = trio.Event(), trio.Event()
    limits.setdefault("watch_interval", 0.05)
    limits.setdefault("linger_timeout", 0.3)

    async def run(task_status: trio.TaskStatus[Any]) -> None:
        binding = Binding(host="127.0.0.1", port=0, tls=tls)
        await serve(
            app,
            [binding],
            stop=stop,
            drain=drain,
            limits=Limits(**limits),
            body_max=body_max,
            task_status=task_status,
        )
        done.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (bound,) = await nursery.start(run)
            server = Server(bound, stop, nursery, done)
            try:
                yield server
            finally:
                for client in server.clients:
                    await trio.aclose_forcefully(client.stream)
                stop.set()


Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


def http(handler: Handler) -> App:
    """Make an app of a handler: lifespan is answered."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        await handler(scope, receive, send)

    return app


async def reply(send: Send, body: bytes = b"ok\n", status: int = 200, **start: Any) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers, **start})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message: Message = await receive()
        if message["type"] != "http.request":
            raise EOFError("client is gone")
        body += message["body"]
        if not message["more_body"]:
            return body


@http
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the method, the path and the body."""
    body = await read_body(receive)
    await reply(send, b"%b %b %b" % (scope["method"].encode(), scope["raw_path"], body))
