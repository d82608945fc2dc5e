"""Which URL the client used: configured, from trusted proxies, or from the Host header."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence

HOST = re.compile(r"[A-Za-z0-9.\-_\[\]:]{1,255}\Z")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*\Z")


class ExternalUrl:
    """Decides the root URL of a request (formats.md rule 12)."""

    def __init__(self, configured: str, trusted: Sequence[str]) -> None:
        self._configured = configured.rstrip("/")
        self._trusted = [ipaddress.ip_network(each, strict=False) for each in trusted]

    def trusts(self, address: str) -> bool:
        """Tell whether this peer's X-Forwarded-* headers are believed."""
        if not self._trusted:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped  # how a listener for both families sees IPv4
        return any(found in network for network in self._trusted)

    def root(self, headers: Mapping[str, str], *, scheme: str, address: str, server: str) -> str:
        """The absolute URL of this node as the client sees it, without a trailing slash."""
        if self._configured:
            return self._configured
        host, prefix = headers.get("host", ""), ""
        if self.trusts(address):
            scheme = _first(headers.get("x-forwarded-proto", "")) or scheme
            host = _first(headers.get("x-forwarded-host", "")) or host
            prefix = _first(headers.get("x-forwarded-prefix", "")).rstrip("/")
        if scheme not in {"http", "https"}:
            scheme = "http"
        if not HOST.match(host):
            host = server
        return f"{scheme}://{host}{prefix if PREFIX.match(prefix) else ''}"

    def client(self, headers: Mapping[str, str], address: str) -> str:
        """The client's address: the nearest untrusted one in X-Forwarded-For."""
        if not self.trusts(address):
            return address
        hops = [each.strip() for each in headers.get("x-forwarded-for", "").split(",")]
        for hop in reversed([each for each in hops if each]):
            if not self.trusts(hop):
                return hop[:64]
        return address


def _first(header: str) -> str:
    return header.split(",", maxsplit=1)[0].strip()
