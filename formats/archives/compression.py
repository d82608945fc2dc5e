"""Decompression that cannot be made to produce more than the limits allow."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

from formats.archives.limits import LIMITS, Limits
from store.errors import ManifestInvalidError, TooLargeError

INPUT_SIZE = 1 << 16  # bytes read from the file at a time
OUTPUT_SIZE = 1 << 16  # bytes taken from a decompressor at a time
XZ_MEMORY_MAX = 128 << 20  # bytes; xz -9 needs 65 MiB
ZSTD_WINDOW_MAX = 1 << 27  # bytes; what zstd decodes without --long
BROKEN = (zlib.error, lzma.LZMAError, OSError)  # bz2 says OSError


class Source(Protocol):
    """The one thing a reader of a stream needs."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; empty at the end."""
        ...


class Stream(Protocol):
    """A decompressor of one compressed stream (bz2's and lzma's own shape)."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class Gunzip:
    """zlib in the shape of bz2's decompressor."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.eof and not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class Concatenated:
    """Read compressed streams laid end to end, as gzip, bzip2 and xz allow."""

    def __init__(self, source: Source, start: Callable[[], Stream]) -> None:
        self._source, self._start = source, start
        self._stream = start()
        self._pending = b""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; empty at the end.  Raises ManifestInvalidError if cut short."""
        while True:
            if self._stream.eof and not self._next():
                return b""
            if not self._pending and self._stream.needs_input:
                self._pending = self._source.read(INPUT_SIZE)
                if not self._pending:
                    raise ManifestInvalidError("the compressed data is cut short")
            data, self._pending = self._pending, b""
            try:
                out = self._stream.decompress(data, size)
            except BROKEN as error:
                raise ManifestInvalidError(f"the compressed data is broken: {error}") from error
            if out:
                return out

    def _next(self) -> bool:
        """Begin the next stream, if there is one.  Zero bytes between and after are padding."""
        self._pending = self._stream.unused_data or self._pending
        while True:
            self._pending = self._pending.lstrip(b"\0")
            if self._pending:
                self._stream = self._start()
                return True
            self._pending = self._source.read(INPUT_SIZE)
            if not self._pending:
                return False


class Zstandard:
    """A reader of zstd frames, laid end to end or single."""

    def __init__(self, source: Source) -> None:
        decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX)
        self._reader = decoder.stream_reader(
            source,  # type: ignore[arg-type]  # read() is all it uses
            read_size=INPUT_SIZE,
            read_across_frames=True,
        )

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes.  Raises ManifestInvalidError."""
        try:
            return self._reader.read(size)
        except zstandard.ZstdError as error:
            raise ManifestInvalidError(f"the compressed data is broken: {error}") from error


class Counted:
    """Count what goes into a decompressor: the ratio is judged against what was really read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._head = b""
        self.count = 0

    def peek(self, size: int) -> bytes:
        """The first bytes, which stay to be read.  Only for a start."""
        while len(self._head) < size:
            more = self._source.read(size - len(self._head))
            if not more:
                break
            self._head += more
        return self._head

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes."""
        data, self._head = self._head[:size], self._head[size:]
        data = data or self._source.read(size)
        self.count += len(data)
        return data


class Bounded:
    """Count what comes out of a stream, and stop when it is more than its input may expand to.

    Takes large pieces from the stream and hands out small ones: a decompressor pays for each call.
    """

    def __init__(self, source: Source, allowed: Callable[[], int]) -> None:
        self._source, self._allowed = source, allowed
        self._buffer, self._at = b"", 0
        self._count = 0

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes.  Raises TooLargeError, ManifestInvalidError."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._source.read(OUTPUT_SIZE), 0
            self._count += len(self._buffer)
            if self._count > self._allowed():
                raise TooLargeError("the archive expands to more than is allowed")
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        return data


def decompress(file: Source, limits: Limits = LIMITS) -> Source:
    """Read a file that may be gzip, bzip2, xz, lzma or zstd; anything else passes through.

    The ratio is judged against the compressed bytes read so far, so a bomb stops early and the
    file need not be seekable.
    """
    source = Counted(file)
    magic = source.peek(6)
    stream: Source
    if magic.startswith(b"\x1f\x8b"):
        stream = Concatenated(source, Gunzip)
    elif magic.startswith(b"BZh"):
        stream = Concatenated(source, bz2.BZ2Decompressor)
    elif magic.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        stream = Concatenated(source, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_MAX))
    elif magic.startswith(b"\x28\xb5\x2f\xfd"):
        stream = Zstandard(source)
    else:
        return Bounded(source, lambda: limits.expanded_max)
    return Bounded(stream, lambda: limits.allowed(source.count))
