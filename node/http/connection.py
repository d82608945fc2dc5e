"""One accepted connection, from handshake to close, whatever it speaks."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any

import trio

from node.http.context import Address, Context
from node.http.http1 import Http1
from node.http.transport import Transport

if TYPE_CHECKING:
    from node.http.protocols import Http2Connection

log = logging.getLogger(__name__)


class Connection:
    """Speaks HTTP/1.1, or HTTP/2 where the client begins with it (ALPN, or RFC 9113 §3.3)."""

    def __init__(self, context: Context, transport: Transport, tls: ssl.SSLContext | None) -> None:
        self._transport = transport
        self._shared = context
        self._stream: Transport | trio.SSLStream[Transport] = transport
        if tls is not None:
            self._stream = trio.SSLStream(transport, tls, server_side=True, https_compatible=True)
        self.http1: Http1 | None = None
        """The HTTP/1.1 side, while that is what is spoken."""
        self.http2: Http2Connection | None = None
        """The HTTP/2 side, likewise."""

    async def run(self) -> None:
        """Serve until either side ends the connection; never raises for what a peer does."""
        try:
            protocol = await self._handshake()
            client, server = self._addresses()
            ahead: bytes | None = b""
            if protocol != "h2":
                self.http1 = Http1(self._shared, self._stream, client=client, server=server)
                ahead = await self.http1.run()
                self.http1 = None
            if ahead is not None:
                await self._run_http2(ahead, client, server)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            log.debug("connection ended: %s", error)
            self._transport.reset_on_close()
        except EOFError:
            log.exception("a file is shorter than its response promised")
            self._transport.reset_on_close()
        finally:
            self.http1 = self.http2 = None
            await self._shared.close(self._stream, self._transport)

    async def _handshake(self) -> str:
        """Finish TLS, and return what both sides agreed to speak."""
        stream = self._stream
        if isinstance(stream, Transport):
            return "http/1.1"
        with trio.fail_after(self._shared.limits.handshake_timeout):
            await stream.do_handshake()
        return stream.selected_alpn_protocol() or "http/1.1"

    def _addresses(self) -> tuple[Address | None, Address | None]:
        try:
            client = self._transport.socket.getpeername()
            server = self._transport.socket.getsockname()
        except OSError as error:
            raise trio.BrokenResourceError("peer left at once") from error
        return _address(client), _address(server)

    async def _run_http2(
        self, ahead: bytes, client: Address | None, server: Address | None
    ) -> None:
        from node.http.protocols import Http2Connection  # what it imports is heavy

        self.http2 = Http2Connection(
            self._shared, self._stream, self._transport, client=client, server=server
        )
        await self.http2.run(ahead)

    def fileno(self) -> int:
        """Return the socket's file descriptor; -1 once it is closed."""
        return self._transport.socket.fileno()

    @property
    def idle_since(self) -> float | None:
        """When the connection fell idle; None while a request is under way."""
        if self.http1 is not None:
            return self.http1.idle_since if self.http1.idle else None
        return self.http2.idle_since if self.http2 is not None else None

    async def stop(self) -> None:
        """Take no more requests; end at once if none is under way."""
        if self.http1 is not None:
            self.http1.close_if_idle()
        elif self.http2 is not None:
            await self.http2.stop()
            self.http2.close_if_idle()

    def close_if_idle(self) -> None:
        """End the connection at once if no request is under way."""
        side = self.http1 or self.http2
        if side is not None:
            side.close_if_idle()


def _address(name: Any) -> Address | None:
    """Return host and port of a socket name; a local socket has none."""
    return (name[0], name[1]) if isinstance(name, tuple) else None
