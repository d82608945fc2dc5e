"""Exchange cores in virtual time: links with rates and delays, peers with vices."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from mesh import messages as m
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
from mesh.serving import Piece, Serving
from store.chunks import Chunk, Manifest
from store.digest import Digest

CHUNK = 64 * 1024


def blob(count: int, seed: int = 0) -> tuple[Manifest, bytes]:
    """A blob of ``count`` chunks."""
    data = random.Random(seed).randbytes(count * CHUNK)
    parts = [data[i * CHUNK : (i + 1) * CHUNK] for i in range(count)]
    chunks = [Chunk(CHUNK, hashlib.sha256(part).digest()) for part in parts]
    return Manifest(Digest.of(data), len(data), chunks), data


@dataclass
class Vice:
    """What a peer does wrong."""

    corrupt: bool = False  # sends wrong bytes
    liar: bool = False  # claims to have what it has not
    stall: bool = False  # takes requests and never answers
    redirect: bool = False  # sends everybody elsewhere, for ever
    unasked: bool = False  # sends other chunks than asked for


@dataclass
class Wire:
    """One direction of one link."""

    rate: float
    delay: float
    free: float = 0.0
    carried: int = 0


@dataclass
class Node:
    """One node: its exchange, what it holds, and what it is asked for."""

    name: bytes
    world: World
    vice: Vice = field(default_factory=Vice)
    whole: dict[bytes, tuple[Manifest, bytes]] = field(default_factory=dict)
    parts: dict[bytes, tuple[Manifest, bytearray, int]] = field(default_factory=dict)
    serving: dict[bytes, Serving] = field(default_factory=dict)
    done_at: dict[bytes, float] = field(default_factory=dict)
    arrived: list[int] = field(default_factory=list)
    redirects: int = 0

    def __post_init__(self) -> None:
        self.core = Exchange(self.name, random.Random(self.name))

    def want(self, manifest: Manifest, *, signed: bool = True) -> None:
        id_, size = (manifest.id, manifest.size) if signed else (b"", 0)
        self.perform(self.core.want(manifest.blob.raw, self.world.now, size=size, manifest=id_))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.perform_one(effect)

    def perform_one(self, effect: Effect) -> None:
        now, world = self.world.now, self.world
        match effect:
            case Tell(peer, message):
                world.send(self.name, peer, message, bulk=False)
            case TellBulk(peer, message):
                world.send(self.name, peer, message, bulk=True)
            case OpenBulk(peer):
                world.after(0.01, lambda: self.perform(self.core.bulk_opened(peer, world.now)))
            case DropBulk(peer, _):
                self.perform(self.core.bulk_closed(peer, now))
            case LookUp(peer, blob_):
                held = self.whole.get(blob_)
                found = (held[0].size, held[0].id) if held else None
                if self.vice.liar and found is None:
                    known = world.blobs[blob_]
                    found = (known[0].size, known[0].id)
                self.perform(self.core.looked_up(peer, blob_, found, now))
            case ServeManifest(peer, blob_, id_, page):
                manifest = self.manifest(blob_)
                data = b""
                if manifest is not None and manifest.id == id_:
                    data = manifest.page(page - 1) if page else manifest.root.encode()
                world.send(self.name, peer, m.ManifestPage(blob_, id_, page, data), bulk=False)
            case Open(blob_, manifest):
                old = self.parts.get(blob_)
                have = old[2] if old and old[0].id == manifest.id else 0
                content = old[1] if old and have else bytearray(manifest.size)
                self.parts[blob_] = (manifest, content, have)
                self.perform(self.core.opened(manifest, have, now))
            case Write(blob_, peer, first, count, data):
                begun = self.parts[blob_][1]

                def store() -> None:
                    held = self.parts.get(blob_)
                    if held is not None and held[1] is begun:  # else by another manifest
                        self.store(blob_, peer, first, count, data)

                world.after(0.001, store)
            case Finish(blob_, id_):
                manifest, content, _ = self.parts.pop(blob_)
                assert manifest.id == id_
                assert Digest.of(bytes(content)).raw == blob_
                self.whole[blob_] = (manifest, bytes(content))
                self.done_at[blob_] = now
                self.perform(self.core.finished(manifest, now, right=True))
            case GiveUp():
                pass

    def store(self, blob_: bytes, peer: bytes, first: int, count: int, data: bytes) -> None:
        manifest, content, have = self.parts[blob_]
        bad = []
        for index in range(first, first + count):
            chunk = manifest.chunks[index]
            at = manifest.offset(index) - manifest.offset(first)
            piece = data[at : at + chunk.length]
            if hashlib.sha256(piece).digest() != chunk.sha256:
                bad.append(index)
                continue
            start = manifest.offset(index)
            content[start : start + chunk.length] = piece
            have |= 1 << index
            self.arrived.append(index)
        self.parts[blob_] = (manifest, content, have)
        self.perform(self.core.written(blob_, peer, (first, count), bad, self.world.now))

    def manifest(self, blob_: bytes) -> Manifest | None:
        if blob_ in self.whole:
            return self.whole[blob_][0]
        if blob_ in self.parts:
            return self.parts[blob_][0]
        return self.world.blobs[blob_][0] if self.vice.liar else None

    def length(self, blob_: bytes, manifest: bytes, index: int) -> int | None:
        if blob_ in self.whole:
            return self.whole[blob_][0].chunks[index].length
        if blob_ in self.parts and self.parts[blob_][2] >> index & 1:
            return self.parts[blob_][0].chunks[index].length
        return None

    def heard(self, peer: bytes, message: m.Message, *, bulk: bool) -> None:
        now = self.world.now
        if not bulk:
            self.perform(self.core.received(peer, message, now))
        elif isinstance(message, m.Want | m.Cancel | m.Credit):
            if self.vice.stall:
                return
            if self.vice.redirect and isinstance(message, m.Want):
                self.redirects += 1
                others = tuple(name for name in self.world.nodes if name != self.name)[:3]
                said = m.Redirect(message.request, others, message.runs)
                self.world.send(self.name, peer, said, bulk=True)
                return
            serving = self.serving.setdefault(peer, Serving())
            for answer in serving.received(message):
                self.world.send(self.name, peer, answer, bulk=True)
            self.pump(peer)
        else:
            self.perform(self.core.received_bulk(peer, message, now))

    def pump(self, peer: bytes) -> None:
        """Send the next piece as soon as the wire is free."""
        wire = self.world.wires.get((self.name, peer))
        serving = self.serving.get(peer)
        if wire is None or serving is None:
            return
        if wire.free > self.world.now + 1e-9:
            self.world.after(wire.free - self.world.now, lambda: self.pump(peer))
            return
        piece = serving.next(self.length)
        if piece is None:
            return
        if isinstance(piece, Piece):
            self.send_piece(peer, piece)
        else:
            self.world.send(self.name, peer, piece, bulk=True)
        self.pump(peer)

    def send_piece(self, peer: bytes, piece: Piece) -> None:
        manifest, data = self.whole.get(piece.blob) or self.parts[piece.blob][:2]
        first = piece.first
        start, stop = manifest.offset(first), manifest.offset(first + piece.count)
        raw = bytes(data[start:stop])
        if self.vice.corrupt:
            raw = b"\0" + raw[1:-1] + b"\0"
        if self.vice.unasked:
            first = (first + 7) % max(1, len(manifest.chunks) - piece.count)
        said = m.Data(piece.request, first, piece.count, raw)
        self.world.send(self.name, peer, said, bulk=True)
        serving = self.serving[peer]
        serving.credit += len(raw)
        if piece.last:
            self.world.send(self.name, peer, m.Done(piece.request), bulk=True)


class World:
    """Nodes and wires in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[bytes, Node] = {}
        self.wires: dict[tuple[bytes, bytes], Wire] = {}
        self.blobs: dict[bytes, tuple[Manifest, bytes]] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._bulk_sent: dict[tuple[bytes, bytes], int] = {}

    def node(self, name: str, **vices: bool) -> Node:
        key = name.encode().ljust(32, b"-")
        self.nodes[key] = Node(key, self, Vice(**vices))
        return self.nodes[key]

    def give(self, node: Node, held: tuple[Manifest, bytes]) -> None:
        self.blobs[held[0].blob.raw] = held
        node.whole[held[0].blob.raw] = held

    def link(self, one: Node, two: Node, rate: float = 5e6, delay: float = 0.02) -> None:
        for a, b in ((one, two), (two, one)):
            self.wires[a.name, b.name] = Wire(rate, delay, self.now)
        for a, b in ((one, two), (two, one)):
            a.serving[b.name] = Serving()
            a.perform(a.core.linked(b.name, self.now))
            a.core.peers[b.name].rtt.add(2 * delay, self.now)

    def cut(self, one: Node, two: Node) -> None:
        for a, b in ((one, two), (two, one)):
            self.wires.pop((a.name, b.name), None)
            a.serving.pop(b.name, None)
        for a, b in ((one, two), (two, one)):
            a.perform(a.core.unlinked(b.name, self.now))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, action))

    def send(self, source: bytes, target: bytes, message: m.Message, *, bulk: bool) -> None:
        wire = self.wires.get((source, target))
        if wire is None:
            return
        size = len(message.raw) if isinstance(message, m.Data) else 60
        wire.carried += size
        arrival = wire.delay
        if isinstance(message, m.Data):
            wire.free = max(wire.free, self.now) + size / wire.rate
        if bulk:  # in order behind the data
            arrival += max(0.0, wire.free - self.now)

        def arrive() -> None:
            if self.wires.get((source, target)) is wire:
                self.nodes[target].heard(source, message, bulk=bulk)

        self.after(arrival, arrive)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        end, tick = self.now + seconds, self.now
        while self.now < end and not until():
            moment = self._heap[0][0] if self._heap else math.inf
            if tick <= min(moment, end):
                self.now = max(self.now, tick)
                tick += 0.1
                for node in self.nodes.values():
                    node.perform(node.core.tick(self.now))
            elif moment <= end:
                self.now, _, action = heapq.heappop(self._heap)
                action()
            else:
                self.now = end

    def sent(self, one: Node, two: Node) -> int:
        """Bytes carried from one to two."""
        wire = self.wires.get((one.name, two.name))
        return wire.carried if wire else 0
