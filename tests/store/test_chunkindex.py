from __future__ import annotations

import pytest
import sqlalchemy as sa

from store import chunkindex, schema
from store.chunkindex import ChunkIndex, ChunkLocation
from store.chunks import Manifest
from store.database import Database
from store.digest import Digest
from store.errors import DigestMismatchError
from store.memory import MemoryStore
from tests.store.blob_contract import MIB, get, noise, put

DATA = noise(2 * MIB, seed=4)


@pytest.fixture
def database(local: Database) -> Database:
    return local


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def index(database: Database, store: MemoryStore) -> ChunkIndex:
    return ChunkIndex(database, store)


def digests_of(manifest: Manifest) -> list[bytes]:
    return [chunk.sha256 for chunk in manifest.chunks]


async def count(database: Database, table: sa.Table) -> int:
    query = sa.select(sa.func.count()).select_from(table)
    return await database.read(lambda connection: connection.scalar(query) or 0)


async def test_every_chunk_is_found_where_its_bytes_lie(
    index: ChunkIndex, store: MemoryStore
) -> None:
    stored = await put(store, DATA)
    await index.record(stored)
    found = await index.find([*digests_of(stored.manifest), b"?" * 32])
    assert len(found) == len(stored.manifest.chunks)
    for sha256, place in found.items():
        data = await get(store, place.blob, start=place.offset, stop=place.offset + place.length)
        assert Digest.of(data).raw == sha256
    assert await index.manifest(stored.digest) == stored.manifest


async def test_recording_twice_changes_nothing(
    index: ChunkIndex, store: MemoryStore, database: Database
) -> None:
    stored = await put(store, DATA)
    await index.record(stored)
    await index.record(stored)
    assert await count(database, schema.chunks) == len(stored.manifest.chunks)
    assert await count(database, schema.manifests) == 1


@pytest.mark.parametrize("size", [0, 1, 100])
async def test_small_blobs_have_a_manifest_too(
    index: ChunkIndex, store: MemoryStore, size: int
) -> None:
    stored = await put(store, noise(size))
    await index.record(stored)
    assert await index.manifest(stored.digest) == Manifest.whole(stored.digest, size)


async def test_large_blobs_are_recorded_in_pieces(
    index: ChunkIndex, store: MemoryStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted recording is no recording; the next one replaces what it left."""
    monkeypatch.setattr(chunkindex, "ROWS_MAX", 5)
    monkeypatch.setattr(chunkindex, "KEYS_MAX", 3)
    stored = await put(store, DATA)
    left = {"sha256": b"\0" * 32, "blob": stored.digest.raw, "offset": 0, "length": 1}
    await database.write(lambda connection: connection.execute(sa.insert(schema.chunks), [left]))
    await index.record(stored)
    assert await count(database, schema.chunks) == len(stored.manifest.chunks)
    assert len(await index.find(digests_of(stored.manifest))) == len(stored.manifest.chunks)


async def test_equal_chunks_are_kept_once_per_blob(
    index: ChunkIndex, store: MemoryStore, database: Database
) -> None:
    first, second = await put(store, bytes(MIB)), await put(store, bytes(2 * MIB))
    await index.record(first)
    await index.record(second)
    assert await count(database, schema.chunks) == 2
    found = await index.find(digests_of(first.manifest))
    assert found[digests_of(first.manifest)[0]] in [
        ChunkLocation(blob, 0, 256 << 10) for blob in (first.digest, second.digest)
    ]


async def test_a_missing_manifest_is_made_again(
    index: ChunkIndex, store: MemoryStore, database: Database
) -> None:
    stored = await put(store, DATA)
    assert await index.manifest(stored.digest) == stored.manifest
    assert await count(database, schema.manifests) == 1
    assert len(await index.find(digests_of(stored.manifest))) == len(stored.manifest.chunks)
    assert await index.manifest(Digest.of(b"unknown")) is None


async def test_a_manifest_of_another_version_is_made_again(
    index: ChunkIndex, store: MemoryStore, database: Database
) -> None:
    stored = await put(store, DATA)
    await index.record(stored)
    spoil = sa.update(schema.manifests).values(encoded=b"\x92\x02\x03")
    await database.write(lambda connection: connection.execute(spoil))
    assert await index.manifest(stored.digest) == stored.manifest


async def test_a_blob_that_rotted_has_no_manifest(index: ChunkIndex, store: MemoryStore) -> None:
    stored = await put(store, DATA)
    store._blobs[stored.digest] = (DATA[:-1] + b"?", 0.0)
    with pytest.raises(DigestMismatchError):
        await index.manifest(stored.digest)


async def test_forgetting(index: ChunkIndex, store: MemoryStore, database: Database) -> None:
    stored = await put(store, DATA, checksums=("md5",))
    kept = await put(store, DATA[:MIB], checksums=("md5",))
    await index.record(stored)
    await index.record(kept)
    await index.forget(stored.digest)
    await store.delete(stored.digest)
    assert await index.manifest(stored.digest) is None
    assert await index.alias("md5", stored.checksums["md5"]) is None
    assert await index.alias("md5", kept.checksums["md5"]) == kept.digest
    assert await count(database, schema.chunks) == len(kept.manifest.chunks)


async def test_other_digests_lead_to_the_blob(index: ChunkIndex, store: MemoryStore) -> None:
    stored = await put(store, b"aliased", checksums=("sha1", "sha512"))
    await index.record(stored)
    for name in ("sha1", "sha512"):
        assert await index.alias(name, stored.checksums[name]) == stored.digest
    assert await index.alias("sha1", stored.checksums["sha512"]) is None


async def test_aliases_come_with_a_later_recording(index: ChunkIndex, store: MemoryStore) -> None:
    await index.record(await put(store, b"late"))
    stored = await put(store, b"late", checksums=("md5",))
    await index.record(stored)
    assert await index.alias("md5", stored.checksums["md5"]) == stored.digest
