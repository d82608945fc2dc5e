"""What the node notices about each request: metrics, the access log, the audit trail."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from node.http.asgi import Scope
from store.rows import Artifact


@dataclass(slots=True)
class Observation:
    """One request, as far as it got."""

    method: str
    format: str = "none"
    repository: str = ""
    actor: str = ""
    address: str = ""
    status: int = 0
    sent: int = 0
    received: int = 0
    error: str = ""
    artifact: Artifact | Callable[[], Artifact | None] | None = None  # the file that was sent
    begun: bool = False  # from its first byte on
    id: str = field(default_factory=lambda: os.urandom(8).hex())
    began: float = field(default_factory=trio.current_time)

    @classmethod
    def of(cls, scope: Scope, format_name: str) -> Observation:
        """Begin to observe a request, under the id that its client will see."""
        method = str(scope["method"])
        if "request_id" in scope:
            return cls(method, format_name, id=scope["request_id"].decode("ascii"))
        return cls(method, format_name)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return trio.current_time() - self.began


class Observer(Protocol):
    """Told of every finished request."""

    def __call__(self, observation: Observation) -> None: ...
