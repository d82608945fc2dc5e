"""Request heads in, response heads out: what one HTTP/1.1 message says about itself.

Spec: RFC 9112 (HTTP/1.1).  h11 parses and judges; this module refuses besides what h11 tolerates
and two implementations could read differently, which is how requests are smuggled (§11.2).  What
matches the narrow form that most requests have is read without h11, and means the same to it.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

import h11

from node.http.asgi import RejectedRequestError, Scope, extensions
from node.http.limits import Limits

SERVER_NAME: Final = b"atoll"
PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
FALLBACK_PHRASES: Final = {
    2: b"Success",
    3: b"Redirection",
    4: b"Client Error",
    5: b"Server Error",
}
REASON_SIZE_MAX: Final = 512
REQUEST_ID: Final = re.compile(rb"[!-~]{1,64}")  # a client's own that is taken over
UNPRINTABLE: Final = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
# One field of the narrow form: one space before a value that neither begins nor ends with one.  No
# two parts of it can take the same bytes, so that a match takes time in proportion to the head.
FIELD: Final = (
    rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+): ([!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)\r\n"
)
FIELDS: Final = re.compile(FIELD)
PLAIN: Final = re.compile(
    rb"(GET|HEAD) (/[!-~]*) HTTP/1\.1\r\n((?:%b)+)\r\n" % re.sub(rb"\((?!\?)", rb"(?:", FIELD)
)
BODIED: Final = frozenset((b"content-length", b"transfer-encoding", b"expect"))

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class RequestHead:
    """A judged request head."""

    method: str
    target: bytes
    headers: Headers
    http_version: str
    body_length: int | None
    """Bytes to follow; None when they come in chunks."""
    request_id: bytes
    close: bool
    """Whether the client will not send another request."""
    expects_continue: bool
    """Whether the client holds its body back until told to go on."""


def parse_head(data: bytes, limits: Limits) -> RequestHead:
    """Parse one request head, its final blank line included.  Raises RejectedRequestError."""
    return plain_head(data, limits) or judged_head(data, limits)


def plain_head(data: bytes, limits: Limits) -> RequestHead | None:
    """Read a request of the narrow form without a body, or return None for ``judged_head``."""
    found = PLAIN.fullmatch(data)
    if found is None:
        return None
    method, target, block = found.groups()
    headers = [(name.lower(), value) for name, value in FIELDS.findall(block)]
    fields = dict(headers)
    if not BODIED.isdisjoint(fields) or len(headers) > limits.header_count_max:
        return None
    if b"host" not in fields or [name for name, _ in headers].count(b"host") > 1:
        return None
    return RequestHead(
        method="GET" if method == b"GET" else "HEAD",
        target=target,
        headers=headers,
        http_version="1.1",
        body_length=0,
        request_id=request_id(fields.get(b"x-request-id", b"")),
        close=b"connection" in fields and b"close" in _connection_tokens(headers),
        expects_continue=False,
    )


def judged_head(data: bytes, limits: Limits) -> RequestHead:
    """Parse any request head by h11.  Raises RejectedRequestError."""
    lines = data.count(b"\n")
    if lines != data.count(b"\r\n"):
        raise RejectedRequestError(400, "bare line feed in request head")
    if b"\n " in data or b"\n\t" in data:
        raise RejectedRequestError(400, "obsolete line folding")  # RFC 9112 §5.2
    if lines > limits.header_count_max + 2:
        raise RejectedRequestError(431, "too many headers")
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_size_max)
    parser.receive_data(data)
    try:
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise RejectedRequestError(error.error_status_hint, str(error)) from error
    if not isinstance(request, h11.Request):
        raise RejectedRequestError(400, "malformed request head")
    return _judge(request)


def _judge(request: h11.Request) -> RequestHead:
    headers = list(request.headers)
    fields = dict(headers)  # h11 has refused repetitions of what decides the framing
    length: int | None = int(fields.get(b"content-length", 0))
    if b"transfer-encoding" in fields:
        if b"content-length" in fields:
            raise RejectedRequestError(400, "both Content-Length and Transfer-Encoding")
        if request.http_version < b"1.1":
            raise RejectedRequestError(400, "Transfer-Encoding in HTTP/1.0")  # RFC 9112 §6.1
        length = None
    if not request.http_version.startswith(b"1."):  # RFC 9110 §15.6.6
        raise RejectedRequestError(505, "only HTTP/1.1 and HTTP/2 are spoken here")
    if request.method == b"CONNECT":
        raise RejectedRequestError(501, "CONNECT is not supported")
    expects = fields.get(b"expect", b"").lower() == b"100-continue"
    return RequestHead(
        method=request.method.decode("ascii"),
        target=request.target,
        headers=headers,
        http_version=min(request.http_version, b"1.1").decode("ascii"),  # RFC 9110 §2.5
        body_length=length,
        request_id=request_id(fields.get(b"x-request-id", b"")),
        close=b"close" in _connection_tokens(headers),
        expects_continue=expects and request.http_version >= b"1.1",
    )


def _connection_tokens(headers: Headers) -> set[bytes]:
    values = b",".join(value for name, value in headers if name == b"connection")
    return {token.strip() for token in values.lower().split(b",")}


def request_id(wanted: bytes = b"") -> bytes:
    """Return what tells this request from others in logs: the client's name for it, if it is fit.

    Short and printable is fit: it comes back in a header, and goes into every log.
    """
    return wanted if REQUEST_ID.fullmatch(wanted) else os.urandom(8).hex().encode("ascii")


def make_scope(
    *,
    method: str,
    target: bytes,
    headers: Headers,
    http_version: str,
    scheme: str,
    client: tuple[str, int] | None,
    server: tuple[str, int] | None,
    state: dict[str, object],
    identifier: bytes,
) -> Scope:
    """Describe a request to the app.  Raises RejectedRequestError for a target without a path."""
    if not target.startswith(b"/") or not target.isascii():
        target, headers = _origin_form(method, target, headers)
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": http_version,
        "method": method,
        "scheme": scheme,
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": client,
        "server": server,
        "state": state.copy(),
        "extensions": extensions(),
        "request_id": identifier,
    }


def _origin_form(method: str, target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Return the target as path and query; an absolute URL also decides the host (§3.2.2)."""
    if target == b"*" and method == "OPTIONS":
        return target, headers
    scheme, separator, rest = target.partition(b"://")
    authority, slash, path = rest.partition(b"/")
    known = separator and scheme.lower() in (b"http", b"https")
    if not known or not authority or b"?" in authority or not target.isascii():
        raise RejectedRequestError(400, "request target is not a path")
    kept = [(name, value) for name, value in headers if name != b"host"]
    return slash + path or b"/", [(b"host", authority), *kept]


def reason_phrase(status: int, chosen: bytes | str | None = None) -> bytes:
    """Return a phrase that fits a status line, never an empty one: strict clients refuse that."""
    if chosen:
        text = chosen.encode("latin-1", "replace") if isinstance(chosen, str) else bytes(chosen)
        clean = UNPRINTABLE.sub(b" ", text).strip()[:REASON_SIZE_MAX]
        if clean:
            return clean
    return PHRASES.get(status) or FALLBACK_PHRASES.get(status // 100, b"Unknown")


class _Clock:
    """The Date header, rendered once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._date = b""

    def date(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode("ascii")
        return self._date


_CLOCK = _Clock()


def server_headers() -> Headers:
    """Return the headers that every response carries."""
    return [(b"date", _CLOCK.date()), (b"server", SERVER_NAME)]
