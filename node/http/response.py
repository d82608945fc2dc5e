"""Write an HTTP/1.1 response: head, framing, end.

What h11 would do, for the few cases a server's response has, at a fraction of its cost: every
request pays for this.

Spec: RFC 9112 §4 (status line), §6 (framing); RFC 9110 §5.5 (field values).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, TypeVar

from node.http.asgi import InvalidMessageError
from node.http.head import Headers, server_headers

NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
BODILESS: Final = frozenset((204, 304))
KEPT_SIZE_MAX: Final = 200  # bytes of a field that is remembered

Part = TypeVar("Part")


def field_line(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a field's name in lower case, and its line.  Raises InvalidMessageError."""
    if len(name) + len(value) > KEPT_SIZE_MAX:
        return _judge_field(name, value)
    return _known_field(name, value)


def _judge_field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    value = value.strip(b" \t")
    if NAME.fullmatch(name) is None or VALUE.fullmatch(value) is None:
        raise InvalidMessageError(f"invalid header {name!r}")
    return name.lower(), b"%b: %b" % (name, value)


_known_field = lru_cache(maxsize=1024)(_judge_field)  # most fields say what they said before


class ResponseWriter:
    """Frames one response; never lets more or less out than its head promises.

    ``close`` tells, once the head is written, whether the connection must end after it.
    """

    def __init__(
        self, *, method: str, http_version: str, close: bool, request_id: bytes = b""
    ) -> None:
        self._head_only = method == "HEAD"
        self._old = http_version < "1.1"
        self.close = close or self._old
        self.bodiless = self._head_only
        self._request_id = request_id
        self._left: int | None = None
        self._chunked = False

    def head(self, status: int, headers: Headers, reason: bytes) -> bytes:
        """Return the head.  Raises InvalidMessageError for what would not be a header."""
        if not 200 <= status <= 999:
            raise InvalidMessageError(f"{status} is not a final status")
        lines, names = [b"HTTP/1.1 %d %b" % (status, reason)], set()
        for name, value in headers:
            lower, line = field_line(name, value)
            if lower == b"content-length":
                self._take_length(value.strip(b" \t"))
            elif lower == b"transfer-encoding":
                continue  # the framing is ours to choose
            elif lower == b"connection":
                self.close |= b"close" in value.lower()
                continue
            names.add(lower)
            lines.append(line)
        lines += [b"%b: %b" % pair for pair in server_headers() if pair[0] not in names]
        if self._request_id and b"x-request-id" not in names:
            lines.append(b"x-request-id: " + self._request_id)
        self.bodiless |= status in BODILESS
        if self._left is None and status not in BODILESS and not self._old:
            self._chunked = (
                True  # an old client knows the end of the body by that of the connection
            )
            lines.append(b"transfer-encoding: chunked")
        if self.close:
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _take_length(self, value: bytes) -> None:
        if not value.isdigit() or self._left is not None:
            raise InvalidMessageError("invalid or second content-length")
        self._left = int(value)

    def frame(self, part: Part, size: int) -> list[Part | bytes]:
        """Return a part of the body, ``size`` bytes, with its framing; it is passed through.

        Raises InvalidMessageError if the head promised less.
        """
        if self.bodiless or not size:
            return []
        if self._chunked:
            return [b"%x\r\n" % size, part, b"\r\n"]
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise InvalidMessageError("body is longer than its content-length")
        return [part]

    def end(self) -> bytes:
        """Return what ends the body.  Raises InvalidMessageError if the head promised more."""
        if self.bodiless:
            return b""
        if self._left:
            raise InvalidMessageError(f"body ends {self._left} bytes before its content-length")
        return b"0\r\n\r\n" if self._chunked else b""
