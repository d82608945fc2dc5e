"""The shelf of deltas: beside the blobs, within its budget, gone with what they are of."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
import trio

from store import delta
from store.digest import Digest
from store.errors import BlobUnknownError, DeltaInvalidError
from store.files import FileStore
from store.shelf import OFFERS_MAX, Shelf, Shelved
from store.siblings import Named, ranked, skeleton

BLOBS = [random.Random(1).randbytes(60_000) + bytes([n]) for n in range(OFFERS_MAX + 3)]


async def add(store: FileStore, data: bytes) -> Digest:
    async with store.ingest() as ingest:
        await ingest.write(data)
    return ingest.result.digest


async def stores(root: Path, budget: int = 1 << 20) -> tuple[FileStore, Shelf]:
    store = FileStore(root)
    await store.open()
    for data in BLOBS:
        await add(store, data)
    shelf = Shelf(root / "deltas", store, budget=budget)
    await shelf.open()
    return store, shelf


def file(root: Path, old: bytes, new: bytes) -> Path:
    out = bytearray()
    pairs = [(Digest.of(data), io.BytesIO(data)) for data in (old, new)]
    delta.make(pairs[0], pairs[1], out.extend, limit=1 << 20)
    path = root / f"{len(out)}.delta"
    path.write_bytes(out)
    return path


async def test_a_delta_is_no_blob_and_outlives_a_restart(tmp_path: Path) -> None:
    store, shelf = await stores(tmp_path)
    kept = await shelf.put(file(tmp_path, *BLOBS[:2]), 1.0)
    assert (kept.basis, kept.target) == (Digest.of(BLOBS[0]), Digest.of(BLOBS[1]))
    assert not await store.has(kept.digest)
    assert len([one async for one in store.digests()]) == len(BLOBS)
    again = Shelf(tmp_path / "deltas", store, budget=1 << 20)
    await again.open()
    assert [each.digest for each in again.of(kept.target.raw)] == [kept.digest]
    both = Shelved(store, again)
    assert await both.size(kept.digest) == kept.size == again.taken
    assert await both.size(kept.target) == len(BLOBS[1])
    assert len([one async for one in both.digests()]) == len(BLOBS)


async def test_it_goes_with_its_basis_and_with_its_target(tmp_path: Path) -> None:
    store, shelf = await stores(tmp_path)
    one = await shelf.put(file(tmp_path, *BLOBS[:2]), 1.0)
    two = await shelf.put(file(tmp_path, *BLOBS[2:4]), 1.0)
    await store.delete(one.basis)
    await shelf.tidy()
    assert len(shelf) == 1
    await store.delete(two.target)
    await shelf.tidy()
    assert len(shelf) == 0
    assert [one async for one in shelf.store.digests()] == []


async def test_the_longest_unused_goes_beyond_the_budget(tmp_path: Path) -> None:
    _, shelf = await stores(tmp_path, budget=500)
    kept = [await shelf.put(file(tmp_path, *BLOBS[n : n + 2]), float(9 - n)) for n in range(6)]
    assert shelf.taken <= 500
    assert not shelf.of(kept[-1].target.raw)
    assert shelf.of(kept[0].target.raw)


async def test_a_blob_has_a_few_deltas(tmp_path: Path) -> None:
    _, shelf = await stores(tmp_path)
    for old in BLOBS[1:]:
        kept = await shelf.put(file(tmp_path, old, BLOBS[0]), 1.0)
    assert len(shelf.of(kept.target.raw)) == OFFERS_MAX == len(shelf)


async def test_what_was_called_a_delta_and_is_none_goes_to_the_blobs(tmp_path: Path) -> None:
    store, shelf = await stores(tmp_path)
    both, digest = Shelved(store, shelf), Digest.of(b"no delta")
    shelf.expect(digest)
    (tmp_path / "come").write_bytes(b"no delta")
    await both.adopt(tmp_path / "come", digest)
    assert not await store.has(digest)
    with pytest.raises(DeltaInvalidError):
        await shelf.keep(digest, 1.0)
    shelf.unexpect(digest)
    await shelf.clear(digest)
    assert await store.has(digest)
    with pytest.raises(BlobUnknownError):
        await shelf.store.size(digest)


async def coming(store: FileStore, shelf: Shelf, path: Path) -> Digest:
    """Let a delta come from elsewhere."""
    digest = Digest.of(path.read_bytes())
    shelf.expect(digest)
    await Shelved(store, shelf).adopt(path, digest)
    return digest


async def test_what_has_not_proven_right_is_gone_after_a_crash(tmp_path: Path) -> None:
    store, shelf = await stores(tmp_path)
    one = await coming(store, shelf, file(tmp_path, *BLOBS[:2]))
    two = await coming(store, shelf, file(tmp_path, *BLOBS[2:4]))
    assert await Shelved(store, shelf).has(one)
    assert await shelf.manifest(one) is not None
    await shelf.keep(two, 1.0)
    assert await Shelved(store, shelf).has(two)
    again = Shelf(tmp_path / "deltas", store, budget=1 << 20)
    await again.open()
    assert [each.digest for each in again.of(Digest.of(BLOBS[3]).raw)] == [two]
    assert len(again) == 1
    assert again.unproven.path(one) is None


async def test_who_is_stopped_removes_what_has_not_proven_right(tmp_path: Path) -> None:
    store, shelf = await stores(tmp_path)
    digest = await coming(store, shelf, file(tmp_path, *BLOBS[:2]))
    with trio.CancelScope() as scope:
        scope.cancel()
        shelf.unexpect(digest)
        await shelf.clear(digest)
    assert shelf.where(digest).path(digest) is None


async def test_a_blob_has_a_few_deltas_after_a_crash_too(tmp_path: Path) -> None:
    store, shelf = await stores(tmp_path)
    for old in BLOBS[1:]:
        await add(shelf.store, file(tmp_path, old, BLOBS[0]).read_bytes())
    again = Shelf(tmp_path / "deltas", store, budget=1 << 20)
    await again.open()
    assert len(again.of(Digest.of(BLOBS[0]).raw)) == OFFERS_MAX == len(again)


# --- what a blob is likely to resemble ------------------------------------------------------------
def named(path: str, size: int = 100, hlc: int = 1) -> Named:
    return Named(path, str(Digest.of(f"{path}{size}".encode())), size, hlc)


def test_earlier_versions_of_one_file_the_last_first() -> None:
    own = named("a/a-1.2.0-cp311-linux_x86_64.whl", hlc=9)
    right = [named("a/a-1.1.9-cp311-linux_x86_64.whl", hlc=n) for n in (5, 7)]
    wrong = [
        named("a/a-1.1.9-cp311-win_amd64.whl"),
        named("a/a-1.1.9-cp311-linux_x86_64.whl", size=500),
        named("a/a-1.3.0-cp311-linux_x86_64.whl", hlc=10),
    ]
    right = [each._replace(digest=f"sha256:{n:064x}") for n, each in enumerate(right)]
    assert ranked(own, [*right, *wrong]) == [right[1].digest, right[0].digest]


def test_where_the_name_is_the_digest_size_decides() -> None:
    layers = [Named("", str(Digest.of(bytes([n]))), 100 + n, n) for n in range(5)]
    layers = [each._replace(path=f"image/blobs/{each.digest}") for each in layers]
    assert skeleton(layers[0]) == ""
    own = layers[4]._replace(size=101)
    assert ranked(own, layers)[0] == layers[1].digest
