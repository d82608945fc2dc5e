"""The ASGI vocabulary the server and its apps share, with the node's own extensions.

Beyond the specification (asgi.readthedocs.io, HTTP 2.3), every HTTP scope offers

- ``http.response.zerocopysend``: ``{"type", "file": fd, "offset", "count", "more_body"}``
  sends part of an open file; over plain HTTP/1.1 the kernel copies it to the socket, otherwise it
  is read in large pieces.  The file must stay open until ``send`` returns.
- ``http.response.reason``: ``http.response.start`` may carry ``"reason": bytes``, the HTTP/1.1
  reason phrase; some package clients show users nothing else.

The scope's ``request_id`` (bytes) is what the server sends back as ``X-Request-Id``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
BodyMax = Callable[[Scope], int | None]

EXTENSIONS: tuple[str, ...] = ("http.response.zerocopysend", "http.response.reason")


class RejectedRequestError(Exception):
    """The server itself refuses a request, before or instead of the app."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class InvalidMessageError(Exception):
    """An app sent an ASGI message out of order, or one that is no part of a response."""


def extensions() -> dict[str, dict[str, Any]]:
    """Return the extensions for a new scope; apps may write to theirs."""
    return {name: {} for name in EXTENSIONS}
