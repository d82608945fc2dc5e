"""One request and its response on an HTTP/1.1 connection, as the app sees them."""

from __future__ import annotations

from typing import Final, TypeVar, cast

import h11
import trio

from node.http.asgi import Message, MessageOrderError, RejectedRequestError
from node.http.body import RequestBody
from node.http.files import pieces, read_piece
from node.http.head import Headers, RequestHead, reason_phrase, server_headers
from node.http.limits import Limits
from node.http.transport import Buffer, Transport

INLINE_FILE_MAX: Final = 128 << 10  # below, one send of head and bytes beats sendfile's two calls
JOIN_MAX: Final = 64 << 10  # above, a second send is cheaper than the copy
BODILESS: Final = frozenset((204, 304))
DISCONNECT: Final[Message] = {"type": "http.disconnect"}

Data = TypeVar("Data")


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
        self._parser = head.parser
        self._body = body
        self._bodiless = head.method == "HEAD"
        self._start: Message | None = None
        self._head = b""
        self._body_told = False
        self._ended = trio.Event()
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
            await self._ended.wait()
            return DISCONNECT
        if self._body.complete:
            self._body_told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._parser.they_are_waiting_for_100_continue and not self.started:
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

    async def _continue(self) -> None:
        """Tell the client to go on: only now is the body wanted (RFC 9110 §10.1.1)."""
        event = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
        await self._write(self._parser.send(event))

    def hang_up(self) -> None:
        """Cancel the app: its client is gone, or the node will not wait for it any longer."""
        self.broken = self.broken or trio.BrokenResourceError("peer hung up")
        self._ended.set()
        self.scope.cancel()

    async def _abandon(self, error: BaseException) -> None:
        """Cancel the app from inside one of its calls; in a shield, raise ``error``."""
        self._ended.set()
        self.scope.cancel()
        await trio.lowlevel.checkpoint()
        raise error

    # From app to client

    async def send(self, message: Message) -> None:
        """Take one ASGI message.  Raises MessageOrderError, h11.LocalProtocolError: the app's bugs.

        The head waits for the first part of the body, and leaves with it.
        """
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._prepare(message)
        elif self._start is None or self.finished:
            raise MessageOrderError(f"{kind} is out of order")
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.zerocopysend":
            await self._send_file(message)
        else:
            raise MessageOrderError(f"unexpected {kind}")

    def _prepare(self, message: Message) -> None:
        status = int(message["status"])
        headers: Headers = [(bytes(name), bytes(value)) for name, value in message["headers"]]
        names = {name.lower() for name, _ in headers}
        headers += [pair for pair in server_headers() if pair[0] not in names]
        # The unread rest of a large body is not worth a connection, nor is one the client still
        # holds back: whether it follows after this answer is the client's choice.
        self.close_after |= (
            self._body.left > self._limits.drain_size_max
            or self._parser.they_are_waiting_for_100_continue
        )
        if self.close_after:
            headers.append((b"connection", b"close"))
        reason = reason_phrase(status, message.get("reason"))
        event = h11.Response(status_code=status, headers=headers, reason=reason)
        self._bodiless |= status in BODILESS
        self._head = self._parser.send(event)
        self._start = message

    async def _send_body(self, data: Buffer, *, more: bool) -> None:
        parts: list[Buffer] = [self._head] if self._head else []
        if data and not self._bodiless:
            parts += self._frame(data)
        if not more:
            end = self._parser.send(h11.EndOfMessage())
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
        if self._bodiless or not count:
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
        span = _Span(count)
        framed = self._frame(span)
        head, self._head = self._head, b""
        await self._write(head)
        for part in framed:
            if isinstance(part, _Span):
                try:
                    await plain.send_file(file, offset, count)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    self.broken = error
                    await self._abandon(error)
            else:
                await self._write(part)

    def _frame(self, data: Data) -> list[Data | bytes]:
        """Put the framing around a part of the body.

        h11 only counts it and passes it through, so a stand-in for a file's bytes will do.
        """
        framed = self._parser.send_with_data_passthrough(h11.Data(data=cast("bytes", data)))
        return cast("list[Data | bytes]", framed)

    def _finish(self) -> None:
        self.finished = True
        self._ended.set()

    async def _write(self, data: Buffer) -> None:
        if not data:
            return
        try:
            if self._plain is not None:
                await self._plain.write(data)
            else:
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.broken = error
            await self._abandon(error)


class _Span:
    """Stands for a file's bytes while h11 frames them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count
