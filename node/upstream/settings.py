"""How a remote repository asks its upstream: what every node of the mesh shares, secrets apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from store.errors import RejectedError

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}\Z")  # RFC 9110 §5.6.2
VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]{0,4096}\Z")
OURS = frozenset(  # headers that frame a request or name its target: ours to set, and nobody's else
    [
        *("host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade"),
        *("keep-alive", "proxy-authorization", "proxy-connection", "expect", "range", "if-range"),
        *("accept", "accept-encoding", "if-none-match", "if-modified-since", "authorization"),
    ]
)
HEADERS_MAX = 32
AUTH_TYPES = ("none", "basic", "bearer")
YEAR = 366 * 86400.0


class Upstream(msgspec.Struct, kw_only=True, forbid_unknown_fields=False):
    """An upstream and how to treat it.  Times are in seconds."""

    url: str
    auth_type: str = "none"
    username: str = ""
    proxy: str = ""  # without user and password, which are sealed
    user_agent: str = ""
    index_ttl: float = 120.0  # how long an index document is believed before it is asked for again
    mutable_ttl: float = 86400.0  # the same for files that are neither index nor immutable
    negative_ttl: float = 45.0  # how long a 404 is believed
    stale_while_revalidate: float = 30.0  # past its time a document is still sent at once
    stale_max: float = 0.0  # how long past its time one may be sent while upstream is away; 0: ever
    patience: float = 5.0  # how long a client waits for upstream who could be given a stale answer
    timeout: float = 30.0  # without a byte from upstream
    connections_max: int = 16
    rate: float = 0.0  # requests a second; 0: no limit
    offline: bool = False  # ask nothing; serve what is cached
    immutable: tuple[str, ...] = ()  # path patterns that override the format's classes
    mutable: tuple[str, ...] = ()


class Secrets(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is sealed.  Custom headers are secret as a whole: keys are often sent in one."""

    password: str = ""  # or the bearer token
    proxy_username: str = ""
    proxy_password: str = ""
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        """Nothing that a log could keep."""
        return "Secrets(…)"


def judge(upstream: Upstream) -> None:
    """Refuse settings that cannot work or could be abused.  Raises RejectedError."""
    judge_url(upstream.url, "upstream_url")
    if upstream.proxy:
        judge_url(upstream.proxy, "egress_proxy")
    if upstream.auth_type not in AUTH_TYPES:
        raise RejectedError(f"upstream_auth_type is not one of {', '.join(AUTH_TYPES)}")
    if not VALUE.match(upstream.user_agent):
        raise RejectedError("user_agent holds what no header may hold")
    for name in ("index_ttl", "mutable_ttl", "negative_ttl", "stale_while_revalidate", "stale_max"):
        if not 0 <= getattr(upstream, name) <= YEAR:
            raise RejectedError(f"{name} is not between 0 and a year, in seconds")
    for name in ("patience", "timeout"):
        if not 0.1 <= getattr(upstream, name) <= 3600:
            raise RejectedError(f"{name} is not between 0.1 and 3600 seconds")
    if not 1 <= upstream.connections_max <= 256 or not 0 <= upstream.rate <= 1e6:
        raise RejectedError("connections_max is not between 1 and 256, or rate is negative")


def judge_url(url: str, what: str) -> None:
    """Refuse what is not an absolute http URL without user, query and fragment."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RejectedError(f"{what}: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise RejectedError(f"{what} is not an absolute http or https URL")
    if parts.username is not None or parts.password is not None:
        raise RejectedError(f"{what} holds a user name; give it apart, so that it can be sealed")
    if parts.query or parts.fragment or re.search(r"[\x00-\x20\x7f\\]", url):
        raise RejectedError(f"{what} holds a query, a fragment, a space or a backslash")


def judge_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that could frame or redirect a request.  Raises RejectedError."""
    if len(headers) > HEADERS_MAX:
        raise RejectedError(f"more than {HEADERS_MAX} custom headers")
    for name, value in headers.items():
        if not TOKEN.match(name) or not VALUE.match(value) or value != value.strip():
            raise RejectedError(f"custom header {name[:40]!r} is malformed")
        if name.lower() in OURS:
            raise RejectedError(f"custom header {name!r} is not yours to set")


def read(value: Any) -> Upstream | None:
    """An entry's upstream as it is stored, or None if it has none."""
    return value if isinstance(value, Upstream) else None
