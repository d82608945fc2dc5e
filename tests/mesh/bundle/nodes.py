"""Nodes that meet only by bundles: a ledger, a store, partials; in memory but for the partials."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import trio

from mesh.shell import exporting, importing
from mesh.shell.exporting import Export, Named, Wish
from mesh.shell.importing import Import, Report
from store.chunkindex import ChunkLocation
from store.chunks import Manifest
from store.digest import Digest
from store.facts import File, Publish
from store.memory import MemoryStore
from store.partials import Partials
from tests.store.ledgers import Node, mesh


class FileMemoryStore(MemoryStore):
    """Memory, but for what partial blobs hand over."""

    async def adopt(self, file: Path, digest: Digest) -> None:
        async with self.ingest(digest) as ingest:
            await ingest.write(file.read_bytes())
        file.unlink()


class Index:
    """The chunks of what was recorded."""

    def __init__(self) -> None:
        self.manifests: dict[Digest, Manifest] = {}
        self.chunks: dict[bytes, ChunkLocation] = {}

    async def manifest(self, blob: Digest) -> Manifest | None:
        return self.manifests.get(blob)

    async def record(self, ingested: Any) -> None:
        self.manifests[ingested.digest] = manifest = ingested.manifest
        for index, chunk in enumerate(manifest.chunks):
            location = ChunkLocation(ingested.digest, manifest.offset(index), chunk.length)
            self.chunks[chunk.sha256] = location

    async def find(self, sha256s: Iterable[bytes]) -> Mapping[bytes, ChunkLocation]:
        return {each: self.chunks[each] for each in sha256s if each in self.chunks}


class Place:
    """A node: what exporting reads and importing writes."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.ledger = node, node.ledger
        self.store, self.index = FileMemoryStore(), Index()
        self.partials = Partials(folder)
        self.held_by: dict[str, set[Digest]] = {}
        self.checkpoints = Kept()

    # --- NamesPort -----------------------------------------------------------------------------
    async def named(self, blobs: Iterable[Digest]) -> Mapping[Digest, Named]:
        known = {row["digest"]: row for row in self.node.rows("files")}
        return {
            blob: Named(known[str(blob)]["size"], bytes(known[str(blob)]["manifest_id"]))
            for blob in blobs
            if str(blob) in known
        }

    async def all(self, repositories: tuple[str, ...]) -> AsyncGenerator[Digest]:
        for row in self.node.rows("files"):
            yield Digest.parse(row["digest"])

    async def held(self, node: str, blobs: Iterable[Digest]) -> set[Digest]:
        return set(blobs) & self.held_by.get(node, set())

    # --- acting --------------------------------------------------------------------------------
    async def publish(self, path: str, data: bytes, *, package: str = "demo") -> Digest:
        async with self.store.ingest() as ingest:
            await ingest.write(data)
        found = ingest.result
        await self.index.record(found)
        file = File(path, "", str(found.digest), found.size, found.manifest.id)
        await self.node.append(Publish("generic", package, "1", (file,)))
        return found.digest

    async def export(self, wish: Wish | None = None) -> bytes:
        parts = exporting.Parts(self.node.identity, self.ledger, self.store, self.index, self)
        return b"".join([data async for data in Export(parts, wish or Wish(every=True)).stream()])

    async def since(self, **changes: Any) -> Wish:
        """What an export for this node begins after."""
        heads = await self.ledger.heads()
        return Wish(since={key: seq for key, (seq, _) in heads.items()}, **changes)

    async def take(self, data: bytes, *, piece: int = 100_000, resume: bool = False) -> Report:
        parts = importing.Parts(self.ledger, self.store, self.index, self.partials, self)
        checkpoint = self.checkpoints.last if resume else None
        start = checkpoint.offset if checkpoint else 0
        return await Import(parts, self.checkpoints, checkpoint).run(Pieces(data[start:], piece))


class Kept(importing.CheckpointPort):
    """The newest checkpoint."""

    def __init__(self) -> None:
        self.last: importing.Checkpoint | None = None
        self.saved = 0

    async def save(self, bundle: str, checkpoint: importing.Checkpoint) -> None:
        self.last = checkpoint
        self.saved += 1

    async def forget(self, bundle: str) -> None:
        self.last = None


class Pieces(AsyncIterator[bytes]):
    """Bytes as they come off a stick."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data, self._piece, self._at = data, piece, 0

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        found = self._data[self._at : self._at + self._piece]
        self._at += len(found)
        if not found:
            raise StopAsyncIteration
        return found


async def places(folder: Path, count: int) -> list[Place]:
    """Members of one mesh."""
    return [
        Place(node, folder / str(number)) for number, node in enumerate(await mesh(count), start=1)
    ]
