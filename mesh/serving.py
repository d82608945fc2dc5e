"""What peers want from us: a queue of chunks per peer, the most urgent first.  Pure.

Spec: docs/mesh.md §9.  A request costs a peer's own queue only; what it may queue is bounded, and
what it may be sent unacknowledged is bounded by the credit it gave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.messages import GONE, OVERLOADED, Busy, Cancel, Credit, Message, Nope, Want
from mesh.wire import CHUNK_MAX
from store.errors import RemoteProtocolError

REQUESTS_MAX = 256  # queued requests of one peer
RUNS_MAX = 16_384  # runs in them
CREDIT_INITIAL = 16 * 1024 * 1024  # bytes a peer can take before it has said anything
CREDIT_MAX = 64 * 1024 * 1024  # bytes of credit we believe in
BUSY_RETRY_MS = 500
CHUNK_USUAL = 64 * 1024  # bytes, until some have been sent


@dataclass(frozen=True, slots=True)
class Piece:
    """Send the bytes of ``count`` adjacent chunks from ``first`` on as one Data."""

    request: int
    blob: bytes
    manifest: bytes
    first: int
    count: int
    last: bool  # of its request: send Done afterwards
    priority: int = 0


@dataclass(slots=True)
class _Queued:
    want: Want
    order: tuple[int, int]
    runs: list[tuple[int, int]]


class Serving:
    """The requests of one peer, on one bulk socket."""

    def __init__(self) -> None:
        self.credit = CREDIT_INITIAL
        self.sent = 0  # bytes, ever
        self._chunks = 0  # sent, ever
        self._queue: dict[int, _Queued] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def backlog(self) -> int:
        """About how many bytes are queued, going by the size of the chunks so far."""
        chunks = sum(stop - start for each in self._queue.values() for start, stop in each.runs)
        usual = self.sent / self._chunks if self._chunks else CHUNK_USUAL
        return int(chunks * usual)

    def received(self, message: Message) -> list[Message]:
        """Take a message; return the answers to send.  Raises RemoteProtocolError."""
        match message:
            case Want():
                return self._want(message)
            case Cancel():
                self._queue.pop(message.request, None)
            case Credit():
                self.credit = min(self.credit + message.size, CREDIT_MAX)
            case _:
                pass
        return []

    def _want(self, want: Want) -> list[Message]:
        edges = want.runs
        if len(edges) % 2 or not edges or want.request in self._queue:
            raise RemoteProtocolError("a request that asks for nothing, or twice")
        pairs = list(zip(edges[::2], edges[1::2], strict=True))
        if any(not start < stop for start, stop in pairs):
            raise RemoteProtocolError("a request with an empty run")
        queued = sum(len(each.runs) for each in self._queue.values())
        if len(self._queue) >= REQUESTS_MAX or queued + len(pairs) > RUNS_MAX:
            return [Busy(want.request, BUSY_RETRY_MS)]
        self._arrivals += 1
        order = (want.priority, self._arrivals)
        self._queue[want.request] = _Queued(want, order, pairs)
        return []

    def next(self, length: Callable[[bytes, bytes, int], int | None]) -> Piece | Nope | None:
        """Return what to send next, or None: nothing is asked for, or the credit is used up.

        ``length(blob, manifest, chunk)`` is the length of a chunk we can serve now, else None.
        """
        while self._queue and self.credit > 0:
            queued = min(self._queue.values(), key=lambda q: q.order)
            want = queued.want
            piece = self._cut(queued, length)
            if piece is None:
                del self._queue[want.request]
                return Nope(want.request, GONE)
            if piece.last:
                del self._queue[want.request]
            return piece
        return None

    def _cut(
        self, queued: _Queued, length: Callable[[bytes, bytes, int], int | None]
    ) -> Piece | None:
        want = queued.want
        start, stop = queued.runs[0]
        group = min(max(want.group, 1), CHUNK_MAX)
        size = count = 0
        for index in range(start, stop):
            chunk = length(want.blob, want.manifest, index)
            if chunk is None:
                if not count:
                    return None
                break
            if count and (size + chunk > group or count >= 4096):
                break
            size += chunk
            count += 1
        self.credit -= size
        self.sent += size
        self._chunks += count
        if start + count == stop:
            queued.runs.pop(0)
        else:
            queued.runs[0] = (start + count, stop)
        last = not queued.runs
        return Piece(want.request, want.blob, want.manifest, start, count, last, want.priority)


def failed(piece: Piece, *, gone: bool) -> Message:
    """Return what to say when a piece could not be read after all."""
    return Nope(piece.request, GONE if gone else OVERLOADED)
