"""URLs of upstreams: joined, compared, and shown without what is secret in them.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

from store.errors import UpstreamError

PORTS = {"http": 80, "https": 443}
URL_MAX = 8192  # characters


@dataclass(frozen=True, slots=True)
class Target:
    """An absolute URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str  # with its query

    @property
    def origin(self) -> tuple[str, str, int]:
        """What decides whether credentials may go along."""
        return (self.scheme, self.host, self.port)

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL again."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse(url: str) -> Target:
    """Take a URL apart.  Raises UpstreamError for one that nobody should ask."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UpstreamError(f"upstream leads to a malformed URL: {shown(url)}") from None
    host = (parts.hostname or "").rstrip(".")
    try:
        host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        host = ""
    bad = any(ord(each) <= 32 or ord(each) >= 127 for each in parts.path + parts.query + host)
    if parts.scheme not in PORTS or not host or bad or len(url) > URL_MAX or port == 0:
        raise UpstreamError(f"upstream leads to no http URL: {shown(url)}")
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    if not path.startswith("/") or path.startswith("//"):
        path = "/" + path.lstrip("/")
    return Target(parts.scheme, host, port or PORTS[parts.scheme], path)


def join(base: str, reference: str) -> str:
    """Resolve a reference; a base names a folder, with or without its slash."""
    if not reference:
        return base
    return urljoin(base if base.endswith("/") else f"{base}/", reference)


def shown(url: str) -> str:
    """A URL as logs and the ledger may have it: no user, no query (signatures live there)."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        host = f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        return "(malformed)"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))[:500]
