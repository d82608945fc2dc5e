"""The chunks we have asked for and await, over all peers.  Pure.  Spec: docs/mesh.md §8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mesh import bits
from mesh.beliefs import PeerBelief
from mesh.download import Download, Request
from mesh.effects import Effect, TellBulk
from mesh.journal import AGAIN, LOST, Journal
from mesh.messages import URGENT, Cancel, Data, Want
from mesh.scheduler import Ask
from mesh.wire import CHUNK_MAX

GROUP_TIME = 0.05  # seconds of a path's rate that one Data may carry
GROUP_MIN = 64 * 1024
CANCELLED_MAX = 1024  # requests called off whose chunks may still be on their way


@dataclass(slots=True)
class Requests:
    """Every Want on its way."""

    peers: dict[bytes, PeerBelief]
    downloads: dict[bytes, Download]
    pending: dict[int, Request] = field(default_factory=dict[int, Request])
    cancelled: dict[int, tuple[bytes, bytes, bytes, int]] = field(
        default_factory=dict[int, tuple[bytes, bytes, bytes, int]]
    )  # request → peer, blob, manifest, chunks
    count: int = 0
    journal: Journal = field(default_factory=Journal)

    def issue(self, download: Download, ask: Ask, now: float) -> Iterator[Effect]:
        """Ask a peer for chunks, and no longer who stalls while it owes them."""
        belief = self.peers[ask.peer]
        self.count += 1
        chunks = bits.of(ask.chunks)
        for other in list(download.requests.values()):
            if other.chunks & chunks and self.peers[other.peer].snubbed:
                self.call_off(other)
                yield TellBulk(other.peer, Cancel(other.id))
        asked = belief.asked(ask.size, now)
        manifest = download.manifest_id
        request = Request(self.count, download.blob, manifest, ask.peer, chunks, ask.size, asked)
        self.pending[request.id] = download.requests[request.id] = request
        download.tried = True
        if ask.again:
            self.journal.note(download.blob, AGAIN, ask.peer, belief.describe(), now)
        self.journal.asked(download.blob, ask.peer, belief.describe(), now)
        group = int(min(max(belief.rate.average * GROUP_TIME, GROUP_MIN), CHUNK_MAX))
        priority = URGENT if ask.urgent else download.priority
        runs = bits.flat(chunks)
        want = Want(request.id, download.blob, download.manifest_id, runs, group, 0, priority)
        yield TellBulk(ask.peer, want)

    def get(self, number: int, peer: bytes) -> Request | None:
        """Return a request of ours to this peer."""
        request = self.pending.get(number)
        return request if request is not None and request.peer == peer else None

    def forget(self, request: Request) -> None:
        """It is answered, or will not be."""
        self.pending.pop(request.id, None)
        download = self.downloads.get(request.blob)
        if download is not None:
            download.requests.pop(request.id, None)
        self.peers[request.peer].let_go(request.size)
        request.size = 0

    def reduce(self, request: Request, chunks: int, size: int) -> None:
        """Some of it will not be answered."""
        request.chunks &= ~chunks
        if not request.chunks:
            self.forget(request)
            return
        request.size -= size
        self.peers[request.peer].let_go(size)

    def call_off(self, request: Request) -> None:
        """What is on its way of it may still come, and is no fault."""
        self.cancelled[request.id] = (
            request.peer,
            request.blob,
            request.manifest,
            request.chunks,
        )
        while len(self.cancelled) > CANCELLED_MAX:
            del self.cancelled[next(iter(self.cancelled))]
        self.forget(request)

    def drop_peer(self, peer: bytes, why: str, now: float) -> None:
        """Nothing more will come from this peer's sockets."""
        for request in [r for r in self.pending.values() if r.peer == peer]:
            self.journal.note(request.blob, LOST, peer, why, now)
            self.forget(request)

    def owed_by(self, peer: bytes) -> set[bytes]:
        """Return the blobs of which a peer owes chunks."""
        return {request.blob for request in self.pending.values() if request.peer == peer}

    def drop_blob(self, download: Download) -> Iterator[Effect]:
        """Nothing more is wanted of this blob."""
        for request in list(download.requests.values()):
            self.call_off(request)
            yield TellBulk(request.peer, Cancel(request.id))

    def late(self, peer: bytes, data: Data, mask: int) -> tuple[bytes, bytes] | None:
        """Return blob and manifest of chunks that were called off, and count them off."""
        owed, blob, manifest, expected = self.cancelled.get(data.request, (b"", b"", b"", 0))
        if mask & ~expected or owed != peer:
            return None
        self.cancelled[data.request] = (peer, blob, manifest, expected & ~mask)
        return blob, manifest

    def overtake(self, download: Download, winner: Request | None, mask: int) -> Iterator[Effect]:
        """Call off what other peers still owe of chunks that have come."""
        for other in [r for r in download.requests.values() if r.chunks & mask and r is not winner]:
            gone = other.chunks & mask
            if other.chunks == gone:
                self.call_off(other)
                yield TellBulk(other.peer, Cancel(other.id))

    def stalled(self, download: Download) -> int:
        """Return the chunks that were asked of peers who stall."""
        found = 0
        for request in download.requests.values():
            if self.peers[request.peer].snubbed:
                found |= request.chunks
        return found

    def claimed(self, download: Download) -> tuple[int, int]:
        """Return the chunks on their way from peers that do not stall, and those from two."""
        once = twice = 0
        for request in download.requests.values():
            if not self.peers[request.peer].snubbed:
                twice |= once & request.chunks
                once |= request.chunks
        return once, twice
