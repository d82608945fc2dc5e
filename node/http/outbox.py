"""What one HTTP/2 stream has yet to send."""

from __future__ import annotations

from typing import Final

import trio
from hypercorn.protocol.h2 import BufferCompleteError

from node.http.transport import Buffer, StalledError

HIGH_WATER: Final = 512 << 10  # bytes; the app waits above


class Outbox:
    """Bytes between an app and the connection's sender; stands in for Hypercorn's StreamBuffer.

    An app waits here for the client's flow control window.  Each byte the client lets through
    starts the write timeout anew.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._buffer = bytearray()
        self._complete = False
        self._ended = False
        self._moved = trio.Event()

    @property
    def complete(self) -> bool:
        """Whether everything was handed to the connection."""
        return self._complete and not self._buffer

    def set_complete(self) -> None:
        """Say that no more will be pushed."""
        self._complete = True

    async def push(self, data: Buffer) -> None:
        """Add bytes; wait while there are many.  Raises StalledError, BufferCompleteError."""
        if self._complete:
            raise BufferCompleteError
        self._buffer += data
        while len(self._buffer) >= HIGH_WATER:
            await self._movement()

    async def drain(self) -> None:
        """Wait until all is on its way, the end of the stream too.  Raises StalledError."""
        while self._buffer or (self._complete and not self._ended):
            await self._movement()

    async def pop(self, size: int) -> bytes:
        """Take up to ``size`` bytes."""
        data = bytes(memoryview(self._buffer)[:size])
        if data:
            del self._buffer[: len(data)]
            self._move()
        return data

    async def close(self) -> None:
        """Drop everything: nobody will read it."""
        self._complete = True
        self._buffer.clear()
        self.end()

    def end(self) -> None:
        """Note that the stream has ended."""
        self._ended = True
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    async def _movement(self) -> None:
        with trio.move_on_after(self._patience):
            await self._moved.wait()
            return
        raise StalledError(f"nothing taken for {self._patience} s")
