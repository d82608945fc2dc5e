"""A TCP link with a will of its own: a rate, and outages that drop every byte or close the socket."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio


@dataclass
class Proxy:
    """Forwards to ``target`` while it is up."""

    rate: float = 1e9  # bytes per second and direction
    target: tuple[str, int] = ("127.0.0.1", 0)
    address: str = ""
    carried: int = 0
    up: trio.Event = field(default_factory=trio.Event)
    scopes: set[trio.CancelScope] = field(default_factory=set)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.up.set()
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = f"tls://127.0.0.1:{listener.socket.getsockname()[1]}"
        task_status.started()
        await trio.serve_listeners(self._forward, [listener])

    def freeze(self) -> None:
        """Nothing passes any more, and nobody is told; what is on the way is kept."""
        self.up = trio.Event()

    def thaw(self) -> None:
        """Fresh connections pass.  Old ones stay frozen, as after a long retransmission back-off."""
        self.up.set()

    def cut(self) -> None:
        """Close every connection."""
        for scope in self.scopes:
            scope.cancel()

    async def _forward(self, near: trio.SocketStream) -> None:
        if not self.up.is_set():
            await trio.sleep_forever()  # as if the handshake were lost
        far = await trio.open_tcp_stream(*self.target)
        with trio.CancelScope() as scope:
            self.scopes.add(scope)
            up = self.up
            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, near, far, up, scope)
                nursery.start_soon(self._pump, far, near, up, scope)
        self.scopes.discard(scope)

    async def _pump(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        up: trio.Event,
        scope: trio.CancelScope,
    ) -> None:
        try:
            while data := await source.receive_some(16384):
                await trio.sleep(len(data) / self.rate)
                if self.up is not up:
                    await trio.sleep_forever()
                await target.send_all(data)
                self.carried += len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()
