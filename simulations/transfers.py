"""Chunks of a simulated node: ``mesh.exchange`` between its links and its disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from mesh import bits
from mesh.effects import (
    DropBulk,
    Effect,
    Finish,
    GiveUp,
    LookUp,
    Open,
    OpenBulk,
    ServeManifest,
    Tell,
    TellBulk,
    Write,
)
from mesh.exchange import Exchange
from mesh.messages import (
    URGENT,
    Cancel,
    Credit,
    Data,
    Done,
    ManifestPage,
    Message,
    Want,
)
from mesh.serving import Piece, Serving, failed
from mesh.spread import Spread
from mesh.uplink import Uplink
from simulations.world import World
from store.chunks import Manifest
from store.errors import UnavailableError

CREDIT_STEP = 4 * 1024 * 1024  # bytes received before the sender is granted as many again
LATENCY = (0.0002, 0.004)  # seconds that the disk takes
RETRY = 5.0  # seconds until a client asks again for what the disk refused
STUCK = 4.0  # seconds without a chunk that is owed, while the control link is well


class Meter(Protocol):
    """What the two ends of a link tell each other of their upload queues, in seconds."""

    backlog: float
    peer_backlog: float


class Socket(Protocol):
    """What this needs of a socket."""

    serving: Serving
    feeding: bool
    ended: bool

    @property
    def node(self) -> bytes: ...
    @property
    def link(self) -> Meter: ...
    def flush(self) -> None: ...
    def send(self, message: Message) -> None: ...


class Sockets(Protocol):
    """What this needs of a node's links."""

    name: bytes

    @property
    def control(self) -> Mapping[bytes, Socket]: ...
    @property
    def bulk(self) -> Mapping[bytes, Socket]: ...
    def open_bulk(self, peer: bytes) -> None: ...
    def close_bulk(self, peer: bytes, reason: str) -> None: ...
    def hurry(self) -> None: ...


class Part(Protocol):
    """What this needs of a blob on its way."""

    manifest: Manifest
    have: int
    durable: int


class Store(Protocol):
    """What this needs of a disk.  Whatever it does may raise UnavailableError."""

    whole: dict[bytes, tuple[Manifest, bytes]]

    @property
    def parts(self) -> Mapping[bytes, Part]: ...
    def open(self, manifest: Manifest) -> Part: ...
    def write(self, blob: bytes, first: int, count: int, data: bytes) -> list[int]: ...
    def complete(self, blob: bytes) -> bool: ...
    def read(self, blob: bytes, first: int, count: int) -> bytes | None: ...


class Shell(Protocol):
    """What this needs of its node, and what watches it."""

    def later(self, delay: float, action: Callable[[], None]) -> object: ...
    def note(self, text: str) -> None: ...
    def send(self, peer: bytes, message: Message) -> None: ...
    def send_bulk(self, connection: Socket, message: Message) -> None: ...
    def served(self, piece: Piece, data: bytes) -> None: ...
    def finishing(self, blob: bytes) -> None: ...
    def completed(self, blob: bytes) -> None: ...
    def refuted(self, blob: bytes) -> None: ...
    def given_up(self, blob: bytes) -> None: ...
    def serves(self, want: Want) -> bool: ...
    def manifest_page(self, asked: ServeManifest, page: bytes) -> bytes: ...


