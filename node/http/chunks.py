"""Decode chunked bodies, strictly and with one copy.

h11 has a decoder too, which the tests hold this one against; but it copies each byte three times,
and chunks are how container clients upload.

Spec: RFC 9112 §7.1.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from node.http.asgi import RejectedRequestError

SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
TRAILER_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00\r\n]*")
LINE_SIZE_MAX: Final = 4096
LINE_END: Final = b"\r\n"


class _Expect(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    NOTHING = auto()


class ChunkDecoder:
    """Takes bytes as they come, gives the body's; then ``rest`` begins the next request."""

    def __init__(self, *, trailer_size_max: int) -> None:
        self._expect = _Expect.SIZE
        self._left = 0
        self._pending = b""
        self._trailer_left = trailer_size_max
        self.rest = b""

    @property
    def complete(self) -> bool:
        """Whether the last chunk and its trailers are read."""
        return self._expect is _Expect.NOTHING

    def feed(self, data: bytes) -> bytes:
        """Return the body's bytes among ``data``.  Raises RejectedRequestError (400, 431)."""
        if self._expect is _Expect.DATA and len(data) < self._left:
            self._left -= len(data)  # the middle of a large chunk: nothing to cut, nothing to copy
            return data
        if self._pending:
            data, self._pending = self._pending + data, b""
        view, parts, at = memoryview(data), list[memoryview](), 0
        while at < len(data) and self._expect is not _Expect.NOTHING:
            if self._expect is _Expect.DATA:
                part = view[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if not self._left:
                    self._expect = _Expect.DATA_END
                continue
            end = data.find(LINE_END, at)
            if end < 0:
                self._pending = self._unfinished(data[at:])
                break
            self._line(data[at:end])
            at = end + len(LINE_END)
        if self.complete:
            self.rest = data[at:]
        return b"".join(parts)

    def _unfinished(self, line: bytes) -> bytes:
        """Keep the beginning of a line, unless it can no longer become a good one."""
        if self._expect is _Expect.DATA_END and line != LINE_END[:1]:
            raise RejectedRequestError(400, "chunk is longer than its size")
        if len(line) > LINE_SIZE_MAX:
            raise RejectedRequestError(400, "chunk line is too long")
        if b"\n" in line:
            raise RejectedRequestError(400, "bare line feed between chunks")
        return line

    def _line(self, line: bytes) -> None:
        if self._expect is _Expect.SIZE:
            found = SIZE_LINE.fullmatch(line)
            if found is None or len(line) > LINE_SIZE_MAX:
                raise RejectedRequestError(400, "malformed chunk size")
            self._left = int(found[1], 16)
            self._expect = _Expect.DATA if self._left else _Expect.TRAILER
        elif self._expect is _Expect.DATA_END:
            if line:
                raise RejectedRequestError(400, "chunk is longer than its size")
            self._expect = _Expect.SIZE
        elif not line:
            self._expect = _Expect.NOTHING
        elif TRAILER_LINE.fullmatch(line) is None:
            raise RejectedRequestError(400, "malformed trailer")
        else:
            self._trailer_left -= len(line) + len(LINE_END)
            if self._trailer_left < 0:
                raise RejectedRequestError(431, "trailers are too large")
