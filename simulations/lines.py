"""What members of a crowd speak over: queues before thin places, and sockets that keep order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.messages import Data, Message
from mesh.serving import Serving
from mesh.wire import HEAD, encode

if TYPE_CHECKING:
    from simulations.crowd import Member

DATA_HEADER = HEAD.size + 12  # bytes around the chunks of one Data


@dataclass(slots=True)
class Hop:
    """A queue before something thin.  ``rate`` in bytes per second; 0 passes at once."""

    rate: float
    free: float = 0.0
    carried: int = 0


@dataclass(slots=True)
class Gauge:
    """What one end has been told of the other's upload queue."""

    backlog: float = 0.0
    peer_backlog: float = 0.0


class Line:
    """One end of a socket."""

    def __init__(self, owner: Member, peer: Member, limit: int) -> None:
        self.owner, self.peer, self.limit = owner, peer, limit
        self.serving, self.link = Serving(), Gauge()
        self.feeding = self.ended = False
        self.unacked = 0
        self.ready = 0.0  # when the last byte so far is at the other end
        self.other: Line = self

    @property
    def node(self) -> bytes:
        """Who is at the other end."""
        return self.peer.id

    def send(self, message: Message) -> None:
        """Send chunks, or something about them."""
        if self.ended:
            return
        size = message_size(message)
        self.unacked += size
        self.owner.crowd.carry(self, size, lambda: self._arrive(message, size))
        self.flush()

    def _arrive(self, message: Message, size: int) -> None:
        crowd, other = self.owner.crowd, self.other
        crowd.world.after(crowd.delay(self.peer, self.owner), lambda: self._acked(size))
        if not other.ended and self.peer.sockets.bulk.get(self.owner.id) is other:
            self.peer.transfers.heard_bulk(other, message)

    def _acked(self, size: int) -> None:
        self.unacked -= size
        self.flush()

    def flush(self) -> None:
        """Let the next piece come if there is room."""
        if not self.ended and not self.feeding and self.unacked < self.limit:
            self.owner.transfers.feed(self)


class Lines:
    """The sockets of one member; control links never break here."""

    def __init__(self, owner: Member) -> None:
        self.owner, self.name = owner, owner.id
        self.control: dict[bytes, Line] = {}
        self.bulk: dict[bytes, Line] = {}
        self._opening: set[bytes] = set()

    def open_bulk(self, peer: bytes) -> None:
        """Get a bulk socket, two round trips from now."""
        if peer in self.bulk:
            self.owner.transfers.bulk_opened(peer)
        elif peer not in self._opening:
            self._opening.add(peer)
            other = self.control[peer].peer
            crowd = self.owner.crowd
            crowd.world.after(4 * crowd.delay(self.owner, other), lambda: self._opened(other))

    def _opened(self, other: Member) -> None:
        self._opening.discard(other.id)
        if other.id in self.bulk:
            self.owner.transfers.bulk_opened(other.id)
            return
        limit = self.owner.crowd.buffer(self.owner, other)
        here, there = Line(self.owner, other, limit), Line(other, self.owner, limit)
        here.other, there.other = there, here
        self.bulk[other.id], other.sockets.bulk[self.owner.id] = here, there
        self.owner.transfers.bulk_opened(other.id)
        other.transfers.bulk_opened(self.owner.id)

    def close_bulk(self, peer: bytes, reason: str) -> None:
        """Close it at both ends."""
        if (line := self.bulk.pop(peer, None)) is None:
            return
        other = line.peer
        other.sockets.bulk.pop(self.owner.id, None)
        line.ended = line.other.ended = True
        now = self.owner.crowd.world.now
        for member, gone in ((self.owner, peer), (other, self.owner.id)):
            member.transfers.perform(member.transfers.exchange.bulk_closed(gone, now))

    def hurry(self) -> None:
        """Nobody needs to be dialled."""


def message_size(message: Message) -> int:
    """Return how many bytes a message takes on the wire, without encoding chunks."""
    return len(message.raw) + DATA_HEADER if isinstance(message, Data) else len(encode(message))
