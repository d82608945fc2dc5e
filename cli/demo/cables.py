"""Cables between nodes: TCP relays that carry at a rate, count, and can be cut.

A cut closes every connection through the cable and refuses new ones, as a dead link does after its
time-outs; it needs no rights that a user does not have.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial

import trio

PIECE = 64 << 10  # bytes relayed at once


@dataclass(slots=True)
class Cable:
    """One link.  ``rate`` is bytes per second in each direction."""

    name: str
    target: tuple[str, int]
    rate: float
    port: int = 0
    up: bool = True
    moved: int = 0  # bytes, both directions together
    outages: int = 0
    down_seconds: float = 0.0
    _scopes: set[trio.CancelScope] = field(default_factory=set[trio.CancelScope])

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        """Relay until cancelled; reports the port to dial."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = int(listener.socket.getsockname()[1])
        task_status.started(self.port)
        await trio.serve_listeners(self._relay, [listener])

    async def _relay(self, near: trio.SocketStream) -> None:
        if not self.up:
            await trio.aclose_forcefully(near)
            return
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                far = await trio.open_tcp_stream(*self.target)
                async with near, far, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, near, far, scope)
                    nursery.start_soon(self._pump, far, near, scope)
            except OSError:
                await trio.aclose_forcefully(near)
            finally:
                self._scopes.discard(scope)

    async def _pump(
        self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(PIECE):
                self.moved += len(data)
                await target.send_all(data)
                await trio.sleep(len(data) / self.rate)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one end has gone; below, so does the other
        scope.cancel()

    def cut(self) -> None:
        """Break it."""
        self.up = False
        self.outages += 1
        for scope in list(self._scopes):
            scope.cancel()

    def mend(self) -> None:
        """Make it carry again."""
        self.up = True


async def break_at_random(cables: list[Cable], rng: random.Random) -> None:
    """Cut and mend the cables, each on its own, until cancelled."""
    async with trio.open_nursery() as nursery:
        for cable in cables:
            nursery.start_soon(partial(_break_one, cable, rng))


async def _break_one(cable: Cable, rng: random.Random) -> None:
    while True:
        await trio.sleep(rng.uniform(1.5, 4.0))
        cable.cut()
        pause = rng.uniform(0.5, 2.0)
        await trio.sleep(pause)
        cable.down_seconds += pause
        cable.mend()
