"""One source and several receivers on thin uplinks, in virtual time: how many copies it sends."""

from __future__ import annotations

import pytest

from mesh import messages as m
from mesh.serving import Piece
from tests.mesh.world import CHUNK, Node, World, blob

UPLINK = 2.5e6  # bytes per second: 20 Mbit/s
DELAY = 0.025


class SharedNode(Node):
    """Has one uplink for all its peers, who take turns."""

    def pump(self, peer: bytes) -> None:
        world = self.world
        assert isinstance(world, Shared)
        ring = world.rings.setdefault(self.name, [])
        if peer not in ring:
            ring.append(peer)
        self.turn(world, ring)

    def turn(self, world: Shared, ring: list[bytes]) -> None:
        while ring:
            free = world.free.get(self.name, 0.0)
            if free > world.now + 1e-9:
                if self.name not in world.waiting:
                    world.waiting.add(self.name)
                    world.after(free - world.now, lambda: self.resume(world, ring))
                return
            peer = ring.pop(0)
            piece = self.serving[peer].next(self.length)
            if piece is None:
                continue
            ring.append(peer)
            if isinstance(piece, Piece):
                self.send_piece(peer, piece)
            else:
                world.send(self.name, peer, piece, bulk=True)

    def resume(self, world: Shared, ring: list[bytes]) -> None:
        world.waiting.discard(self.name)
        self.turn(world, ring)


class Shared(World):
    """A world in which the uplinks are what is scarce."""

    def __init__(self) -> None:
        super().__init__()
        self.free: dict[bytes, float] = {}
        self.rings: dict[bytes, list[bytes]] = {}
        self.waiting: set[bytes] = set()

    def node(self, name: str, **vices: bool) -> Node:
        key = name.encode().ljust(32, b"-")
        self.nodes[key] = SharedNode(key, self)
        return self.nodes[key]

    def send(self, source: bytes, target: bytes, message: m.Message, *, bulk: bool) -> None:
        if isinstance(message, m.Data):
            start = max(self.free.get(source, 0.0), self.now)
            self.free[source] = start + len(message.raw) / UPLINK
            self.wires[source, target].free = start
        super().send(source, target, message, bulk=bulk)


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 8])
def test_each_chunk_leaves_the_source_about_once(count: int) -> None:
    world, held = Shared(), blob(512)
    raw, size = held[0].blob.raw, 512 * CHUNK
    source = world.node("source")
    world.give(source, held)
    receivers = [world.node(f"r{number}") for number in range(count)]
    everybody = [source, *receivers]
    for number, one in enumerate(everybody):
        for other in everybody[number + 1 :]:
            world.link(one, other, rate=UPLINK, delay=DELAY)
    for receiver in receivers:
        receiver.want(held[0])
    world.run(60.0, lambda: all(raw in receiver.whole for receiver in receivers))
    assert all(raw in receiver.whole for receiver in receivers)
    copies = sum(world.sent(source, receiver) for receiver in receivers) / size
    last = max(receiver.done_at[raw] for receiver in receivers)
    print(f"{count} receivers: {copies:.3f} copies, {size / UPLINK / last:.3f} of the bound")
    assert copies < 1.05
    assert last < 1.07 * size / UPLINK
