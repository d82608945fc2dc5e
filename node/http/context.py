"""What all connections of one server share."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from node.http.asgi import App, BodyMax, Scope
from node.http.limits import Limits

FILE_THREADS = 32  # so that a slow disk leaves trio's default threads to the rest of the node


def hypercorn_config(limits: Limits) -> Config:
    """Express the limits in Hypercorn's terms, for the protocols it runs."""
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("node.http")
    config.include_server_header = False
    config.keep_alive_timeout = limits.idle_timeout
    config.keep_alive_max_requests = limits.requests_max
    config.h11_max_incomplete_size = limits.head_size_max
    config.h2_max_concurrent_streams = limits.streams_max
    config.h2_max_header_list_size = limits.head_size_max
    return config


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
        self.config = hypercorn_config(self.limits)
        self.worker = WorkerContext(None)
        self.wrapped = ASGIWrapper(self.app)  # type: ignore[arg-type]
        self.threads = trio.CapacityLimiter(FILE_THREADS)

    def body_size_max(self, scope: Scope) -> int | None:
        """Return the largest body this request may have; the tighter of server's and route's."""
        route = None if self.body_max is None else self.body_max(scope)
        bounds = [bound for bound in (route, self.limits.body_size_max) if bound is not None]
        return min(bounds, default=None)
