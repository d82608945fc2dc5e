"""Which chunks have left this node lately, and to whom: what many want is sent to each once.  Pure.

Spec: docs/mesh.md §9.  While an uplink is the narrowest place of a swarm, every byte that leaves it
twice makes the last receiver later.  So as long as others wait for chunks that nobody has had from
here, a peer that asks for one that somebody has had is told who: once, and then it is served.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mesh import bits
from mesh.messages import Nope, Redirect
from mesh.serving import Piece, Serving

CONTENTION = 0.1  # seconds of first copies that wait for others, from which on second ones yield
BLOBS_MAX = 256  # blobs whose spreading is remembered
KEEP = 60.0  # seconds after which it is taken for certain no longer
NODES_MAX = 3  # named in one Redirect


@dataclass(slots=True)
class _Spreading:
    """One blob: the chunks each peer was sent, and those for which it was sent elsewhere."""

    at: float
    sent: dict[bytes, int] = field(default_factory=dict[bytes, int])
    redirected: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def union(self) -> int:
        """Return the chunks that somebody has had."""
        found = 0
        for mask in self.sent.values():
            found |= mask
        return found


@dataclass(slots=True)
class Spread:
    """What one node has spread."""

    blobs: OrderedDict[bytes, _Spreading] = field(default_factory=OrderedDict[bytes, _Spreading])
    redirects: int = 0  # chunks, ever

    def sent(self, peer: bytes, piece: Piece, now: float) -> None:
        """A piece has left for a peer."""
        blob = self._blob(piece.blob, now)
        blob.at = now
        self.blobs.move_to_end(piece.blob)
        chunks = bits.span(piece.first, piece.first + piece.count)
        blob.sent[peer] = blob.sent.get(peer, 0) | chunks

    def forget(self, peer: bytes) -> None:
        """The peer is gone: what only it has had from here, nobody has."""
        for blob in self.blobs.values():
            blob.sent.pop(peer, None)
            blob.redirected.pop(peer, None)

    def next(
        self,
        peer: bytes,
        serving: Serving,
        others: Iterable[Serving],
        rate: float,
        length: Callable[[bytes, bytes, int], int | None],
        now: float,
    ) -> Piece | Nope | Redirect | None:
        """Return what to send the peer next.  ``rate`` is the uplink's, 0 while unknown."""
        if not self._contended(serving, others, rate, now):
            return serving.next(length)
        return serving.next(length, lambda blob, span: self._elsewhere(peer, blob, span, now))

    def _contended(
        self, serving: Serving, others: Iterable[Serving], rate: float, now: float
    ) -> bool:
        """Tell whether others wait for first copies, for longer than a detour takes."""
        limit, waiting = rate * CONTENTION, 0.0
        if not limit:
            return False
        known = {blob: self._blob(blob, now).union() for blob in serving.blobs()}
        for other in others:
            if other is not serving:
                waiting += other.bytes_beyond(known)
                if waiting >= limit:
                    return True
        return False

    def _elsewhere(
        self, peer: bytes, blob: bytes, span: int, now: float
    ) -> tuple[int, tuple[bytes, ...]]:
        """Return which of these chunks the peer shall have from others, and from whom."""
        known = self._blob(blob, now)
        told = known.redirected.get(peer, 0) | known.sent.get(peer, 0)
        away = known.union() & span & ~told
        if not away:
            return 0, ()
        known.redirected[peer] = known.redirected.get(peer, 0) | away
        self.redirects += away.bit_count()
        nodes = [other for other, had in known.sent.items() if had & away and other != peer]
        return away, tuple(nodes[-NODES_MAX:])

    def _blob(self, raw: bytes, now: float) -> _Spreading:
        known = self.blobs.get(raw)
        if known is None or known.at < now - KEEP:
            known = self.blobs[raw] = _Spreading(now)
            self.blobs.move_to_end(raw)
            while len(self.blobs) > BLOBS_MAX:
                self.blobs.popitem(last=False)
        return known
