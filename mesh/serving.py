"""What peers want from us: a queue of chunks per peer, the most urgent first.  Pure.

Spec: docs/mesh.md §9.  A request costs a peer's own queue only; what it may queue is bounded, and
what it may be sent unacknowledged is bounded by the credit it gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mesh import bits
from mesh.messages import GONE, OVERLOADED, Busy, Cancel, Credit, Message, Nope, Redirect, Want
from mesh.wire import CHUNK_MAX
from store.errors import RemoteProtocolError

REQUESTS_MAX = 256  # queued requests of one peer
RUNS_MAX = 16_384  # runs in them
CREDIT_INITIAL = 16 * 1024 * 1024  # bytes a peer can take before it has said anything
CREDIT_MAX = 64 * 1024 * 1024  # bytes of credit we believe in
BUSY_RETRY_MS = 500
LOOK_RUNS, LOOK_CHUNKS = 64, 4096  # of one request that are looked at when peers are compared
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
        return int(chunks * self.usual)

    @property
    def usual(self) -> float:
        """The usual size of a chunk."""
        return self.sent / self._chunks if self._chunks else CHUNK_USUAL

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

    def blobs(self) -> set[bytes]:
        """Return the blobs that are asked for."""
        return {queued.want.blob for queued in self._queue.values()}

    def bytes_beyond(self, known: Mapping[bytes, int]) -> float:
        """Return about how many bytes of these blobs are asked for beyond the ``known`` chunks."""
        chunks = 0
        for queued in self._queue.values():
            had = known.get(queued.want.blob)
            if had is not None:
                for start, stop in queued.runs[:LOOK_RUNS]:
                    stop = min(stop, start + LOOK_CHUNKS)
                    chunks += (bits.span(start, stop) & ~had).bit_count()
        return chunks * self.usual

    def next(
        self,
        length: Callable[[bytes, bytes, int], int | None],
        elsewhere: Callable[[bytes, int], tuple[int, tuple[bytes, ...]]] | None = None,
    ) -> Piece | Nope | Redirect | None:
        """Return what to send next, or None: nothing is asked for, or the credit is used up.

        ``length(blob, manifest, chunk)`` is the length of a chunk we can serve now, else None.
        ``elsewhere(blob, chunks)`` tells which of these chunks to have from whom instead.
        """
        while self._queue and self.credit > 0:
            queued = min(self._queue.values(), key=lambda q: q.order)
            want = queued.want
            if elsewhere is not None and (away := self._send_away(queued, elsewhere)):
                return away
            piece = self._cut(queued, length)
            if piece is None:
                del self._queue[want.request]
                return Nope(want.request, GONE)
            if piece.last:
                del self._queue[want.request]
            return piece
        return None

    def _send_away(
        self, queued: _Queued, elsewhere: Callable[[bytes, int], tuple[int, tuple[bytes, ...]]]
    ) -> Redirect | None:
        """Take out of a request what its peer shall have from others."""
        want, asked = queued.want, 0
        for start, stop in queued.runs[:LOOK_RUNS]:
            asked |= bits.span(start, min(stop, start + LOOK_CHUNKS))
        away, nodes = elsewhere(want.blob, asked)
        if not away:
            return None
        queued.runs = [run for start, stop in queued.runs for run in _without(start, stop, away)]
        if not queued.runs:
            del self._queue[want.request]
        return Redirect(want.request, nodes, bits.flat(away))

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


def _without(start: int, stop: int, away: int) -> Iterator[tuple[int, int]]:
    """Iterate over the runs that remain of one run."""
    for first, after in bits.runs((bits.span(start, stop) & ~away) >> start):
        yield start + first, start + after


def failed(piece: Piece, *, gone: bool) -> Message:
    """Return what to say when a piece could not be read after all."""
    return Nope(piece.request, GONE if gone else OVERLOADED)
