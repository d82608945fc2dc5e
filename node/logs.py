"""Structured logs on standard error: text for people, JSON for collectors."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
SECRETS = re.compile(
    r"(atoll_)[A-Za-z0-9_-]{8,}|(://[^/\s:@]*:)[^@/\s]+(?=@)"
    r"|((?:Bearer|Basic|Token) )[A-Za-z0-9+/=._-]{8,}"
)


def scrub(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank whatever looks like a credential, wherever it slipped in."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = SECRETS.sub(lambda m: f"{m[1] or m[2] or m[3]}…", value)
    return event


def configure(level: str = "info", form: str = "auto") -> None:
    """Set up structlog for this process; ``auto`` is text on a terminal, JSON elsewhere."""
    json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if json else _keep,
            scrub,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _keep(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return event
