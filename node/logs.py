"""Structured logs on standard error: text for people, JSON for collectors.

Libraries that log by the standard module end in the same place, through the same scrubbing.
"""

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
    r"(atoll_|atoll-invite-)[A-Za-z0-9_-]{8,}"
    r"|(://[^/\s:@]*:)[^@/\s]+(?=@)"
    r"|((?:Bearer|Basic|Token|Control) )[A-Za-z0-9+/=._-]{8,}"
    r"|(eyJ)[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"
)
DEPTH_MAX = 4  # of containers that are searched for secrets

Event = MutableMapping[str, Any]


def scrubbed(text: str) -> str:
    """Blank whatever looks like a credential in a text."""
    return SECRETS.sub(lambda m: f"{next(filter(None, m.groups()))}…", text)


def scrub(logger: object, method: str, event: Event) -> Event:
    """Blank whatever looks like a credential, wherever it slipped in."""
    for key, value in event.items():
        event[key] = _scrub(value, DEPTH_MAX)
    return event


def _scrub(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, bytes | BaseException):
        return scrubbed(repr(value))
    if depth and isinstance(value, dict):
        return {_scrub(k, 0): _scrub(v, depth - 1) for k, v in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_scrub(each, depth - 1) for each in value]
    return value


def configure(level: str = "info", form: str = "auto") -> None:
    """Set up logging for this process; ``auto`` is text on a terminal, JSON elsewhere."""
    json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    # Tracebacks become text before the scrubbing.  The console renderer's own ones would come
    # after it, with the local variables of every frame.
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        scrub,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared[:-1],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, scrub, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))  # libraries chatter below it
