"""Listen, accept, serve, and stop in time: the whole life of the node's HTTP server."""

from __future__ import annotations

import errno
import logging
import select
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from node.http.asgi import App, BodyMax
from node.http.connection import Connection
from node.http.context import Context
from node.http.lifespan import Lifespan
from node.http.limits import Limits
from node.http.transport import Transport

log = logging.getLogger(__name__)

BACKLOG: Final = 1024
ACCEPT_RETRY: Final = 0.1  # seconds, while there is no room for a connection
EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# What accept(2) may say of a client that has gone, or that a firewall refuses, on Linux.
REFUSED: Final = frozenset(
    getattr(errno, name, 0)
    for name in (
        "EPERM",
        "EPROTO",
        "ENETDOWN",
        "ENOPROTOOPT",
        "EHOSTDOWN",
        "ENONET",
        "EHOSTUNREACH",
        "EOPNOTSUPP",
        "ENETUNREACH",
        "ETIMEDOUT",
    )
)
GONE: Final = select.POLLERR | select.POLLHUP | getattr(select, "POLLRDHUP", 0)


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Where to listen.  Port 0 lets the system choose; an empty host means every address."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Bound:
    """Where the server does listen."""

    host: str
    port: int
    tls: bool = False

    @property
    def url(self) -> str:
        """Return the address as a URL without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}"


async def serve(
    app: App,
    bindings: Sequence[Binding],
    *,
    stop: trio.Event,
    drain: float = 10.0,
    limits: Limits | None = None,
    body_max: BodyMax | None = None,
    task_status: trio.TaskStatus[tuple[Bound, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` until ``stop`` is set, then give requests in flight ``drain`` seconds.

    Reports where it listens once it answers.  When stopping, listeners and idle connections close
    at once; after ``drain`` seconds whatever is left is cancelled, a stalled client included.  Then
    the app's lifespan has as long again to end.
    ``body_max`` tells the largest body a request may have, before a byte of it is read.

    Raises OSError if an address cannot be bound.
    """
    context = Context(app, limits or Limits(), body_max)
    lifespan = Lifespan(app, context.state)
    listeners = [listener for binding in bindings for listener in await _listen(binding)]
    try:
        async with trio.open_nursery() as lifespan_nursery:
            lifespan_nursery.start_soon(lifespan.run)
            await lifespan.startup()
            await _Server(context, listeners, drain).run(stop, task_status)
            with trio.move_on_after(drain):
                await lifespan.shutdown()
            lifespan_nursery.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.socket.close()


@dataclass
class _Listener:
    socket: socket.socket
    tls: ssl.SSLContext | None


async def _listen(binding: Binding) -> list[_Listener]:
    """Bind one socket for each address of the host, all to the same port."""
    found = await trio.socket.getaddrinfo(
        binding.host or None, binding.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    port, listeners = binding.port, list[_Listener]()
    try:
        for family, kind, number, _, address in found:
            sock = socket.socket(family, kind, number)
            listeners.append(_Listener(sock, binding.tls))
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            port = sock.getsockname()[1]
    except OSError:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


@dataclass
class _Server:
    """The connections of one server and the tasks that look after them."""

    context: Context
    listeners: list[_Listener]
    drain: float
    connections: set[Connection] = field(default_factory=set)
    peers: Counter[str] = field(default_factory=Counter)
    freed: trio.Event = field(default_factory=trio.Event)

    async def run(self, stop: trio.Event, task_status: trio.TaskStatus[tuple[Bound, ...]]) -> None:
        async with trio.open_nursery() as requests:
            async with trio.open_nursery() as services:
                for listener in self.listeners:
                    listener.socket.listen(BACKLOG)
                    services.start_soon(self._accept, listener, requests)
                services.start_soon(self._watch)
                task_status.started(tuple(map(_bound, self.listeners)))
                await stop.wait()
                services.cancel_scope.cancel()
            for listener in self.listeners:
                listener.socket.close()
            self.context.stopping = True
            for connection in list(self.connections):
                await connection.stop()
            requests.cancel_scope.deadline = trio.current_time() + self.drain

    async def _accept(self, listener: _Listener, requests: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener.socket)
            try:
                await self._make_room()
                while not self._full:
                    sock, name = listener.socket.accept()
                    peer = name[0] if isinstance(name, tuple) and name else ""
                    self._admit(sock, peer, listener.tls, requests)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in EXHAUSTED:
                    log.warning("cannot accept connections: %s", error)
                    await trio.sleep(ACCEPT_RETRY)
                elif not isinstance(error, ConnectionError) and error.errno not in REFUSED:
                    raise

    @property
    def _full(self) -> bool:
        return len(self.connections) >= self.context.limits.connections_max

    async def _make_room(self) -> None:
        """Wait until one more connection may be open; the longest idle one makes way."""
        while self._full:
            idle = [c for c in self.connections if c.idle_since is not None]
            if idle:
                min(idle, key=lambda c: c.idle_since or 0).close_if_idle()
            self.freed = trio.Event()
            with trio.move_on_after(ACCEPT_RETRY):  # or until another has fallen idle
                await self.freed.wait()

    def _admit(
        self, sock: socket.socket, peer: str, tls: ssl.SSLContext | None, requests: trio.Nursery
    ) -> None:
        if self.peers[peer] >= self.context.limits.peer_connections_max:
            log.warning("too many connections from %s", peer)
            sock.close()
            return
        transport = Transport(sock, self.context.limits, self.context.threads)
        connection = Connection(self.context, transport, tls)
        self.connections.add(connection)
        self.peers[peer] += 1
        requests.start_soon(self._serve, connection, peer)

    async def _serve(self, connection: Connection, peer: str) -> None:
        try:
            await connection.run()
        except Exception:  # one connection must not take the others along
            log.exception("connection from %s failed", peer)
        finally:
            self.connections.discard(connection)
            self.peers[peer] -= 1
            if not self.peers[peer]:
                del self.peers[peer]
            self.freed.set()

    async def _watch(self) -> None:
        """Look for clients that hung up while their app works: nobody else is reading there."""
        while True:
            await trio.sleep(self.context.limits.watch_interval)
            poll = select.poll()
            busy = {}
            for connection in self.connections:
                http1 = connection.http1
                if http1 is not None and http1.exchange is not None:
                    number = connection.fileno()
                    busy[number] = http1.exchange
                    poll.register(number, GONE)
            for number, events in poll.poll(0):
                if events & GONE:
                    busy[number].hang_up()


def _bound(listener: _Listener) -> Bound:
    name = listener.socket.getsockname()
    return Bound(name[0], name[1], listener.tls is not None)


__all__ = ["Binding", "Bound", "Limits", "serve"]
