"""Bounds on what one client, and all clients together, may ask of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every timeout and maximum of the HTTP server, in one place.

    Progress timeouts restart with each byte that moves: a slow client is served for as long as it
    takes, an idle one is not.  They hold for HTTP/1.1 and HTTP/2, plain and TLS alike.
    """

    connections_max: int = 4096
    """Connections open at once; past it the longest idle one makes room, else accepting waits."""
    peer_connections_max: int = 1024
    """Connections from one address, generous because a proxy is one address; the next is closed."""
    requests_max: int = 100_000
    """Requests on one connection before it is closed politely."""

    handshake_timeout: float = 15.0
    head_timeout: float = 15.0
    """From a request's first byte (or the connection's start) to the end of its head, in all."""
    idle_timeout: float = 75.0
    """How long a connection may wait for its next request."""
    read_timeout: float = 30.0
    """The longest pause between two bytes of a request body."""
    write_timeout: float = 30.0
    """The longest time in which the peer may take no byte of a response."""
    linger_timeout: float = 2.0
    """How long to read an unwanted body away: closing on it at once would reset the answer."""
    close_timeout: float = 1.0
    """How long a TLS goodbye may take."""

    head_size_max: int = 32 * KIB
    header_count_max: int = 128
    body_size_max: int | None = None
    """Bytes of any request body.  Routes have tighter bounds, through ``serve(body_max=…)``."""
    drain_size_max: int = 64 * KIB
    """An unread body up to this size is read away to keep the connection; above, it is closed."""
    linger_size_max: int = 4 * MIB
    """Bytes to read away before closing on a client that keeps sending."""

    streams_max: int = 128
    """HTTP/2: requests at once on one connection."""
    stream_window: int = MIB
    """HTTP/2: bytes of body a client may send ahead on one stream; this is what we may buffer."""
    connection_window: int = 4 * MIB
    """HTTP/2: the same, for all streams of a connection together."""
    resets_max: int = 100
    """HTTP/2: streams a client may reset in one ``resets_period`` (CVE-2023-44487)."""
    resets_period: float = 10.0

    watch_interval: float = 1.0
    """How often requests in flight are checked for clients that hung up."""