class Transfers:
    """What one life of a node fetches and serves."""

    def __init__(
        self,
        world: World,
        disk: Store,
        links: Sockets,
        shell: Shell,
        uplink_cap: float,
        site: str = "",
    ) -> None:
        self.exchange = Exchange(links.name, world.rng, site)
        self.reading: set[bytes] = set()  # blobs that a client reads in order
        self.wanted: dict[bytes, tuple[int, bytes]] = {}  # by clients of ours: (size, manifest id)
        self._world, self._disk, self._links, self._shell = world, disk, links, shell
        self.uplink = Uplink(uplink_cap)
        self.spread = Spread()
        self._uncredited: dict[bytes, int] = {}
        self._ticking = False

    def _latency(self) -> float:
        return self._world.between(*LATENCY)

    # --- clients -------------------------------------------------------------------------------
    def want(
        self, blob: bytes, size: int, manifest: bytes, *, reading: bool, priority: int = URGENT
    ) -> None:
        """A client waits for a blob until it is here; ``reading`` it from the beginning."""
        if blob in self._disk.whole or blob in self.wanted:
            return
        self.wanted[blob] = (size, manifest)
        if reading:
            self.reading.add(blob)
        now = self._world.now
        self.perform(self.exchange.want(blob, now, size=size, manifest=manifest, priority=priority))
        self._links.hurry()

    def unwant(self, blob: bytes) -> None:
        """The client has left."""
        if self.wanted.pop(blob, None) is not None:
            self.reading.discard(blob)
            self.exchange.unwant(blob, self._world.now)

    def _follow_readers(self) -> None:
        for blob in sorted(self.reading):
            part, download = self._disk.parts.get(blob), self.exchange.downloads.get(blob)
            if part is not None and download is not None and download.open:
                missing = bits.full(len(part.manifest.chunks)) & ~part.have
                first = bits.next_of(missing, 0)
                if first is not None:
                    self.perform(self.exchange.readers(blob, [first], self._world.now))

    # --- performing ----------------------------------------------------------------------------
    def perform(self, effects: Iterable[Effect]) -> None:
        """Perform effects in order; those that take time end later, or never."""
        for effect in effects:
            self._perform_one(effect)
        self._plan_tick()

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Tell(peer, message):
                self._shell.send(peer, message)
            case TellBulk(peer, message):
                if peer in self._links.bulk:
                    self._shell.send_bulk(self._links.bulk[peer], message)
            case OpenBulk(peer):
                self._links.open_bulk(peer)
            case DropBulk(peer, reason):
                self._shell.note(f"drops a bulk socket: {reason}")
                self._links.close_bulk(peer, reason)
            case GiveUp():
                self.wanted.pop(effect.blob, None)
            case Finish():
                self._shell.finishing(effect.blob)
                self._shell.later(self._latency(), lambda: self._finish(effect))
            case Write():
                part = self._disk.parts.get(effect.blob)
                self._shell.later(self._latency(), lambda: self._write(effect, part))
            case _:
                self._shell.later(self._latency(), lambda: self._ask_disk(effect))

    def _ask_disk(self, effect: LookUp | ServeManifest | Open) -> None:
        match effect:
            case LookUp():
                self._look_up(effect)
            case ServeManifest():
                self._serve_manifest(effect)
            case Open():
                self._open(effect)

    def _look_up(self, asked: LookUp) -> None:
        held = self._disk.whole.get(asked.blob)
        found = None if held is None else (held[0].size, held[0].id)
        now = self._world.now
        self.perform(self.exchange.looked_up(asked.peer, asked.blob, found, now))

    def _manifest(self, blob: bytes) -> Manifest | None:
        download = self.exchange.downloads.get(blob)
        if download is not None and download.manifest is not None:
            return download.manifest
        return self._disk.whole[blob][0] if blob in self._disk.whole else None

    def _serve_manifest(self, asked: ServeManifest) -> None:
        manifest, data = self._manifest(asked.blob), b""
        if manifest is not None and manifest.id == asked.manifest:
            if asked.page == 0:
                data = manifest.root.encode()
            elif asked.page <= manifest.page_count:
                data = manifest.page(asked.page - 1)
        data = self._shell.manifest_page(asked, data)
        said = ManifestPage(asked.blob, asked.manifest, asked.page, data)
        self._shell.send(asked.peer, said)

    def _open(self, effect: Open) -> None:
        download = self.exchange.downloads.get(effect.blob)
        if download is None or not download.awaits(effect.manifest.id):
            return  # another manifest is believed by now
        try:
            part = self._disk.open(effect.manifest)
        except UnavailableError:
            self._fail(effect.blob)
            return
        self.perform(self.exchange.opened(effect.manifest, part.have, self._world.now))

    def _write(self, effect: Write, part: Part | None) -> None:
        download = self.exchange.downloads.get(effect.blob)
        if download is None or part is None or self._disk.parts.get(effect.blob) is not part:
            return  # or another manifest is believed by now
        try:
            bad = self._disk.write(effect.blob, effect.first, effect.count, effect.data)
        except UnavailableError:
            self._fail(effect.blob)
            return
        span = (effect.first, effect.count)
        expected = download.have | bits.span(span[0], span[0] + span[1])
        twins = part.have if part.have.bit_count() != expected.bit_count() else None
        now = self._world.now
        self.perform(self.exchange.written(effect.blob, effect.peer, span, bad, now, have=twins))

    def _finish(self, effect: Finish) -> None:
        blob = effect.blob
        part = self._disk.parts.get(blob)
        if part is None:
            return
        if part.manifest.id != effect.manifest:  # another is believed by now
            self._shell.refuted(blob)
            return
        try:
            right = self._disk.complete(blob)
        except UnavailableError:
            self._fail(blob)
            return
        if right:
            self.wanted.pop(blob, None)
            self.reading.discard(blob)
            self._shell.completed(blob)
        else:
            self._shell.refuted(blob)
        self.perform(self.exchange.finished(part.manifest, self._world.now, right=right))

    def give_up_all(self, error: UnavailableError) -> None:
        """The disk would not keep what has come: begin again with what it has kept."""
        self._shell.note(f"gives up what is on its way: {error}")
        for blob, download in list(self.exchange.downloads.items()):
            if download.open and not download.finishing:
                self._disk.parts[blob].have = self._disk.parts[blob].durable
                self._fail(blob)

    def _fail(self, blob: bytes) -> None:
        """The disk refuses: who waits hears why, and comes again."""
        self._shell.given_up(blob)
        want, reading = self.wanted.pop(blob, None), blob in self.reading
        self.perform(self.exchange.abandoned(blob, self._world.now))
        if want is not None:
            self._shell.later(RETRY, lambda: self.want(blob, *want, reading=reading))

    # --- bulk sockets --------------------------------------------------------------------------
    def bulk_opened(self, peer: bytes) -> None:
        """A bulk socket is up."""
        self._uncredited[peer] = 0
        self.perform(self.exchange.bulk_opened(peer, self._world.now))

    def heard_bulk(self, connection: Socket, message: Message) -> None:
        """A peer said something on a bulk socket.  Raises RemoteProtocolError."""
        peer = connection.node
        if isinstance(message, Want | Cancel | Credit):
            if isinstance(message, Want) and not self._shell.serves(message):
                return
            for answer in connection.serving.received(message):
                self._shell.send_bulk(connection, answer)
            connection.flush()
            return
        self.perform(self.exchange.received_bulk(peer, message, self._world.now))
        if isinstance(message, Data):
            self._uncredited[peer] = self._uncredited.get(peer, 0) + len(message.raw)
            if self._uncredited[peer] >= CREDIT_STEP:
                self._shell.send_bulk(connection, Credit(self._uncredited[peer]))
                self._uncredited[peer] = 0

    def length(self, blob: bytes, manifest: bytes, index: int) -> int | None:
        """Return the length of a chunk that can be served now."""
        download = self.exchange.downloads.get(blob)
        if download is not None and download.open:
            known = download.manifest
            here = bool(download.have >> index & 1) and index < download.count
        else:
            known = self._disk.whole[blob][0] if blob in self._disk.whole else None
            here = known is not None and index < len(known.chunks)
        return known.chunks.lengths[index] if here and known is not None else None

    def feed(self, connection: Socket) -> None:
        """A bulk socket can take more: read the next piece of what its peer wants."""
        serving, now = connection.serving, self._world.now
        if not len(serving) or serving.credit <= 0:
            return
        pause = self.uplink.wait(connection.node, now)
        if pause:
            connection.feeding = True
            self._shell.later(pause, lambda: self._feed_again(connection))
            return
        others = [each.serving for each in self._links.bulk.values()]
        rate = self.uplink.known
        piece = self.spread.next(connection.node, serving, others, rate, self.length, now)
        if isinstance(piece, Piece):
            connection.feeding = True
            self._shell.later(self._latency(), lambda: self._send_piece(connection, piece))
        elif piece is not None:
            self._shell.send_bulk(connection, piece)

    def _feed_again(self, connection: Socket) -> None:
        connection.feeding = False
        connection.flush()

    def _send_piece(self, connection: Socket, piece: Piece) -> None:
        connection.feeding = False
        if connection.ended:
            return
        try:
            raw = self._disk.read(piece.blob, piece.first, piece.count)
        except UnavailableError:
            self._shell.send_bulk(connection, failed(piece, gone=False))
            return
        if raw is None:
            self._shell.send_bulk(connection, failed(piece, gone=True))
            return
        self._shell.served(piece, raw)
        self.uplink.sent(connection.node, len(raw), piece.priority, self._world.now)
        self.spread.sent(connection.node, piece, self._world.now)
        self._shell.send_bulk(connection, Data(piece.request, piece.first, piece.count, raw))
        if piece.last:
            self._shell.send_bulk(connection, Done(piece.request))

    # --- time ----------------------------------------------------------------------------------
    def tend(self) -> None:
        """Tell peers how long our queue is, and hear how long theirs are."""
        queued = sum(connection.serving.backlog for connection in self._links.bulk.values())
        backlog = self.uplink.backlog(queued, self._world.now)
        for peer, connection in self._links.control.items():
            connection.link.backlog = backlog
            if peer in self.exchange.peers:
                self.exchange.peers[peer].advertised(connection.link.peer_backlog)

    def stuck(self, peer: bytes, now: float) -> None:
        """Try with a fresh socket if the old one does not move while the peer is well."""
        belief = self.exchange.peers.get(peer)
        if belief is not None and belief.snubbed and now - belief.progress_at > STUCK:
            self.perform(self.exchange.stuck(peer, now))

    def _plan_tick(self) -> None:
        deadline = self.exchange.deadline(self._world.now)
        if deadline is not None and not self._ticking:
            self._ticking = True
            self._shell.later(max(0.02, deadline - self._world.now), self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._follow_readers()
        self.perform(self.exchange.tick(self._world.now))
