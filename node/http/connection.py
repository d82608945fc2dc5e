"""One accepted connection, from handshake to close, whatever it speaks."""

from __future__ import annotations

import logging
import ssl
from typing import Any, cast

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState

from node.http.context import Context
from node.http.http1 import Http1
from node.http.protocols import Protocols
from node.http.transport import READ_SIZE, Transport

log = logging.getLogger(__name__)
Address = tuple[str, int]


class ConnectionTasks(TaskGroup):
    """Hypercorn's task group, which can also end the apps of a client that is gone."""

    def cancel(self) -> None:
        """Cancel every app task of this connection."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()


class Connection(TCPServer):
    """Hypercorn's TCP server for one connection, with our HTTP/1.1, timeouts and stop.

    HTTP/1.1 runs in ``Http1``.  HTTP/2 and WebSockets are Hypercorn's, over reads and writes that
    can be cancelled and that give up on a stalled peer: Hypercorn shields its writes.
    """

    def __init__(self, context: Context, transport: Transport, tls: ssl.SSLContext | None) -> None:
        self._transport = transport
        self._shared = context
        stream: Transport | trio.SSLStream[Transport] = transport
        if tls is not None:
            stream = trio.SSLStream(transport, tls, server_side=True, https_compatible=True)
        super().__init__(
            context.wrapped,
            context.config,
            context.worker,
            cast("Any", context.state),
            cast("Any", stream),
        )
        self._tls = tls is not None
        self._byte_stream = stream
        self._reading: trio.CancelScope | None = None
        self._read_deadline = float("inf")
        self.http1: Http1 | None = None
        """The HTTP/1.1 side, while that is what is spoken."""

    async def run(self) -> None:
        """Serve until either side ends the connection; never raises for what a peer does."""
        try:
            protocol = await self._handshake()
            client, server = self._addresses()
            ahead: bytes | None = b""
            if protocol != "h2":
                self.http1 = Http1(self._shared, self._byte_stream, client=client, server=server)
                ahead = await self.http1.run()
                self.http1 = None
            if ahead is not None:
                await self._run_hypercorn(protocol, ahead, client, server)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            log.debug("connection ended: %s", error)
            self._transport.reset_on_close()
        except EOFError:
            log.exception("a file is shorter than its response promised")
            self._transport.reset_on_close()
        finally:
            self.http1 = None
            await self._close()

    async def _handshake(self) -> str:
        """Finish TLS, and return what both sides agreed to speak."""
        stream = self._byte_stream
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

    async def _run_hypercorn(
        self, protocol: str, ahead: bytes, client: Address | None, server: Address | None
    ) -> None:
        """Speak HTTP/2 or WebSocket, beginning with the bytes already read."""
        tasks = ConnectionTasks()
        async with tasks:
            self.protocol = Protocols(
                self._shared,
                self.app,
                self.config,
                self.context,
                tasks,
                ConnectionState(self._shared.state),
                self._tls,
                client,
                server,
                self.protocol_send,
                protocol,
            )
            self._set_idle(idle=True)
            await self.protocol.initiate()
            if ahead:
                await self.protocol.handle(RawData(ahead))
            await self._read_data()
            tasks.cancel()

    def fileno(self) -> int:
        """Return the socket's file descriptor; -1 once it is closed."""
        return self._transport.socket.fileno()

    @property
    def idle_since(self) -> float | None:
        """When the connection fell idle; None while a request is under way."""
        if self.http1 is not None:
            return self.http1.idle_since if self.http1.idle else None
        if self._reading is None or self._read_deadline == float("inf"):
            return None
        return self._read_deadline - self._shared.limits.idle_timeout

    def close_if_idle(self) -> None:
        """End the connection at once if no request is under way."""
        if self.http1 is not None:
            self.http1.close_if_idle()
        elif self._read_deadline != float("inf") and self._reading is not None:
            self._reading.cancel()

    def _set_idle(self, *, idle: bool) -> None:
        patience = self._shared.limits.idle_timeout if idle else float("inf")
        if idle and self._shared.stopping:
            patience = 0
        self._read_deadline = trio.current_time() + patience
        if self._reading is not None:
            self._reading.deadline = self._read_deadline

    # Hypercorn's seams

    async def _read_data(self) -> None:
        while True:
            try:
                with trio.CancelScope(deadline=self._read_deadline) as self._reading:
                    data = await self._byte_stream.receive_some(READ_SIZE)
                if self._reading.cancelled_caught:
                    break
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
            finally:
                self._reading = None
            await self.protocol.handle(RawData(bytes(data)))
            if not data:
                break
        await self.protocol.handle(Closed())

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol asks: write, close, or note that it is idle or busy."""
        if isinstance(event, RawData):
            async with self.send_lock:
                try:
                    await self._byte_stream.send_all(event.data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._transport.reset_on_close()
                    await self._transport.aclose()  # wakes the reader, who ends the connection
        elif isinstance(event, Closed):
            await self._close()
            await self.protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._set_idle(idle=event.idle)

    async def _close(self) -> None:
        with trio.move_on_after(self._shared.limits.close_timeout):
            await self._byte_stream.aclose()
            return
        with trio.CancelScope(shield=True):  # closing a socket does not wait for anything
            await self._transport.aclose()


def _address(name: Any) -> Address | None:
    """Return host and port of a socket name; a local socket has none."""
    return (name[0], name[1]) if isinstance(name, tuple) else None
