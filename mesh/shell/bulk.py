"""How bulk sockets come up: the side that dialled the control link dials them, the other one asks.

Spec: docs/mesh.md §1 and §9.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from mesh.addresses import AddressBook
from mesh.messages import BESIDE, BULK, FEATURE_BESIDE, OpenBulk
from mesh.shell.connection import Connection
from mesh.shell.hooks import Hooks
from mesh.shell.standing import Standing

BULK_TIMEOUT = 8.0  # seconds that a peer has to dial us a bulk socket


class Bulk:
    """Opens and closes the bulk sockets of every peer.

    ``dial`` runs a connection to its end, ``start`` a task of the links.
    """

    def __init__(
        self,
        standing: Standing,
        hooks: Hooks,
        addresses: AddressBook,
        dial: Callable[[bytes, str, int], Awaitable[str | None]],
        start: Callable[..., None],
    ) -> None:
        self.dials: set[bytes] = set()  # peers to whom a dial is under way
        self._coming: Counter[bytes] = Counter()  # and how many for a socket beside the first
        self._standing, self._hooks, self._addresses = standing, hooks, addresses
        self._dial, self._start = dial, start
        self._control, self._bulk = standing.control, standing.bulk

    def open(self, peer: bytes) -> None:
        """Get a bulk socket, one way or the other; ``bulk_opened`` or ``bulk_closed`` follows."""
        control = self._control.get(peer)
        if peer in self._bulk:
            self._hooks.bulk_opened(peer)
        elif control is None:
            self._hooks.bulk_closed(peer)
        elif control.dialled:
            self._start(self.dial, peer)
        else:
            control.send(OpenBulk())
            self._start(self._await, peer)

    def close(self, peer: bytes, reason: str) -> None:
        """Close the bulk sockets."""
        self._standing.drop_bulk(peer, reason)

    def widen(self, peer: bytes, wanted: int) -> None:
        """Get so many bulk sockets in all, if the peer takes several."""
        control, sockets = self._control.get(peer), self._standing.bundle(peer)
        said = control.link.peer if control is not None else None
        if control is None or said is None or not said.features & FEATURE_BESIDE or not sockets:
            return
        if sockets[0].dialled:
            self._start(self.dial, peer, wanted)
        else:
            control.send(OpenBulk(wanted))

    async def dial(self, peer: bytes, sockets: int = 1) -> None:
        """Dial a bulk socket, or as many more as there are to be, and run it to its end."""
        control = self._control.get(peer)
        if control is None or peer in self.dials:
            return
        if peer in self._bulk:
            self._dial_more(peer, sockets)
            return
        known = (control.address,) if control.dialled else self._addresses.of(peer)
        if not known:
            return
        self.dials.add(peer)
        try:
            await self._dial(peer, known[0], BULK)
        finally:
            self.dials.discard(peer)
        if peer not in self._bulk:
            self._hooks.bulk_closed(peer)

    def _dial_more(self, peer: bytes, sockets: int) -> None:
        """Dial as many as are neither up nor under way."""
        first, up = self._bulk[peer], len(self._standing.bundle(peer))
        if first.dialled and self._standing.room(peer):
            sockets = min(sockets, self._standing.sockets_max)
            for _ in range(sockets - up - self._coming[peer]):
                self._coming[peer] += 1
                self._start(self._dial_beside, peer, first.address)

    async def _dial_beside(self, peer: bytes, address: str) -> None:
        error: str | None = "broken off"
        try:
            error = await self._dial(peer, address, BESIDE)
        finally:
            if error is not None:
                self._coming[peer] = max(0, self._coming[peer] - 1)

    def came(self, connection: Connection) -> None:
        """A bulk socket is through the handshake: no dial is under way for it."""
        if not connection.beside:
            self.dials.discard(connection.node)
        elif connection.dialled:
            self._coming[connection.node] = max(0, self._coming[connection.node] - 1)

    async def _await(self, peer: bytes) -> None:
        await trio.sleep(BULK_TIMEOUT)
        if peer not in self._bulk:
            self._hooks.bulk_closed(peer)
