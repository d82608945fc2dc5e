from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from store import disk, partial
from store.chunks import Manifest
from store.digest import Digest
from store.errors import (
    DigestMismatchError,
    NoHolderError,
    RangeInvalidError,
    StoreFullError,
    UnavailableError,
)
from store.files import FileStore
from store.known import Index
from store.memory import MemoryStore
from store.partial import PartialBlob
from store.partials import Partials
from tests.store.blob_contract import get, put
from tests.store.partial_blobs import COUNT, DATA, MANIFEST, chunk, drain, fill, manifest_of


@pytest.fixture
def partials(tmp_path: Path) -> Partials:
    (tmp_path / "partial").mkdir()
    return Partials(tmp_path / "partial")


@pytest.fixture
async def blob(partials: Partials) -> AsyncIterator[PartialBlob]:
    blob = await partials.open(MANIFEST)
    yield blob
    await partials.close()


@pytest.fixture
async def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path / "store")
    await store.open()
    return store


async def test_two_who_share_a_blob_may_both_complete_it(
    blob: PartialBlob, store: FileStore
) -> None:
    """A fetch and a bundle bring the same blob: whoever comes second finds it done."""
    await fill(blob)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(blob.complete, store)
        nursery.start_soon(blob.complete, store)
    assert (await blob.complete(store)).digest == MANIFEST.blob
    assert await get(store, MANIFEST.blob) == DATA


async def test_a_partial_needs_no_folder_made_before(tmp_path: Path) -> None:
    partials = Partials(tmp_path / "not" / "here")
    await fill(await partials.open(MANIFEST), 0)
    await partials.close()
    assert await Partials(tmp_path / "not" / "here").load() == [MANIFEST]


async def test_chunks_in_any_order_become_a_blob(
    blob: PartialBlob, partials: Partials, store: FileStore
) -> None:
    assert len(blob.missing) == COUNT
    for index in reversed(range(COUNT)):
        assert not blob.have(index)
        assert await blob.write(index, chunk(index))
        assert blob.have(index)
        assert not await blob.write(index, chunk(index))
    assert not blob.missing
    ingested = await blob.complete(store)
    assert (ingested.digest, ingested.size) == (MANIFEST.blob, len(DATA))
    assert ingested.manifest == MANIFEST
    assert await get(store, MANIFEST.blob) == DATA
    assert await store.verify(MANIFEST.blob)
    assert list(partials.root.iterdir()) == []
    assert not blob.active
    assert not await blob.write(0, chunk(0))


@pytest.mark.parametrize("data", [b"", b"x", DATA[: 256 << 10]])
async def test_small_blobs_too(partials: Partials, data: bytes) -> None:
    store, manifest = MemoryStore(), manifest_of(data)
    blob = await partials.open(manifest)
    for index in list(blob.missing):
        await blob.write(index, data)
    await blob.complete(store)
    assert await get(store, manifest.blob) == data


@pytest.mark.parametrize("data", [b"", chunk(1), chunk(0)[:-1], chunk(0) + b"x"])
async def test_wrong_bytes_never_touch_the_disk(
    blob: PartialBlob, partials: Partials, data: bytes
) -> None:
    with pytest.raises(DigestMismatchError) as caught:
        await blob.write(0, data)
    assert caught.value.expected == Digest.sha256(MANIFEST.chunks[0].sha256)
    assert caught.value.actual == Digest.of(data)
    assert not blob.have(0)
    (file,) = partials.root.glob("*/data")
    assert file.stat().st_blocks == 0


@pytest.mark.parametrize("index", [-1, COUNT])
async def test_an_index_out_of_range(blob: PartialBlob, index: int) -> None:
    with pytest.raises(RangeInvalidError):
        await blob.write(index, b"")


async def test_a_run_of_chunks_in_one_go(blob: PartialBlob, store: FileStore) -> None:
    assert await blob.write(3, chunk(3))
    assert await blob.write_runs([(2, 6, b"".join(map(chunk, range(2, 6))))]) == []
    assert [index for index in range(COUNT) if blob.have(index)] == [2, 3, 4, 5]
    assert await blob.write_runs([(2, 6, b"")]) == []
    await fill(blob)
    await blob.complete(store)
    assert await get(store, MANIFEST.blob) == DATA


