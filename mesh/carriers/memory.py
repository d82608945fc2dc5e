"""A carrier within one process, for tests: a world of named ports whose links can be cut."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import memory_stream_pair

from mesh.carrier import Accepted, Dialled, Handler
from store.identity import Identity

ACCEPT_MAX = 64  # dials waiting for a listener to take them


class World:
    """The network.  ``reachable`` says whether a dial from one name to another gets through."""

    def __init__(self) -> None:
        self.listeners: dict[
            str, tuple[bytes, trio.MemorySendChannel[tuple[str, trio.abc.Stream]]]
        ] = {}
        self.links: dict[frozenset[str], list[trio.abc.Stream]] = {}
        self.reachable: Callable[[str, str], bool] = lambda _source, _target: True

    async def cut(self, one: str, two: str) -> None:
        """Break every stream between two names."""
        for stream in self.links.pop(frozenset({one, two}), []):
            await trio.aclose_forcefully(stream)


class MemoryCarrier:
    """One node's view of a World."""

    schemes = frozenset({"memory"})

    def __init__(self, world: World, name: str, key: bytes) -> None:
        self.world = world
        self.name = name
        self.key = key
        self.bound: tuple[str, ...] = ()

    def want(self) -> None:
        """Do nothing: it is always ready."""

    def rekey(self, seed: bytes) -> None:
        """Show another key from the next connection on."""
        self.key = Identity.from_seed(seed).key
        if self.name in self.world.listeners:
            self.world.listeners[self.name] = (self.key, self.world.listeners[self.name][1])

    async def dial(self, address: str) -> Dialled:
        """Connect to ``memory://name``.  Raises ConnectionRefusedError."""
        await trio.lowlevel.checkpoint()
        name = address.removeprefix("memory://")
        if name not in self.world.listeners or not self.world.reachable(self.name, name):
            raise ConnectionRefusedError(f"{address} does not answer")
        key, listener = self.world.listeners[name]
        ours, theirs = memory_stream_pair()
        self.world.links.setdefault(frozenset({self.name, name}), []).extend((ours, theirs))
        await listener.send((self.name, theirs))
        return Dialled(ours, key, address)

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept until cancelled."""
        send, receive = trio.open_memory_channel[tuple[str, trio.abc.Stream]](ACCEPT_MAX)
        self.world.listeners[self.name] = (self.key, send)
        try:
            async with trio.open_nursery() as nursery:
                self.bound = (f"memory://{self.name}",)
                task_status.started(self.bound)
                async for source, stream in receive:
                    nursery.start_soon(handler, Accepted(stream, f"memory://{source}"))
        finally:
            del self.world.listeners[self.name]
