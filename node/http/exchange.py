"""One request and its response on an HTTP/1.1 connection, as the app sees them."""

from __future__ import annotations

from typing import Final

import trio

from node.http.asgi import InvalidMessageError, Message, RejectedRequestError
from node.http.body import RequestBody
from node.http.files import pieces, read_piece
from node.http.head import RequestHead, reason_phrase
from node.http.limits import Limits
from node.http.response import ResponseWriter
from node.http.transport import Buffer, Transport

INLINE_FILE_MAX: Final = 128 << 10  # below, one send of head and bytes beats sendfile's two calls
JOIN_MAX: Final = 64 << 10  # above, a second send is cheaper than the copy
DISCONNECT: Final[Message] = {"type": "http.disconnect"}

_FILE: Final = object()  # stands for a file's bytes while they are framed


class Exchange:
    """Answers the app's ``receive()`` and ``send()``; cancels the app when the client is gone."""

    def __init__(
        self,
        stream: Transport | trio.SSLStream[Transport],
        limits: Limits,
        threads: trio.CapacityLimiter,
        head: RequestHead,
        body: RequestBody,
    ) -> None:
        self._stream = stream
        self._plain = stream if isinstance(stream, Transport) else None
        self._limits = limits
        self._threads = threads
        self._writer = ResponseWriter(
            method=head.method,
            http_version=head.http_version,
            close=head.close,
            request_id=head.request_id,
        )
        self._awaits_continue = head.expects_continue
        self._body = body
        self._start: Message | None = None
        self._head = b""
        self._body_told = False
        self._over = False
        self._ended: trio.Event | None = None  # made for an app that waits for it
        self.scope = trio.CancelScope()
        self.close_after = False
        """Answer with ``Connection: close``."""
        self.finished = False
        self.verdict: RejectedRequestError | None = None
        """Why the server itself ended this exchange."""
        self.broken: BaseException | None = None

    @property
    def started(self) -> bool:
        """Whether the app has begun its response."""
        return self._start is not None

    @property
    def sent(self) -> bool:
        """Whether a byte of the response may have left."""
        return self.started and not self._head

    # From client to app

    async def receive(self) -> Message:
        """Return the next part of the body, then, when it comes to that, the disconnect."""
        if self._body_told or self.finished:
            await self._end()
            return DISCONNECT
        if self._body.complete:
            self._body_told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._awaits_continue and not self.started:
            await self._continue()
        try:
            data = await self._body.read()
        except RejectedRequestError as verdict:
            self.verdict = verdict
            await self._abandon(verdict)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.broken = error
            await self._abandon(error)
        self._body_told = self._body.complete
        return {"type": "http.request", "body": data, "more_body": not self._body_told}

    async def _end(self) -> None:
        """Wait for the end of the exchange, whichever way."""
        if self._over:
            await trio.lowlevel.checkpoint()
            return
        if self._ended is None:
            self._ended = trio.Event()
        await self._ended.wait()

    def _tell_end(self) -> None:
        self._over = True
        if self._ended is not None:
            self._ended.set()

    async def _continue(self) -> None:
        """Tell the client to go on: only now is the body wanted (RFC 9110 §10.1.1)."""
        self._awaits_continue = False
        await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def hang_up(self) -> None:
        """Cancel the app: its client is gone, or the node will not wait for it any longer."""
        self.broken = self.broken or trio.BrokenResourceError("peer hung up")
        self._tell_end()
        self.scope.cancel()

    async def _abandon(self, error: BaseException) -> None:
        """Cancel the app from inside one of its calls; in a shield, raise ``error``."""
        self._tell_end()
        self.scope.cancel()
        await trio.lowlevel.checkpoint()
        raise error

    # From app to client

    async def send(self, message: Message) -> None:
        """Take one ASGI message.  Raises InvalidMessageError.

        The head waits for the first part of the body, and leaves with it.
        """
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._prepare(message)
        elif self._start is None or self.finished:
            raise InvalidMessageError(f"{kind} is out of order")
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.zerocopysend":
            await self._send_file(message)
        else:
            raise InvalidMessageError(f"unexpected {kind}")

    def _prepare(self, message: Message) -> None:
        status = int(message["status"])
        # The unread rest of a large body is not worth a connection, nor is one the client still
        # holds back: whether it follows after this answer is the client's choice.
        self._writer.close |= (
            self.close_after
            or self._body.left > self._limits.drain_size_max
            or self._awaits_continue
        )
        reason = reason_phrase(status, message.get("reason"))
        self._head = self._writer.head(status, list(message.get("headers", ())), reason)
        self.close_after = self._writer.close
        self._start = message

    async def _send_body(self, data: Buffer, *, more: bool) -> None:
        parts: list[Buffer] = [self._head] if self._head else []
        parts += self._writer.frame(data, len(data))
        if not more:
            end = self._writer.end()
            if end:
                parts.append(end)
        self._head = b""
        if sum(map(len, parts)) <= JOIN_MAX:
            parts = [b"".join(parts)]
        for part in parts:
            await self._write(part)
        if more:
            await trio.lowlevel.checkpoint()  # a stream to a fast client must not keep the turn
        else:
            self._finish()

    async def _send_file(self, message: Message) -> None:
        """Send part of a file: by the kernel where possible, else in large pieces."""
        file, offset, count = message["file"], message.get("offset") or 0, message["count"]
        more = message.get("more_body", False)
        if self._writer.bodiless or not count:
            await self._send_body(b"", more=more)
        elif count <= INLINE_FILE_MAX:
            data = await read_piece(file, offset, count, self._threads)
            await self._send_body(data, more=more)
        elif self._plain is None:
            end = offset + count
            async for data in pieces(file, offset, count, self._threads):
                offset += len(data)
                await self._send_body(data, more=more or offset < end)
        else:
            await self._send_file_by_kernel(self._plain, file, offset, count)
            await self._send_body(b"", more=more)

    async def _send_file_by_kernel(
        self, plain: Transport, file: int, offset: int, count: int
    ) -> None:
        framed = self._writer.frame(_FILE, count)
        head, self._head = self._head, b""
        await self._write(head, more=bool(framed))
        for part in framed:
            if isinstance(part, bytes):
                await self._write(part, more=part is not framed[-1])
                continue
            try:
                await plain.send_file(file, offset, count)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self.broken = error
                await self._abandon(error)

    def _finish(self) -> None:
        self.finished = True
        self._tell_end()

    async def _write(self, data: Buffer, *, more: bool = False) -> None:
        if not data:
            return
        try:
            if self._plain is not None:
                await self._plain.write(data, more=more)
            else:
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.broken = error
            await self._abandon(error)
