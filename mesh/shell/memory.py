"""What the mesh remembers between two lives of the node: open invitations, addresses of members.

One small file, written whole and atomically, readable by its owner only: invitations are secrets.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import trio

from mesh.addresses import AddressBook
from mesh.invitation import Book, Granted
from store import disk

FILE = "mesh.state"


class State(msgspec.Struct):
    """The file's content."""

    invitations: list[Granted] = []
    addresses: list[bytes] = []  # signed records
    hints: dict[str, list[str]] = {}  # node id → addresses that have worked


class Memory:
    """Loads and saves.  Without a directory nothing outlives the process."""

    def __init__(self, directory: Path | None, book: Book, addresses: AddressBook) -> None:
        self._path = None if directory is None else directory / FILE
        self._book = book
        self._addresses = addresses
        self._lock = trio.Lock()
        self.records: list[bytes] = []  # as loaded: to be judged once the ledger is open

    async def load(self) -> None:
        """Read what was saved.  A damaged file is as good as none."""
        if self._path is None:
            return
        try:
            data = await trio.to_thread.run_sync(self._path.read_bytes)
            state = msgspec.msgpack.decode(data, type=State)
        except (FileNotFoundError, msgspec.MsgspecError):
            return
        self._book.granted.update({entry.id: entry for entry in state.invitations})
        self.records = state.addresses
        for node, known in state.hints.items():
            self._addresses.hints[bytes.fromhex(node)] = tuple(known)

    async def save(self) -> None:
        """Write it down.  Raises StoreFullError, ReadOnlyError."""
        if self._path is None:
            return
        state = State(
            list(self._book.granted.values()),
            self._addresses.encoded(),
            {node.hex(): list(known) for node, known in self._addresses.hints.items()},
        )
        async with self._lock:
            await trio.to_thread.run_sync(_replace, self._path, msgspec.msgpack.encode(state))


def _replace(path: Path, data: bytes) -> None:
    with disk.disk_errors():
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
