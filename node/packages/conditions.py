"""Conditional and range requests (RFC 9110 §13, §14).  Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

from store.errors import RangeInvalidError

RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})\Z")  # Python refuses the longest numbers


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``[start, stop)`` of ``size``."""

    start: int
    stop: int
    size: int

    @property
    def content_range(self) -> str:
        """The Content-Range value."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


@lru_cache(maxsize=4096)
def http_date(seconds: float) -> str:
    """An IMF-fixdate."""
    return formatdate(seconds, usegmt=True)


def _parse_date(text: str) -> float | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _listed(header: str, etag: str, *, weak: bool) -> bool:
    for each in header.split(","):
        candidate = each.strip()
        if candidate == "*":
            return True
        if weak:
            candidate = candidate.removeprefix("W/")
        if candidate == etag:
            return True
    return False


def shown_change(changed: float, now: float) -> float:
    """The Last-Modified of a document that changes, seconds since 1970.

    A second that is not over may see another change, so until then it is not named: a client that
    can only ask by date, as apt, would be told that its copy is current.
    """
    return math.floor(changed) - (1 if math.floor(now) <= math.floor(changed) else 0)


def not_modified(
    headers: Mapping[str, str], etag: str, modified: float | None, *, exact: bool = False
) -> bool:
    """Tell whether the client's copy is current; If-None-Match wins over If-Modified-Since.

    ``exact`` takes the date for a mark: another node, whose change is older, has another document.
    """
    if "if-none-match" in headers:
        return bool(etag) and _listed(headers["if-none-match"], etag, weak=True)
    since = _parse_date(headers.get("if-modified-since", ""))
    if since is None or modified is None:
        return False
    return int(modified) == since if exact else int(modified) <= since


def requested_span(
    headers: Mapping[str, str], size: int, etag: str, modified: float | None
) -> Span | None:
    """The range to send, or None for the whole.

    Several ranges, other units and a failed If-Range give the whole, as §14.2 allows.  Raises
    RangeInvalidError when no byte of the range exists.
    """
    wanted = headers.get("range")
    found = RANGE.match(wanted.strip()) if wanted else None
    if found is None or found.groups() == ("", ""):
        return None
    condition = headers.get("if-range", "")
    if condition and condition != etag:
        date = _parse_date(condition)
        if date is None or modified is None or int(modified) != date:
            return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < int(first):
            return None
    if start >= size or start >= stop:
        raise RangeInvalidError(f"bytes */{size}")
    return Span(start, stop, size)
