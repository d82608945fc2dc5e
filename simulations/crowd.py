"""Many nodes that fetch one blob, in virtual time: the product's cores, on links without faults.

Here is what decides how fast a swarm is, and nothing else: ``mesh.exchange`` with its scheduler,
``mesh.serving`` and ``mesh.uplink``, between uplinks, downlinks and the thin links of sites.  No
handshake, no ledger, no bytes: messages are objects that pay for the bytes they would have.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from mesh import bits
from mesh.beliefs import PeerBelief
from mesh.effects import Effect, ServeManifest
from mesh.messages import URGENT, Data, Message, Want
from mesh.serving import Piece
from mesh.wire import encode
from simulations.lines import Hop, Line, Lines, message_size
from simulations.transfers import Socket, Transfers
from simulations.world import World
from store.chunks import Chunk, Manifest
from store.digest import Digest

KIB = 1024
BUFFER_MIN = 192 * KIB  # bytes on their way on one socket, or two of its paths
SEGMENT = 16 * KIB  # bytes that a hop has before the next one begins
TEND = 1.0  # seconds between two looks after the links, and two pings
STEPS_MAX = 1 << 40  # time ends a crowd, not the number of its events
PING_SIZE = 2 * 20  # bytes of a Ping and its Pong


@dataclass(frozen=True, slots=True)
class Seat:
    """One node: its site, what joins it to that (bytes per second), what it has, if it wants."""

    site: int
    up: float
    down: float
    have: float = 0.0  # share of the blob that it begins with
    wants: bool = True
    vice: str = ""  # "mute": takes requests and never answers; "corrupt": 1 % of wrong chunks


@dataclass(frozen=True, slots=True)
class Scene:
    """Who there is, how they are joined, and what is fetched."""

    name: str
    seats: tuple[Seat, ...]
    sites: tuple[tuple[float, float], ...]  # bytes per second up and down of a site; 0: no limit
    links: tuple[tuple[int, int], ...]
    lan: float  # seconds of round trip within a site
    wan: float  # and between two
    size: int
    chunk: int  # bytes of an average chunk
    bound: float  # seconds that it takes at the very least
    reading: bool = False
    seed: int = 0
    queue: float = 0.0  # seconds that a full queue keeps what is said beside chunks waiting
    uneven: float = 0.0  # how unlike the shares are that TCP gives the sockets of one uplink
    priority: int = URGENT


@dataclass(slots=True)
class Shelf:
    """The disk of one member: which chunks are here, without their bytes."""

    whole: dict[bytes, tuple[Manifest, bytes]] = field(
        default_factory=dict[bytes, tuple[Manifest, bytes]]
    )
    parts: dict[bytes, Stock] = field(default_factory=dict)
    begun: int = 0  # chunks that lie here before anything is fetched

    def open(self, manifest: Manifest) -> Stock:
        """Begin or resume a blob."""
        return self.parts.setdefault(manifest.blob.raw, Stock(manifest, self.begun))

    def write(self, blob: bytes, first: int, count: int, data: bytes) -> list[int]:
        """Take chunks; those of a corruptor begin with a 1, and the first of them is wrong."""
        wrong = [first] if data[:1] == b"\1" else []
        self.parts[blob].have |= bits.span(first, first + count) & ~bits.of(wrong)
        return wrong

    def complete(self, blob: bytes) -> bool:
        """Publish it."""
        self.whole[blob] = (self.parts.pop(blob).manifest, b"")
        return True

    def read(self, blob: bytes, first: int, count: int) -> bytes | None:
        """Return as many bytes as these chunks have."""
        manifest = self.whole[blob][0] if blob in self.whole else self.parts[blob].manifest
        return _zeros(manifest.offset(first + count) - manifest.offset(first))


@dataclass(slots=True)
class Stock:
    """A blob on its way."""

    manifest: Manifest
    have: int
    durable: int = 0


@lru_cache(64)
def _zeros(size: int) -> bytes:
    return bytes(size)


class Member:
    """One node: its cores, and what they need to be performed."""

    def __init__(self, crowd: Crowd, number: int, seat: Seat) -> None:
        self.crowd, self.number, self.seat = crowd, number, seat
        self.id = number.to_bytes(32, "big")
        self.up, self.down = Hop(seat.up), Hop(seat.down)
        self.disk, self.sockets = Shelf(), Lines(self)
        self.control_sent = 0  # bytes of anything but chunks
        self.done_at = -1.0
        self.transfers = Transfers(crowd.world, self.disk, self.sockets, self, 0.0, str(seat.site))

    def link(self, peer: Member) -> None:
        """Be linked from the beginning."""
        self.sockets.control[peer.id] = Line(self, peer, 0)
        belief = self.transfers.exchange.peers.setdefault(peer.id, PeerBelief(peer.id))
        belief.rtt.add(2 * self.crowd.delay(self, peer), 0.0)
        self.transfers.perform(self.transfers.exchange.linked(peer.id, 0.0, str(peer.seat.site)))

    def tend(self) -> None:
        """Tell how long our queue is, by what pings carry."""
        self.transfers.tend()
        self.control_sent += PING_SIZE * len(self.sockets.control)
        for peer, line in self.sockets.control.items():
            line.peer.sockets.control[self.id].link.peer_backlog = line.link.backlog
            self._ping(line)
            self.transfers.stuck(peer, self.crowd.world.now)
        self.later(TEND, self.tend)

    def _ping(self, line: Line) -> None:
        """Measure the round trip, queues included."""
        crowd, there = self.crowd, line.peer
        waits = crowd.waiting(self, there) + crowd.waiting(there, self)
        belief = self.transfers.exchange.peers[there.id]
        belief.rtt.add(2 * crowd.delay(self, there) + waits, crowd.world.now)

    # --- what Transfers asks for ---------------------------------------------------------------
    def later(self, delay: float, action: Callable[[], None]) -> object:
        """Do something after a while."""
        return self.crowd.world.after(delay, action)

    def send(self, peer: bytes, message: Message) -> None:
        """Send on the control link: past the queues of chunks, or behind what a router holds."""
        size = len(encode(message))
        self.control_sent += size
        line = self.sockets.control[peer]
        there = line.peer
        self.crowd.hurry(line, size, lambda: there.transfers.perform(there.hear(self.id, message)))

    def hear(self, peer: bytes, message: Message) -> list[Effect]:
        """Take a control message."""
        return self.transfers.exchange.received(peer, message, self.crowd.world.now)

    def send_bulk(self, connection: Socket, message: Message) -> None:
        """Send on a bulk socket."""
        corrupt = isinstance(message, Data) and self.seat.vice == "corrupt"
        if isinstance(message, Data) and corrupt and self.crowd.world.rng.random() < 0.01:
            wrong = b"\1" + message.raw[1:]
            message = Data(message.request, message.first, message.count, wrong)
        self.control_sent += message_size(message)
        if isinstance(message, Data):
            self.control_sent -= len(message.raw)
        connection.send(message)

    def completed(self, blob: bytes) -> None:
        """It is all here."""
        self.done_at = self.crowd.world.now
        self.crowd.finished += self.seat.wants

    def serves(self, want: Want) -> bool:
        """Tell whether requests are answered."""
        return self.seat.vice != "mute"

    def manifest_page(self, asked: ServeManifest, page: bytes) -> bytes:
        """Return the page that is sent."""
        return page

    def note(self, text: str) -> None:
        """Nobody reads what a crowd does."""

    def served(self, piece: Piece, data: bytes) -> None:
        """Nothing is wrong with it: there are no bytes."""

    def finishing(self, blob: bytes) -> None:
        """Wait for it."""

    def refuted(self, blob: bytes) -> None:
        """Never: there are no bytes."""

    def given_up(self, blob: bytes) -> None:
        """Never: no disk is full here."""


class Crowd:
    """All members of a scene, and what is between them."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.world = World(random.Random(scene.seed), steps_max=STEPS_MAX)
        self.finished = 0
        self.ups = [Hop(up) for up, _ in scene.sites]
        self.downs = [Hop(down) for _, down in scene.sites]
        self.manifest = make_manifest(scene.size, scene.chunk, self.world.rng)
        self.members = [Member(self, number, seat) for number, seat in enumerate(scene.seats)]
        for one, two in scene.links:
            self.members[one].link(self.members[two])
            self.members[two].link(self.members[one])

    # --- the net -------------------------------------------------------------------------------
    def delay(self, one: Member, two: Member) -> float:
        """Return the seconds from one to the other."""
        return (self.scene.lan if one.seat.site == two.seat.site else self.scene.wan) / 2

    def way(self, one: Member, two: Member) -> list[Hop]:
        """Return what a message passes."""
        if one.seat.site == two.seat.site:
            return [one.up, two.down]
        return [one.up, self.ups[one.seat.site], self.downs[two.seat.site], two.down]

    def buffer(self, one: Member, two: Member) -> int:
        """Return how much one socket has on its way: twice what fills the path, as TCP grows."""
        rate = min([hop.rate for hop in self.way(one, two) if hop.rate] or [0.0])
        usual = max(BUFFER_MIN, int(4 * self.delay(one, two) * rate))
        if not self.scene.uneven:
            return usual
        return int(usual * self.world.rng.lognormvariate(0.0, self.scene.uneven))

    def waiting(self, one: Member, two: Member) -> float:
        """Return for how long a small message waits in the queues between two members."""
        now, most = self.world.now, self.scene.queue
        return sum(min(most, max(0.0, hop.free - now)) for hop in self.way(one, two))

    def carry(self, line: Line, size: int, arrive: Callable[[], None]) -> None:
        """Pass a message through every queue on its way; on one line all stays in order."""
        hops, delay = self.way(line.owner, line.peer), self.delay(line.owner, line.peer)

        def enter(number: int, upstream: float) -> None:
            """Queue before a hop; its last byte cannot leave before it has come (upstream)."""
            hop, now = hops[number], self.world.now
            hop.carried += size
            if hop.rate:
                start = max(hop.free, now)
                hop.free = start + size / hop.rate
                begun = start + min(size, SEGMENT) / hop.rate
                ended = max(hop.free, upstream + min(size, SEGMENT) / hop.rate)
            else:
                begun, ended = now, upstream
            if number + 1 < len(hops):
                self.world.after(begun - now, lambda: enter(number + 1, ended))
            else:
                line.ready = max(line.ready, ended + delay)
                self.world.after(line.ready - now, arrive)

        enter(0, self.world.now)

    def hurry(self, line: Line, size: int, arrive: Callable[[], None]) -> None:
        """Pass a small message; it takes its share of the queues, and waits in them if they do."""
        one, two, now = line.owner, line.peer, self.world.now
        seconds = self.delay(one, two) + self.waiting(one, two)
        for hop in self.way(one, two):
            hop.carried += size
            if hop.rate:
                hop.free = max(hop.free, now) + size / hop.rate
                seconds += size / hop.rate
        line.ready = max(line.ready, now + seconds)
        self.world.after(line.ready - now, arrive)

    # --- time ----------------------------------------------------------------------------------
    def begin(self) -> None:
        """Everybody wants the blob, at once."""
        blob, scene = self.manifest.blob.raw, self.scene
        for member in self.members:
            if member.seat.have >= 1:
                member.disk.whole[blob] = (self.manifest, b"")
            elif member.seat.have:
                count = int(member.seat.have * len(self.manifest.chunks))
                chosen = self.world.rng.sample(range(len(self.manifest.chunks)), count)
                member.disk.begun = bits.of(chosen)
        for member in self.members:
            self.world.after(TEND * self.world.rng.random(), member.tend)
            if member.seat.wants:
                member.transfers.want(
                    blob,
                    scene.size,
                    self.manifest.id,
                    reading=scene.reading,
                    priority=scene.priority,
                )

    def run(self, patience: float) -> None:
        """Let time pass until all have it.  Raises TimeoutError after ``patience`` bounds."""
        wanting = sum(member.seat.wants for member in self.members)
        while self.finished < wanting:
            if self.world.now > patience * self.scene.bound + 10:
                raise TimeoutError(f"{self.finished} of {wanting} have it at {self.world.now:.0f}")
            self.world.run(self.world.now + 0.05)


def make_manifest(size: int, chunk: int, rng: random.Random) -> Manifest:
    """Return the manifest of a blob that nobody has the bytes of."""
    chunks, left = list[Chunk](), size
    while left:
        length = min(left, int(rng.uniform(chunk / 2, min(1.5 * chunk, 256 * KIB))))
        chunks.append(Chunk(length, rng.randbytes(32)))
        left -= length
    return Manifest(Digest.sha256(rng.randbytes(32)), size, chunks)
