"""The sockets of the HTTP client: httpcore's, behind the guard.  Imported when first needed."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import trio

from node.upstream.guard import Guard
from store.errors import UpstreamDeniedError

KEEPALIVE = 30.0  # seconds that an idle connection is kept
KEPT_MAX = 8
FAILED = (  # what a peer or the network may do; a proxy's refusal is of none of the other kinds
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to judged addresses only, and to the very address that was judged."""

    def __init__(self, guard: Guard, *, trusted: frozenset[tuple[str, int]] = frozenset()) -> None:
        """``trusted`` are places the operator named himself: egress proxies."""
        self._guard, self._trusted = guard, trusted
        self._inner = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the library's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers.  Raises UpstreamDeniedError."""
        if (host, port) in self._trusted:
            found = [host]
        else:
            with trio.move_on_after(timeout or 30.0) as scope:
                found = list(await self._guard.addresses(host, port))
            if scope.cancelled_caught:
                raise httpcore.ConnectTimeout(f"{host} was not resolved in time")
        failed: Exception | None = None
        for address in found:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  the library's signature
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: sockets of this machine are not upstreams."""
        raise UpstreamDeniedError("an upstream is no socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await trio.sleep(seconds)


def make_pool(
    guard: Guard,
    *,
    connections_max: int,
    proxy: str = "",
    proxy_auth: tuple[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> httpcore.AsyncConnectionPool:
    """A connection pool; with ``proxy``, all goes through that."""
    trusted: frozenset[tuple[str, int]] = frozenset()
    made: httpcore.Proxy | None = None
    if proxy:
        url = httpcore.URL(proxy)
        port = url.port or (443 if url.scheme == b"https" else 80)
        trusted = frozenset({(url.host.decode(), port)})
        made = httpcore.Proxy(url, auth=proxy_auth)
    return httpcore.AsyncConnectionPool(
        ssl_context=context,
        proxy=made,
        max_connections=connections_max,
        max_keepalive_connections=min(KEPT_MAX, connections_max),
        keepalive_expiry=KEEPALIVE,
        network_backend=GuardedBackend(guard, trusted=trusted),
    )