async def test_the_wrong_chunks_of_a_run_are_named(blob: PartialBlob) -> None:
    data = bytearray(b"".join(map(chunk, range(5))))
    data[MANIFEST.offset(1)] ^= 1
    assert await blob.write_runs([(0, 5, data)]) == [1]
    assert [index for index in range(COUNT) if blob.have(index)] == [0, 2, 3, 4]
    assert await blob.write_runs([(6, 8, chunk(6) + chunk(7) + b"x")]) == [7]
    assert await blob.write_runs([(9, 11, chunk(9)[:-1])]) == [9, 10]
    for first, stop in ((COUNT - 1, COUNT + 1), (COUNT + 5, COUNT + 6), (-1, 1), (3, 3)):
        with pytest.raises(RangeInvalidError):
            await blob.write_runs([(first, stop, b"")])


async def test_a_wrong_manifest_fails_at_the_end(partials: Partials, store: FileStore) -> None:
    wrong = Manifest(Digest.of(b"another blob"), MANIFEST.size, MANIFEST.chunks)
    blob = await partials.open(wrong)
    await fill(blob)
    with pytest.raises(DigestMismatchError):
        await blob.complete(store)
    assert not await store.has(wrong.blob)
    assert not await store.has(MANIFEST.blob)
    assert list(partials.root.iterdir()) == []


async def test_completing_too_early_is_a_bug(blob: PartialBlob, store: FileStore) -> None:
    with pytest.raises(RuntimeError, match="missing"):
        await blob.complete(store)


async def test_equal_chunks_are_filled_in_at_once(partials: Partials) -> None:
    data = bytes(3 * (256 << 10)) + b"end"
    manifest = manifest_of(data)
    blob = await partials.open(manifest)
    await blob.write(1, bytes(256 << 10))
    assert list(blob.missing) == [3]
    await blob.write(3, b"end")
    store = MemoryStore()
    await blob.complete(store)
    assert await get(store, manifest.blob) == data


async def test_readers_get_what_is_here_and_wait_for_the_rest(blob: PartialBlob) -> None:
    """Two readers of different ranges, chunks from the end to the start."""
    found: dict[str, bytes] = {}
    read = trio.Event()

    async def reader(name: str, start: int, stop: int | None) -> None:
        found[name] = await drain(blob, start, stop)
        if name == "part":
            read.set()

    middle = MANIFEST.offset(3) + 7
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader, "all", 0, None)
        nursery.start_soon(reader, "part", middle, middle + 300_000)
        nursery.start_soon(reader, "none", 5, 5)
        await trio.testing.wait_all_tasks_blocked()
        assert blob.wanted == [0, 3]
        for index in reversed(range(COUNT)):
            await blob.write(index, chunk(index))
            if index == 1:
                with trio.fail_after(5):
                    await read.wait()
                assert blob.wanted == [0]
                assert found.keys() == {"part", "none"}
    assert found == {"all": DATA, "part": DATA[middle : middle + 300_000], "none": b""}
    assert blob.wanted == []


async def test_a_reader_gets_bytes_before_the_end(blob: PartialBlob) -> None:
    await fill(blob, 0, 1)
    async with blob.read() as blocks:
        assert await anext(aiter(blocks)) == DATA[: MANIFEST.offset(2)]


async def test_readers_outlive_completion(blob: PartialBlob, store: FileStore) -> None:
    async with blob.read() as blocks:
        await fill(blob)
        await blob.complete(store)
        await store.delete(MANIFEST.blob)
        assert b"".join([block async for block in blocks]) == DATA
    with pytest.raises(NoHolderError):
        await drain(blob)
    with pytest.raises(NoHolderError):
        await blob.bytes_here(0, 1)


async def test_bytes_here(blob: PartialBlob) -> None:
    await fill(blob, 2)
    start, stop = MANIFEST.offset(2), MANIFEST.offset(3)
    assert await blob.bytes_here(start + 1, stop) == DATA[start + 1 : stop]
    with pytest.raises(NoHolderError):
        await blob.bytes_here(start, stop + 1)


async def test_progress(blob: PartialBlob) -> None:
    before = blob.progress
    await fill(blob, 4)
    assert before.is_set()
    assert not blob.progress.is_set()


