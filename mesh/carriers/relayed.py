"""The relayed carrier: TLS from end to end, over a socket that a relay joins to another one.

Spec: docs/mesh.md §14.  The relay passes bytes that it cannot read.  How the two sockets come
about is ``mesh.shell.relays``; here they only become streams like any other.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import trio

from mesh.carrier import RELAYED, Accepted, Dialled, Handler, Stream
from mesh.carriers.secure import SecureStream
from mesh.carriers.tls import HANDSHAKE_TIMEOUT, contexts, public_key
from mesh.relay import detour, parse_detour

RECEIVE_SIZE = 64 * 1024
Open = Callable[[bytes, bytes], Awaitable[Stream]]


class Joined(trio.abc.Stream):
    """A socket whose other end is not the relay any more: what was read already comes first."""

    def __init__(self, stream: Stream, early: bytes = b"") -> None:
        self._stream, self._early = stream, early
        self.closed = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: there is nothing to know."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return some bytes, at least one but at the end."""
        if self._early:
            size = max_bytes or len(self._early)
            data, self._early = self._early[:size], self._early[size:]
            await trio.lowlevel.checkpoint()
            return data
        return await self._stream.receive_some(max_bytes or RECEIVE_SIZE)

    async def receive_exactly(self, size: int) -> bytes:
        """Return that many bytes.  Raises trio.BrokenResourceError at an early end."""
        data = b""
        while len(data) < size:
            more = await self.receive_some(size - len(data))
            if not more:
                raise trio.BrokenResourceError("the relay hung up")
            data += more
        return data

    async def aclose(self) -> None:
        """Close."""
        self.closed.set()
        await self._stream.aclose()


class RelayedCarrier:
    """Dial and accept through relays.  ``open`` asks a relay for a socket joined to a member's."""

    schemes = frozenset({RELAYED})
    bound: tuple[str, ...] = ()

    def __init__(self, seed: bytes, open_: Open) -> None:
        self._open = open_
        self._client, self._server = _lazily(seed)
        self._handler: Handler | None = None

    def want(self) -> None:
        """Do nothing: it is always ready."""

    def rekey(self, seed: bytes) -> None:
        """Show another key from the next stream on."""
        self._client, self._server = _lazily(seed)

    async def dial(self, address: str) -> Dialled:
        """Connect to ``relay://RELAY/NODE``.  Raises OSError or trio.BrokenResourceError."""
        raw = await self._open(*parse_detour(address))
        stream = SecureStream(_as_stream(raw), self._client())
        try:
            await stream.do_handshake()
            return Dialled(stream, public_key(stream), address)
        except BaseException:  # cancelled, too
            await trio.aclose_forcefully(stream.transport)
            raise

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept what ``take`` brings, until cancelled.  There is no address to tell."""
        self._handler = handler
        task_status.started(())
        try:
            await trio.sleep_forever()
        finally:
            self._handler = None

    async def take(self, raw: Stream, relay: bytes, source: bytes) -> None:
        """Work a stream that a relay has joined to ours, to its end."""
        stream = SecureStream(_as_stream(raw), self._server(), server_side=True)
        try:
            with trio.move_on_after(HANDSHAKE_TIMEOUT) as patience:
                await stream.do_handshake()
            if self._handler is not None and not patience.cancelled_caught:
                await self._handler(Accepted(stream, detour(relay, source)))
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            return  # a stranger, the relay, or a stop of ours; nothing of ours is lost
        finally:
            await trio.aclose_forcefully(stream.transport)


def _as_stream(raw: Stream) -> trio.abc.Stream:
    return raw if isinstance(raw, trio.abc.Stream) else Joined(raw)


def _lazily(seed: bytes) -> tuple[Callable[[], ssl.SSLContext], Callable[[], ssl.SSLContext]]:
    """Make the TLS contexts when the first relayed stream needs them: most nodes never do."""
    made: list[ssl.SSLContext] = []

    def get(index: int) -> ssl.SSLContext:
        if not made:
            made.extend(contexts(seed))
        return made[index]

    return (lambda: get(0)), (lambda: get(1))
