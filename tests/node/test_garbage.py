"""Garbage: what nothing names goes, once it is old; everything else stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

from node import garbage
from node.config import Blobs
from store.blobs import Ingested
from store.digest import Digest
from store.facts import Delete, File, Publish
from tests.node.world import World, world


async def blob(node: World, text: str, *, age: float = 100.0) -> Ingested:
    async with node.core.blobs.ingest() as ingest:
        await ingest.write(text.encode())
    path = node.core.blobs.path(ingest.result.digest)
    assert path is not None
    then = time.time() - age
    os.utime(path, (then, then))
    return ingest.result


async def publish(node: World, text: str, metadata: Digest | None = None) -> Digest:
    made = await blob(node, text)
    file = File(text, "file", str(made.digest), made.size)
    if metadata is not None:
        file = File(text, "file", str(made.digest), made.size, metadata_digest=str(metadata))
    await node.core.ledger.append([Publish("generic", "p", "1", (file,))], actor="t")
    return made.digest


async def test_only_what_nothing_names_goes(tmp_path: Path) -> None:
    async with world(tmp_path, blobs=Blobs(gc_grace=50.0)) as node:
        core = node.core
        kept = {
            "published": await publish(node, "published"),
            "metadata": (await blob(node, "metadata")).digest,
            "young": (await blob(node, "young", age=1.0)).digest,
        }
        kept["with metadata"] = await publish(node, "with metadata", kept["metadata"])
        staged = await blob(node, "staged")
        await core.staging.stage("docker", "app", "x", staged.digest, staged.size, {})
        kept["staged"] = staged.digest
        rendered = await blob(node, "rendered")

        async def build() -> dict[str, Ingested]:
            return {"Release": rendered}

        await core.services.cache.document_set(("debian", "s"), lambda: 1, build)
        kept["rendered"] = rendered.digest
        kept["deleted lately"] = await publish(node, "deleted lately")
        await core.ledger.append([Delete("generic", "deleted lately", ())], actor="t")
        kept["open"] = (await blob(node, "open")).digest
        lost = {(await blob(node, f"nothing names it {n}")).digest for n in range(3)}

        with core.blobs.store.pin(kept["open"]):
            freed = await core.collector.collect()
        assert (freed.blobs, freed.bytes) == (3, 3 * len("nothing names it 0"))
        for name, digest in kept.items():
            assert await core.holds(digest), name
        for digest in lost:
            assert not await core.holds(digest)
            assert await core.blobs.index.manifest(digest) is None


async def test_what_was_deleted_long_ago_goes(tmp_path: Path) -> None:
    async with world(tmp_path, blobs=Blobs(gc_grace=50.0)) as node:
        digest = await publish(node, "deleted")
        await node.core.ledger.append([Delete("generic", "deleted", ())], actor="t")
        await node.core.collector.collect()
        assert await node.core.holds(digest)
        before = garbage.RESTORABLE
        garbage.RESTORABLE = -60.0
        try:
            assert (await node.core.collector.collect()).blobs == 1
        finally:
            garbage.RESTORABLE = before
        assert not await node.core.holds(digest)


async def test_a_published_blob_survives_its_own_collection(tmp_path: Path) -> None:
    """What is ingested again is young again, whoever named it before."""
    async with world(tmp_path, blobs=Blobs(gc_grace=50.0)) as node:
        made = await blob(node, "again")
        async with node.core.blobs.ingest() as ingest:
            await ingest.write(b"again")
        assert (await node.core.collector.collect()).blobs == 0
        assert await node.core.holds(made.digest)
