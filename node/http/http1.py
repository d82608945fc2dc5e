"""An HTTP/1.1 connection: read a head, run the app, answer, again.

The app runs in the connection's own task and its ``receive()`` reads the socket itself.
Hypercorn's H11Protocol pushes instead: a reader task, an app task, an idle task and a queue per
request; the figures in docs/http.md are why this one pulls.

Spec: RFC 9112.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from node.http.asgi import RejectedRequestError, Scope
from node.http.body import RequestBody
from node.http.context import Context
from node.http.exchange import Exchange
from node.http.head import (
    RequestHead,
    make_scope,
    parse_head,
    reason_phrase,
    request_id,
    server_headers,
)
from node.http.transport import Transport

log = logging.getLogger(__name__)

HEAD_END: Final = b"\r\n\r\n"
READ_SIZE: Final = 64 << 10
PREFACE_START: Final = b"PRI * HTTP/2.0\r\n\r\n"


class Http1:
    """Serve one connection until it ends, or turns out to speak something else."""

    def __init__(
        self,
        context: Context,
        stream: Transport | trio.SSLStream[Transport],
        *,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
    ) -> None:
        self._context = context
        self._limits = context.limits
        self._stream = stream
        self._scheme = "http" if isinstance(stream, Transport) else "https"
        self._client = client
        self._server = server
        self._buffer = b""
        self._request_count = 0
        self._request_id = b""
        self._idle: trio.CancelScope | None = None
        self.idle_since = trio.current_time()
        self.exchange: Exchange | None = None
        """The request being answered."""

    @property
    def idle(self) -> bool:
        """Whether the connection waits for a request of which no byte has come."""
        return self._idle is not None

    def close_if_idle(self) -> None:
        """End the connection unless a request is being read or answered."""
        if self._idle is not None:
            self._idle.cancel()

    async def run(self) -> bytes | None:
        """Serve requests.  Return the bytes read so far if they begin HTTP/2 (RFC 9113 §3.3).

        Raises BrokenResourceError when the connection is past use.
        """
        try:
            while True:
                data = await self._read_head()
                if data is None:
                    return None
                if self._request_count == 0 and data.startswith(PREFACE_START):
                    return data + self._buffer
                self._request_id = b""
                head = parse_head(data, self._limits)
                self._request_id = head.request_id
                self._request_count += 1
                if not await self._answer(head):
                    return None
        except RejectedRequestError as verdict:
            await self._refuse(verdict)
            return None

    async def _read_head(self) -> bytes | None:
        """Return a request head, or None if the peer or the node ends the connection first."""
        if self._buffer:
            await trio.lowlevel.checkpoint()  # who sends requests ahead must not keep the turn
        elif not await self._wait_for_request():
            return None
        head = self._take_head()
        if head is not None:  # nearly always: it came in one piece
            return head
        with trio.move_on_after(self._limits.head_timeout):
            while head is None:
                data = await self._stream.receive_some(READ_SIZE)
                if not data:
                    return None
                self._buffer += data
                head = self._take_head()
            return head
        raise RejectedRequestError(408, "request head took too long")

    def _take_head(self) -> bytes | None:
        """Cut a complete request head off what was received."""
        if self._buffer[:2] == b"\r\n":  # RFC 9112 §2.2: an empty line before it is ignored
            self._buffer = self._buffer.lstrip(b"\r\n")
        end = self._buffer.find(HEAD_END)
        if (end if end >= 0 else len(self._buffer)) > self._limits.head_size_max:
            raise RejectedRequestError(431, "request head is too large")
        if end < 0:
            if b"\n\n" in self._buffer or (self._buffer and self._buffer[0] < 0x21):
                raise RejectedRequestError(400, "malformed request head")
            return None
        end += len(HEAD_END)
        head, self._buffer = self._buffer[:end], self._buffer[end:]
        return head

    async def _wait_for_request(self) -> bool:
        """Wait for the first byte.  False if the peer leaves, or the wait is over."""
        if self._context.stopping:
            return False
        first = not self._request_count
        self.idle_since = now = trio.current_time()
        patience = self._limits.head_timeout if first else self._limits.idle_timeout
        with trio.CancelScope(deadline=now + patience) as self._idle:
            self._buffer = bytes(await self._stream.receive_some(READ_SIZE))
        self._idle = None
        return bool(self._buffer)

    async def _answer(self, head: RequestHead) -> bool:
        """Let the app answer one request.  True if the connection can take another."""
        body = RequestBody(self._stream, self._limits, self._buffer)
        self._buffer = b""
        scope = make_scope(
            method=head.method,
            target=head.target,
            headers=head.headers,
            http_version=head.http_version,
            scheme=self._scheme,
            client=self._client,
            server=self._server,
            state=self._context.state,
            identifier=head.request_id,
        )
        body.expect(head.body_length, self._context.body_size_max(scope))
        exchange = Exchange(self._stream, self._limits, self._context.threads, head, body)
        exchange.close_after = (
            self._context.stopping or self._request_count >= self._limits.requests_max
        )
        self.exchange = exchange
        try:
            failure = await self._run_app(exchange, scope)
        finally:
            self.exchange = None
        if exchange.broken is not None:
            raise exchange.broken
        if exchange.finished:
            return await self._finish(exchange, body)
        if exchange.sent:
            raise trio.BrokenResourceError("response was cut short")
        if exchange.verdict is not None:
            raise exchange.verdict
        raise RejectedRequestError(500, "Internal Server Error") from failure

    async def _run_app(self, exchange: Exchange, scope: Scope) -> Exception | None:
        """Call the app.  An error of its own ends the request, not the node."""
        try:
            with exchange.scope:
                await self._context.app(scope, exchange.receive, exchange.send)
            if not exchange.finished and not exchange.scope.cancelled_caught:
                log.error("no complete response to %s %s", scope["method"], scope["path"])
        except (trio.BrokenResourceError, trio.ClosedResourceError, RejectedRequestError) as error:
            if exchange.broken is None and exchange.verdict is None:
                log.exception("request failed: %s %s", scope["method"], scope["path"])
            return error
        except Exception as error:  # a request is one of the three edges where errors are caught
            log.exception("request failed: %s %s", scope["method"], scope["path"])
            return error
        return None

    async def _finish(self, exchange: Exchange, body: RequestBody) -> bool:
        """Get the connection ready for its next request, or see it out.  True if it is ready."""
        if exchange.close_after:
            if not body.complete:
                await self._linger()
            return False
        try:
            while not body.complete:  # little, or the answer would have said "close"
                await body.read()
        except RejectedRequestError:
            return False  # it is answered already, and one answer is all it gets
        self._buffer = body.ahead
        return not self._context.stopping or bool(self._buffer)

    async def _refuse(self, verdict: RejectedRequestError) -> None:
        """Answer in the server's own name, and close."""
        reason = reason_phrase(verdict.status)
        text = b"%b\n" % str(verdict).encode("ascii", "replace")
        headers = [
            *server_headers(),
            (b"x-request-id", self._request_id or request_id()),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 %d %b" % (verdict.status, reason)]
        lines += [b"%b: %b" % header for header in headers]
        await self._stream.send_all(b"\r\n".join(lines) + HEAD_END + text)
        await self._linger()

    async def _linger(self) -> None:
        """Read what still comes for a moment: closing on unread bytes would reset the answer."""
        if isinstance(self._stream, Transport):
            await self._stream.send_eof()
        left = self._limits.linger_size_max
        with trio.move_on_after(self._limits.linger_timeout):
            while left > 0:
                data = await self._stream.receive_some(READ_SIZE)
                if not data:
                    return
                left -= len(data)
