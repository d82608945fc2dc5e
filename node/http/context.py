"""What all connections of one server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import trio

from node.http.asgi import App, BodyMax, Scope
from node.http.limits import Limits
from node.http.transport import Transport

FILE_THREADS = 32  # so that a slow disk leaves trio's default threads to the rest of the node
Address = tuple[str, int]


@dataclass
class Context:
    """The app, its limits, and whether the server is stopping."""

    app: App
    limits: Limits
    body_max: BodyMax | None = None
    state: dict[str, Any] = field(default_factory=dict)
    """What the app's lifespan handed out; every scope gets a copy."""
    stopping: bool = False

    def __post_init__(self) -> None:
        self.threads = trio.CapacityLimiter(FILE_THREADS)

    def body_size_max(self, scope: Scope) -> int | None:
        """Return the largest body this request may have; the tighter of server's and route's."""
        route = None if self.body_max is None else self.body_max(scope)
        bounds = [bound for bound in (route, self.limits.body_size_max) if bound is not None]
        return min(bounds, default=None)

    async def close(
        self, stream: Transport | trio.SSLStream[Transport], transport: Transport
    ) -> None:
        """Close a connection: politely for a while, then anyhow."""
        with trio.move_on_after(self.limits.close_timeout):
            await stream.aclose()
            return
        with trio.CancelScope(shield=True):  # closing a socket does not wait for anything
            await transport.aclose()
