"""What carries a link: anything that can dial an address and hand over a byte stream.

Spec: docs/mesh.md §1.  TLS is one carrier, memory another (tests); libp2p and relays fit the same
shape.  A carrier proves which public key is at the *listening* end; who dialled is proven by the
handshake above it (``mesh.link``), in the same way on every carrier.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import trio

TLS, RELAYED, P2P = "tls", "relay", "p2p"  # schemes of addresses


class Stream(Protocol):
    """A reliable byte stream, closed from either side."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything, or raise trio.BrokenResourceError."""
        ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return some bytes, ``b""`` at the end, or raise trio.BrokenResourceError."""
        ...

    async def aclose(self) -> None:
        """Close without waiting for the other side."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """What a transport knows of the way to the other end.  Sums are since it is up."""

    congestion: str  # the name of its congestion control
    acked: int  # bytes that have arrived
    again: int  # segments sent again
    sent: int  # segments
    rtt: float  # seconds, smoothed
    rtt_min: float
    unsent: int = 0  # bytes that wait in the kernel


@runtime_checkable
class Counting(Protocol):
    """A stream whose transport counts what it sends."""

    def segments(self) -> tuple[int, int] | None:
        """Return how many segments were sent again and sent, or None if that is not known."""
        ...

    def delivered(self) -> tuple[int, float, int] | None:
        """Return the bytes that have arrived, the seconds that took, and the best rate seen.

        None if that is not known.
        """
        ...

    def line(self) -> Line | None:
        """Return what is known of the way, or None."""
        ...

    def hold(self, size: int) -> None:
        """Let about so many bytes wait in the kernel, at most."""
        ...


@dataclass(frozen=True, slots=True)
class Dialled:
    """A stream to a listener that has proven to hold ``key``, a raw Ed25519 public key."""

    stream: Stream
    key: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A stream from somebody yet unknown.  ``address`` is for people and limits only."""

    stream: Stream
    address: str


Handler = Callable[[Accepted], Awaitable[None]]


class Carrier(Protocol):
    """One way to reach peers."""

    @property
    def schemes(self) -> frozenset[str]:
        """The address schemes that ``dial`` understands, such as ``tls`` in ``tls://host:port``."""
        ...

    @property
    def bound(self) -> tuple[str, ...]:
        """Where it really listens, whatever it advertises; empty until it serves."""
        ...

    def want(self) -> None:
        """Somebody cannot be met directly: a carrier that waits to be needed starts now."""
        ...

    async def dial(self, address: str) -> Dialled:
        """Connect.  Raises OSError or trio.BrokenResourceError; bound it with a cancel scope."""
        ...

    async def serve(
        self, handler: Handler, *, task_status: trio.TaskStatus[tuple[str, ...]]
    ) -> None:
        """Accept until cancelled, each stream in a task of its own.

        Reports the addresses listened on, as ``dial`` takes them.
        """
        ...


@runtime_checkable
class Rekeyed(Protocol):
    """A carrier that can show another key while it runs; others show it after a restart."""

    def rekey(self, seed: bytes) -> None:
        """Show the key of this seed from the next connection on."""
        ...


def scheme_of(address: str) -> str:
    """Return the part before ``://``; plain ``host:port`` means TLS."""
    head, found, _ = address.partition("://")
    return head if found else TLS
