"""The dials under way to each peer, and when those that are not needed any more are called off."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import trio

from mesh.dialling import CROSSING
from mesh.shell.connection import Connection


class Attempts:
    """Cancel scopes around dials of control links."""

    def __init__(self, node: Callable[[], bytes], control: Mapping[bytes, Connection]) -> None:
        self._node, self._control = node, control
        self._scopes: dict[bytes, set[trio.CancelScope]] = {}

    @contextmanager
    def begun(self, peer: bytes) -> Generator[trio.CancelScope]:
        """Count a dial among those under way."""
        with trio.CancelScope() as scope:
            self._scopes.setdefault(peer, set()).add(scope)
            try:
                yield scope
            finally:
                scopes = self._scopes.get(peer, set())
                scopes.discard(scope)
                if not scopes:
                    self._scopes.pop(peer, None)

    async def needless(self, connection: Connection) -> None:
        """A control link is up: call the other dials off, those that cross it a little later."""
        peer = connection.node
        others = self._scopes.get(peer, set())
        others.discard(connection.attempt)  # it is a link now, and ends in good order
        if not connection.dialled and not connection.relayed and self._node() < peer:
            await trio.sleep(CROSSING)
        if self._control.get(peer) is connection:
            for scope in list(others):
                scope.cancel()
