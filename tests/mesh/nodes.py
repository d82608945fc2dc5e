"""Whole nodes in one process: real ledgers and stores, over memory streams or real TLS."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from mesh.carrier import Carrier, Dialled
from mesh.carriers.libp2p import Libp2pCarrier
from mesh.carriers.memory import MemoryCarrier, World
from mesh.carriers.tls import TlsCarrier
from mesh.relay import Quota
from mesh.service import Mesh
from mesh.shell.meeting import Ways
from mesh.widening import SOCKETS_MAX
from store import schema
from store.blobs import BlobRange
from store.chunkindex import ChunkIndex
from store.chunks import Manifest
from store.database import open_database
from store.digest import Digest
from store.facts import File, Publish
from store.files import FileStore
from store.identity import Identity
from store.ledger import Ledger
from store.partials import Partials
from store.shelf import Shelf, Shelved, ShelvedIndex
from tests.faults import no_faults

STANDARD = Quota()


@dataclass
class Node:
    """One node, without HTTP."""

    name: str
    identity: Identity
    ledger: Ledger
    store: FileStore
    index: ChunkIndex
    mesh: Mesh
    directory: Path
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    addresses: tuple[str, ...] = ()
    carrier: Carrier | None = None
    shelf: Shelf | None = None

    @property
    def id(self) -> bytes:
        return bytes.fromhex(self.identity.node)

    async def add(self, data: bytes) -> Manifest:
        """Store and index a blob."""
        async with self.store.ingest() as ingest:
            await ingest.write(data)
        await self.index.record(ingest.result)
        return ingest.result.manifest

    async def publish(self, path: str, manifest: Manifest) -> None:
        """Publish a file that names the blob."""
        file = File(path, "file", str(manifest.blob), manifest.size, manifest.id)
        fact = Publish("generic", "p", "1", (file,))
        await self.ledger.append([fact], actor="test")

    async def reach(self, other: Node) -> int:
        """How far this node has the other's present ledger."""
        heads = await self.ledger.heads()
        return heads.get((other.identity.node, other.ledger.incarnation), (0, b""))[0]

    async def read(self, manifest: Manifest, start: int = 0, stop: int | None = None) -> bytes:
        """Read through the mesh, as a client would."""
        wanted = BlobRange(manifest.blob, manifest.size, manifest.id, start=start, stop=stop)
        async with self.mesh.stream(wanted) as blocks:
            return b"".join([block async for block in blocks])

    async def has(self, manifest: Manifest) -> bool:
        return await self.store.has(manifest.blob)


class Offering:
    """A ``mesh.ports.ShelfPort`` that makes nothing itself."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.wanted: list[bytes] = []
        self.lies: list[tuple[bytes, bytes, int, int]] = []

    def offers(self, blob: bytes) -> Sequence[tuple[bytes, bytes, int, int]]:
        kept = [(e.basis.raw, e.digest.raw, e.size, e.work) for e in self.shelf.of(blob)]
        return [*self.lies, *kept]

    @property
    def folder(self) -> Path:
        return self.shelf.store.temporary

    @property
    def room(self) -> int:
        return self.shelf.budget // 2

    def asked(self, blob: bytes) -> None:
        self.wanted.append(blob)

    async def expect(self, delta: Digest) -> bool:
        self.shelf.expect(delta)
        return True

    async def unexpect(self, delta: Digest) -> None:
        self.shelf.unexpect(delta)
        await self.shelf.clear(delta)

    async def keep(self, delta: Digest) -> None:
        await self.shelf.keep(delta, 0.0)


class FencedTls(TlsCarrier):
    """Real TLS, with the reachability of a World."""

    def __init__(self, fleet: Fleet, name: str, seed: bytes, advertise: Sequence[str]) -> None:
        super().__init__(seed, listen=[("127.0.0.1", 0)], advertise=advertise)
        self._fleet, self._name = fleet, name

    async def dial(self, address: str) -> Dialled:
        for other in self._fleet.nodes.values():
            if address in other.addresses and not self._fleet.world.reachable(
                self._name, other.name
            ):
                raise ConnectionRefusedError(f"{address} is out of reach")
        return await super().dial(address)


class Fleet:
    """Some nodes, and the network between them."""

    def __init__(
        self,
        root: Path,
        *,
        tls: bool = False,
        wait: float = 10.0,
        mdns: str = "off",
        libp2p: bool = False,
        deltas: bool = False,
    ) -> None:
        self.deltas = deltas
        self.root, self.tls, self.wait, self.mdns, self.libp2p = root, tls, wait, mdns, libp2p
        self.world = World()
        self.nodes: dict[str, Node] = {}
        self._stack = AsyncExitStack()
        self._nursery: trio.Nursery | None = None

    def _carrier(self, name: str, identity: Identity, advertise: Sequence[str]) -> Carrier:
        if self.tls:
            return FencedTls(self, name, identity.seed, advertise)
        return MemoryCarrier(self.world, name, identity.key)

    async def node(
        self,
        name: str,
        advertise: Sequence[str] = (),
        static: Sequence[str] = (),
        quota: Quota | None = STANDARD,
        sockets: int = SOCKETS_MAX,
    ) -> Node:
        """Start a node, a mesh of its own."""
        directory = self.root / name
        directory.mkdir(parents=True, exist_ok=True)
        identity = Identity.from_seed(Digest.of(name.encode()).raw)
        enter = self._stack.enter_async_context
        facts = await enter(open_database(f"sqlite+aiosqlite:///{directory}/f.db", schema.facts))
        local = await enter(open_database(f"sqlite+aiosqlite:///{directory}/l.db", schema.local))
        ledger = Ledger(facts, identity)
        await ledger.initialise(site=name, name=name)
        store = FileStore(directory / "blobs")
        await store.open()
        index = ChunkIndex(local, store)
        shelf = Shelf(directory / "deltas", store, budget=1 << 30)
        await shelf.open()
        carrier = self._carrier(name, identity, advertise)
        mesh = Mesh(
            identity=identity,
            ledger=ledger,
            store=Shelved(store, shelf),
            index=ShelvedIndex(index, shelf),
            partials=Partials(directory / "partial"),
            carriers=[carrier, *([Libp2pCarrier(identity.seed)] if self.libp2p else [])],
            directory=directory,
            site=name,
            wait=self.wait,
            ways=Ways(self.mdns, tuple(static), quota, sockets=sockets),
            rng=random.Random(name),
        )
        node = Node(name, identity, ledger, store, index, mesh, directory, carrier=carrier)
        node.shelf = shelf
        if self.deltas:
            mesh.deltas.shelf = Offering(shelf)
        self.nodes[name] = node
        await self.start(node)
        return node

    async def start(self, node: Node) -> None:
        assert self._nursery is not None
        node.scope = trio.CancelScope()
        node.addresses = await self._nursery.start(self._run, node)

    async def _run(self, node: Node, *, task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
        with node.scope:
            await node.mesh.run(task_status=task_status)

    async def join(self, node: Node, inviter: Node) -> None:
        await node.mesh.join(await inviter.mesh.invite(site=node.name))

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Fleet]:
        with no_faults():
            async with self._stack, trio.open_nursery() as nursery:
                self._nursery = nursery
                yield self
                nursery.cancel_scope.cancel()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait for an async condition."""
    with trio.fail_after(seconds):
        while not await condition():  # noqa: ASYNC110  it watches a whole fleet
            await trio.sleep(0.02)