@pytest.mark.parametrize("delete", [True, False])
async def test_abandoning_fails_readers_and_writers(
    blob: PartialBlob, partials: Partials, delete: bool
) -> None:
    caught: list[Exception] = []

    async def reader() -> None:
        with pytest.raises(UnavailableError, match="holder left") as error:
            await drain(blob)
        caught.append(error.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        await blob.abandon(UnavailableError("the last holder left"), delete=delete)
        await blob.abandon()
    assert len(caught) == 1
    with pytest.raises(UnavailableError):
        await blob.write(0, chunk(0))
    with pytest.raises(UnavailableError):
        await drain(blob)
    assert bool(list(partials.root.iterdir())) != delete


async def test_resumed_fetches_are_hashed_from_the_start(
    partials: Partials, store: FileStore
) -> None:
    await fill(await partials.open(MANIFEST), *range(COUNT - 1))
    await partials.close()
    blob = await partials.open(MANIFEST)
    await fill(blob)
    await blob.complete(store)
    assert await store.verify(MANIFEST.blob)


async def test_much_data_is_flushed_unasked(
    blob: PartialBlob, partials: Partials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "FLUSH_SIZE", 1)
    (have,) = partials.root.glob("*/have")
    before = have.read_bytes()
    await fill(blob, 0)
    assert have.read_bytes() != before


async def test_a_disk_that_loses_writes_takes_the_chunks_back(
    blob: PartialBlob, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fdatasync could not write may be gone from the page cache as well."""
    await fill(blob, 0)
    await blob.flush()
    await fill(blob, 1, 2)

    def refuse(fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        with pytest.raises(StoreFullError):
            await blob.flush()
    assert [index for index in range(COUNT) if blob.have(index)] == [0]
    await fill(blob)
    await blob.complete(store)
    assert await store.verify(MANIFEST.blob)


async def test_a_bitmap_that_does_not_fit_is_written_later(
    blob: PartialBlob, partials: Partials, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(blob, 1)

    def refuse(target: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "replace_file", refuse)
        with pytest.raises(StoreFullError):
            await blob.flush()
    assert blob.have(1)
    await blob.flush()
    again = await Partials(partials.root).open(MANIFEST)
    assert again.have(1)
    await again.close()


async def test_a_full_store_leaves_the_partial_complete(blob: PartialBlob) -> None:
    await fill(blob)
    with pytest.raises(StoreFullError):
        await blob.complete(MemoryStore(capacity=10))
    store = MemoryStore()
    await blob.complete(store)
    assert await get(store, MANIFEST.blob) == DATA


@dataclass(frozen=True)
class Known:
    blob: Digest
    offset: int


class KnownChunks(Index):
    """An index over one blob's manifest."""

    def __init__(self, manifest: Manifest, shift: int = 0) -> None:
        self.known = {
            one.sha256: Known(manifest.blob, manifest.offset(index) + shift)
            for index, one in enumerate(manifest.chunks)
        }

    async def find(self, sha256s: Sequence[bytes]) -> Mapping[bytes, Known]:
        await trio.lowlevel.checkpoint()
        return {one: self.known[one] for one in sha256s if one in self.known}


async def test_chunks_of_an_older_version_are_copied(blob: PartialBlob, store: FileStore) -> None:
    older = await put(store, DATA[:1_000_000] + b"changed" + DATA[1_100_000:])
    copied = await blob.copy_known(KnownChunks(older.manifest), store)
    assert copied == COUNT - len(blob.missing)
    assert 0 < len(blob.missing) <= 4
    await fill(blob)
    await blob.complete(store)
    assert await get(store, MANIFEST.blob) == DATA


async def test_sources_that_lie_or_are_gone_cost_nothing(
    blob: PartialBlob, store: FileStore
) -> None:
    older = await put(store, DATA[:-1])
    assert await blob.copy_known(KnownChunks(older.manifest, shift=1), store) == 0
    await store.delete(older.digest)
    assert await blob.copy_known(KnownChunks(older.manifest), store) == 0
    assert len(blob.missing) == COUNT


async def test_many_writers_at_once(blob: PartialBlob, store: FileStore) -> None:
    async def writer(indexes: Sequence[int]) -> None:
        for index in indexes:
            await blob.write(index, chunk(index))

    async with trio.open_nursery() as nursery:
        for first in range(4):
            nursery.start_soon(writer, range(first, COUNT, 4))
            nursery.start_soon(writer, range(COUNT - 1 - first, -1, -3))
    await blob.complete(store)
    assert hashlib.sha256(await get(store, MANIFEST.blob)).digest() == MANIFEST.blob.raw
