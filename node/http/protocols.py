"""HTTP/2 connections over Hypercorn's protocol; imported with the first one.

Hypercorn brings the h2, hpack, priority and wsproto libraries: a sixth of a node's start and
several megabytes, for nodes that mostly hear HTTP/1.1.
"""

from __future__ import annotations

import logging
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from node.http.context import Address, Context
from node.http.http2 import Http2
from node.http.limits import Limits
from node.http.transport import READ_SIZE, Transport


def hypercorn_config(limits: Limits) -> Config:
    """Express the limits in Hypercorn's terms, for the protocol it runs."""
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("node.http")
    config.include_server_header = False
    config.keep_alive_timeout = limits.idle_timeout
    config.keep_alive_max_requests = limits.requests_max
    config.h11_max_incomplete_size = limits.head_size_max
    config.h2_max_concurrent_streams = limits.streams_max
    config.h2_max_header_list_size = limits.head_size_max
    return config


class ConnectionTasks(TaskGroup):
    """Hypercorn's task group, which can also end the apps of a client that is gone."""

    def cancel(self) -> None:
        """Cancel every app task of this connection."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()


class Http2Connection:
    """Reads and writes for one HTTP/2 connection, with our timeouts and stop.

    They can be cancelled, and give up on a stalled peer: those of Hypercorn's server are shielded.
    """

    def __init__(
        self,
        context: Context,
        stream: Transport | trio.SSLStream[Transport],
        transport: Transport,
        *,
        client: Address | None,
        server: Address | None,
    ) -> None:
        self._context = context
        self._stream = stream
        self._transport = transport
        self._reading: trio.CancelScope | None = None
        self._read_deadline = float("inf")
        self._tasks = ConnectionTasks()
        self._send_lock = trio.Lock()
        worker = WorkerContext(None)
        self._terminated = worker.terminated
        self._protocol = Http2(
            context,
            ASGIWrapper(context.app),  # type: ignore[arg-type]  # our messages are plain dicts
            hypercorn_config(context.limits),
            worker,
            self._tasks,
            ConnectionState(dict[Any, Any](context.state)),
            stream is not transport,
            client,
            server,
            self._send,
        )

    async def run(self, ahead: bytes) -> None:
        """Serve until either side ends the connection, beginning with the bytes already read."""
        if self._context.stopping:
            await self._terminated.set()
        async with self._tasks:
            self._set_idle(idle=True)
            await self._protocol.initiate()
            if ahead:
                await self._protocol.handle(RawData(ahead))
            await self._read()
            self._tasks.cancel()

    async def stop(self) -> None:
        """Have the protocol take no more requests."""
        await self._terminated.set()

    @property
    def idle_since(self) -> float | None:
        """When the connection fell idle; None while a request is under way."""
        if self._reading is None or self._read_deadline == float("inf"):
            return None
        return self._read_deadline - self._context.limits.idle_timeout

    def close_if_idle(self) -> None:
        """End the connection at once if no request is under way."""
        if self._read_deadline != float("inf") and self._reading is not None:
            self._reading.cancel()

    def _set_idle(self, *, idle: bool) -> None:
        patience = self._context.limits.idle_timeout if idle else float("inf")
        if idle and self._context.stopping:
            patience = 0
        self._read_deadline = trio.current_time() + patience
        if self._reading is not None:
            self._reading.deadline = self._read_deadline

    async def _read(self) -> None:
        while True:
            try:
                with trio.CancelScope(deadline=self._read_deadline) as self._reading:
                    data = await self._stream.receive_some(READ_SIZE)
                if self._reading.cancelled_caught:
                    break
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
            finally:
                self._reading = None
            await self._protocol.handle(RawData(bytes(data)))
            if not data:
                break
        await self._protocol.handle(Closed())

    async def _send(self, event: Event) -> None:
        """Do what the protocol asks: write, close, or note that it is idle or busy."""
        if isinstance(event, RawData):
            async with self._send_lock:
                try:
                    await self._stream.send_all(event.data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._transport.reset_on_close()
                    await self._transport.aclose()  # wakes the reader, who ends the connection
        elif isinstance(event, Closed):
            await self._context.close(self._stream, self._transport)
            await self._protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._set_idle(idle=event.idle)
