"""Documents on their way into the store, and their compressed twins.

Everything streams: text is written to a blob as it is rendered; twins are made from that blob, a
piece at a time, in worker threads.  Equal text gives equal twins: no name, no time.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import BinaryIO, Protocol

import zstandard

from formats.contract import Repository
from store.blobs import Ingest, Ingested

PIECE = 1 << 20  # bytes compressed at a time
BUFFER = 256 << 10  # bytes of text gathered before they are written
CHECKSUMS = ("sha512",)
XZ_PRESET = 2  # 17 MiB of memory; the default needs 94
ZSTD_LEVEL = 10


class Compressor(Protocol):
    """What zlib, lzma and zstandard agree on."""

    def compress(self, data: bytes, /) -> bytes:
        """Take bytes, give what is ready."""
        ...

    def flush(self) -> bytes:
        """Give the rest."""
        ...


def gzip() -> Compressor:
    """A gzip writer whose header holds no time (RFC 1952)."""
    return zlib.compressobj(9, zlib.DEFLATED, 31)


def xz() -> Compressor:
    """An xz writer."""
    return lzma.LZMACompressor(preset=XZ_PRESET)


def zstd() -> Compressor:
    """A zstd writer."""
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj()


TWINS: Mapping[str, Callable[[], Compressor]] = {".gz": gzip, ".xz": xz, ".zst": zstd}


class Text:
    """A document being rendered."""

    def __init__(self, ingest: Ingest) -> None:
        self.ingest = ingest
        self._buffer = bytearray()

    async def write(self, data: bytes) -> None:
        """Append; small writes are gathered."""
        self._buffer += data
        if len(self._buffer) >= BUFFER:
            await self.flush()

    async def flush(self) -> None:
        """Write what is gathered."""
        data, self._buffer = bytes(self._buffer), bytearray()
        if data:
            await self.ingest.write(data)


async def store(repository: Repository, data: bytes) -> Ingested:
    """Store a small document."""
    async with repository.ingest(checksums=CHECKSUMS) as ingest:
        await ingest.write(data)
    return ingest.result


async def compress(
    repository: Repository, blob: Ingested, start: Callable[[], Compressor]
) -> Ingested:
    """Store the compressed twin of a blob."""
    state = start()
    async with repository.ingest(checksums=CHECKSUMS) as ingest:
        for offset in range(0, blob.size, PIECE):
            piece = await repository.inspect(blob.digest, partial(_compress_piece, state, offset))
            if piece:
                await ingest.write(piece)
        await ingest.write(await repository.inspect(blob.digest, partial(_finish, state)))
    return ingest.result


def _compress_piece(state: Compressor, offset: int, file: BinaryIO) -> bytes:
    file.seek(offset)
    return state.compress(file.read(PIECE))


def _finish(state: Compressor, _: BinaryIO) -> bytes:
    return state.flush()
