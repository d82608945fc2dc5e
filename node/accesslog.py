"""One line a request, as cheap as a line can be: every request pays for it.

structlog builds a line in ten calls, which took a tenth of a small answer's time.  The JSON form is
made here in one; text, for people at a terminal, stays structlog's.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec
import structlog

from node.logs import scrubbed
from node.packages.observe import Observation

log = structlog.get_logger(__name__)


class Line(msgspec.Struct):
    """What is told of a request; the order is that of the line."""

    id: str
    method: str
    format: str
    repository: str
    actor: str
    address: str
    status: int
    sent: int
    received: int
    seconds: float
    error: str | None
    event: str = "request"
    level: str = "info"
    timestamp: datetime | None = None


class AccessLog:
    """Tells of finished requests in the form that ``node.logs.configure`` has chosen."""

    def __init__(self, stream: TextIO | None = None) -> None:
        renderer = structlog.get_config()["processors"][-1]
        self._json = isinstance(renderer, structlog.processors.JSONRenderer)
        self._wanted = log.is_enabled_for(logging.INFO)
        self._stream = stream
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, seen: Observation) -> None:
        """Log a request, if requests are logged."""
        if not self._wanted:
            return
        line = Line(
            id=seen.id,
            method=seen.method,
            format=seen.format,
            repository=seen.repository,
            actor=seen.actor,
            address=seen.address,
            status=seen.status,
            sent=seen.sent,
            received=seen.received,
            seconds=round(seen.seconds, 4),
            error=scrubbed(seen.error) if seen.error else None,
        )
        if not self._json:
            fields = msgspec.structs.asdict(line)
            for name in ("event", "level", "timestamp"):
                del fields[name]
            log.info("request", **fields)
            return
        # What a client chose, short of the error, is a method and names: no place for a secret,
        # unless somebody puts one there.
        for name in ("method", "repository", "actor"):
            setattr(line, name, scrubbed(getattr(line, name)))
        line.timestamp = datetime.now(UTC)
        (self._stream or sys.stderr).write(self._encode(line).decode() + "\n")
