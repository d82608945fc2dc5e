"""The keys of the running node: which one signs now, and the file that outlives a crash.

Which key is the node's own is said by the ledger's authority, in the transaction that needs it; the
file only has to hold that key.  So a crash between any two steps of a rotation leaves a node that
either still has its old key, or already its new one.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from store import identity
from store.identity import Identity


class Keys:
    """Holds the present identity.  Without a directory nothing is written."""

    def __init__(self, current: Identity, directory: Path | None = None) -> None:
        self.current = current
        self._directory = directory

    @property
    def node(self) -> str:
        """The id of the node, whatever its key."""
        return self.current.node

    def signer(self, key: bytes | None) -> Identity:
        """The node under the key that the authority says is its own, if it holds that one."""
        if key is None or key == self.current.key:
            return self.current
        return self.current.held().get(key, self.current)

    async def keep(self, current: Identity) -> None:
        """Use an identity from now on; it is on disk first."""
        if current == self.current:
            return
        if self._directory is not None:
            write = partial(_replace, self._directory, current)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(write)
        self.current = current


def _replace(directory: Path, current: Identity) -> None:
    """Write the file; the directory has not moved, though the file is another one now."""
    moved = identity.moved(directory)
    identity.save(directory, current)
    if not moved:
        identity.settle(directory)
