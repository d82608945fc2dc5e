"""One request and its response on an HTTP/2 connection."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, cast

import trio
from hypercorn.protocol.events import Body, EndBody, Event, Request, StreamClosed
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.utils import suppress_body

from node.http.asgi import Message, RejectedRequestError, Scope
from node.http.context import Context
from node.http.exchange import DISCONNECT
from node.http.files import pieces
from node.http.head import make_scope, request_id
from node.http.transport import StalledError

if TYPE_CHECKING:
    from node.http.http2 import Http2

log = logging.getLogger(__name__)


class Http2Stream(HTTPStream):
    """Hypercorn's HTTP stream, whose body waits here until the app takes it.

    What waits is bounded by the flow control window, which opens again only as the app reads.
    """

    def __init__(self, shared: Context, protocol: Http2, *args: Any) -> None:
        super().__init__(*args)
        self.start_time = time.time()
        self._shared = shared
        self._protocol = protocol
        self._waiting: list[bytes] = []
        self._owed = 0
        """Flow-controlled bytes to acknowledge: those of ``_waiting``, and their padding."""
        self._received = 0
        self._size_max: int | None = None
        self._news = trio.Event()
        self._app_scope = trio.CancelScope()
        self._told = False
        self._verdict: RejectedRequestError | None = None
        self.request_id = b""
        self.body_complete = False
        """Whether the client has sent its whole request."""

    # From client to app

    async def handle(self, event: Event) -> None:
        """Take the request, its end, or the end of the stream."""
        if self.closed:
            return
        if isinstance(event, Request):
            await self._begin(event)
        elif isinstance(event, EndBody):
            self.body_complete = True
            self._news.set()
        elif isinstance(event, StreamClosed):
            self.closed = True
            self._acknowledge()
            self._news.set()
            if self.state is not ASGIHTTPState.CLOSED:
                self._app_scope.cancel()

    async def _begin(self, request: Request) -> None:
        shown = next((v for name, v in request.headers if name == b"x-request-id"), b"")
        self.request_id = request_id(shown)
        try:
            self.scope = cast("Any", self._described(request))
            self._size_max = self._shared.body_size_max(cast("Scope", self.scope))
            self._judge_length(request)
        except RejectedRequestError as verdict:
            self.task_group.spawn(self._refuse, verdict)
        else:
            self.task_group.spawn(self._run)

    def _described(self, request: Request) -> Scope:
        if request.method == "CONNECT":
            raise RejectedRequestError(501, "CONNECT is not supported")
        return make_scope(
            method=request.method,
            target=request.raw_path,
            headers=request.headers,
            http_version=request.http_version,
            scheme=self.scheme,
            client=self.client,
            server=self.server,
            state=self._shared.state,
            identifier=self.request_id,
        )

    def _judge_length(self, request: Request) -> None:
        for name, value in request.headers:
            # h2 has checked that it is a number, and holds the client to it.
            declared = name == b"content-length" and self._size_max is not None
            if declared and int(value) > cast("int", self._size_max):
                raise RejectedRequestError(413, f"body exceeds {self._size_max} bytes")

    async def take(self, data: bytes, size: int) -> None:
        """Keep bytes of the body, which took ``size`` of the window, until the app reads."""
        self._owed += size
        self._received += len(data)
        if self.closed:
            self._acknowledge()
            return
        self._waiting.append(data)
        self._news.set()

    def _acknowledge(self) -> None:
        self._waiting.clear()
        self._protocol.acknowledge(self.stream_id, self._owed)
        self._owed = 0

    async def _receive(self) -> Message:
        while self._told and not self.closed and self.state is not ASGIHTTPState.CLOSED:
            await self._wait_for_news()
        if self._told or self.closed:
            return DISCONNECT
        with trio.move_on_after(self._shared.limits.read_timeout) as patience:
            while not self._waiting and not self.body_complete and not self.closed:
                await self._wait_for_news()
        if patience.cancelled_caught:
            verdict = f"no byte for {self._shared.limits.read_timeout} s"
            await self._give_up(RejectedRequestError(408, verdict))
        if self._size_max is not None and self._received > self._size_max:
            verdict = f"body exceeds {self._size_max} bytes"
            await self._give_up(RejectedRequestError(413, verdict))
        data = b"".join(self._waiting)
        self._acknowledge()
        self._told = self.body_complete
        return {"type": "http.request", "body": data, "more_body": not self._told}

    async def _wait_for_news(self) -> None:
        self._news = trio.Event()
        await self._news.wait()

    async def _give_up(self, verdict: RejectedRequestError) -> None:
        """Cancel the app from inside one of its calls; in a shield, raise ``verdict``."""
        self._verdict = verdict
        self._app_scope.cancel()
        await trio.lowlevel.checkpoint()
        raise verdict

    async def _run(self) -> None:
        """Call the app, and see to it that the stream ends somehow."""
        try:
            with self._app_scope:
                await self._shared.app(
                    cast("Scope", self.scope), self._receive, cast("Any", self.app_send)
                )
        except RejectedRequestError as verdict:
            self._verdict = verdict
        except Exception:  # a request is one of the three edges where errors are caught
            log.exception("request failed: %s %s", self.scope["method"], self.scope["path"])
        if self._verdict is not None and self.state is ASGIHTTPState.REQUEST and not self.closed:
            await self._refuse(self._verdict)
        elif self.state is ASGIHTTPState.RESPONSE and not self.closed:
            self._protocol.reset(self.stream_id)
        await self.app_send(None)

    async def _refuse(self, verdict: RejectedRequestError) -> None:
        text = b"%b\n" % str(verdict).encode("ascii", "replace")
        self.scope = cast("Any", {"method": "GET", "http_version": "2", "headers": []})
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
        ]
        start = {"type": "http.response.start", "status": verdict.status, "headers": headers}
        await self.app_send(cast("Any", start))
        await self.app_send(cast("Any", {"type": "http.response.body", "body": text}))

    # From app to client

    async def app_send(self, message: Any) -> None:
        """Take one ASGI message; None says that the app has returned."""
        try:
            if message is not None and message["type"] == "http.response.zerocopysend":
                await self._send_file(message)
            else:
                await super().app_send(message)
        except StalledError as error:
            await self._give_up(RejectedRequestError(408, str(error)))
        if self.state is ASGIHTTPState.CLOSED:
            self._news.set()

    async def _send_file(self, message: Message) -> None:
        """Read part of a file in large pieces: frames leave the kernel nothing to copy."""
        file, offset, count = message["file"], message.get("offset") or 0, message["count"]
        if count and not suppress_body(self.scope["method"], int(self.response["status"])):
            async for data in pieces(file, offset, count, self._shared.threads):
                await self.send(Body(stream_id=self.stream_id, data=cast("bytes", data)))
        end = {"type": "http.response.body", "more_body": message.get("more_body", False)}
        await super().app_send(cast("Any", end))
