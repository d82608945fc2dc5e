"""One HTTP/1.1 request body, read only when the app asks: the socket is the back-pressure."""

from __future__ import annotations

from typing import Final, Protocol

import trio

from node.http.asgi import RejectedRequestError
from node.http.chunks import ChunkDecoder
from node.http.limits import Limits

CHUNK_SIZE: Final = 256 << 10


class ByteSource(Protocol):
    """What a body needs of a stream."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return some bytes, or none at the end."""
        ...


class RequestBody:
    """The bytes after a request head, of a declared length or in chunks.

    The bytes never pass through h11: those of a declared length go from the socket to the app as
    they are, those of chunks with one copy at most.
    """

    def __init__(self, stream: ByteSource, limits: Limits, ahead: bytes) -> None:
        self._stream = stream
        self._limits = limits
        self.ahead = ahead
        """Bytes received after the head; once the body is complete, of the next request."""
        self._left = 0
        self._chunks: ChunkDecoder | None = None
        self._received = 0
        self._size_max: int | None = None
        self.complete = True

    def expect(self, length: int | None, size_max: int | None) -> None:
        """Say what will come.  Raises RejectedRequestError (413) if that is declared too long."""
        if length is None:
            self._chunks = ChunkDecoder(trailer_size_max=self._limits.head_size_max)
        else:
            self._left = length
            if size_max is not None and length > size_max:
                raise RejectedRequestError(413, f"body exceeds {size_max} bytes")
        self._size_max = size_max
        self.complete = length == 0

    @property
    def left(self) -> float:
        """Bytes still to come; infinite when only the end of the chunks will tell."""
        if self.complete:
            return 0
        return float("inf") if self._chunks is not None else self._left

    async def read(self) -> bytes:
        """Return the next bytes; at the end of chunks there may be none.

        Raises RejectedRequestError, BrokenResourceError.
        """
        if self._chunks is not None:
            return await self._read_chunks(self._chunks)
        return await self._read_sized()

    async def _read_sized(self) -> bytes:
        if self.ahead:
            data, self.ahead = self.ahead[: self._left], self.ahead[self._left :]
        else:
            data = await self._receive(min(self._left, CHUNK_SIZE))
        self._left -= len(data)
        self.complete = not self._left
        return data

    async def _read_chunks(self, decoder: ChunkDecoder) -> bytes:
        data = b""
        while not data and not decoder.complete:
            if self.ahead:
                received, self.ahead = self.ahead, b""
            else:
                received = await self._receive(CHUNK_SIZE)
            data = decoder.feed(received)
        if decoder.complete:
            self.complete = True
            self.ahead = decoder.rest
        self._received += len(data)
        if self._size_max is not None and self._received > self._size_max:
            raise RejectedRequestError(413, f"body exceeds {self._size_max} bytes")
        return data

    async def _receive(self, size: int) -> bytes:
        with trio.move_on_after(self._limits.read_timeout):
            data = await self._stream.receive_some(size)
            if not data:
                raise trio.BrokenResourceError("peer closed within a request body")
            return bytes(data)
        raise RejectedRequestError(408, f"no byte for {self._limits.read_timeout} s")
