"""Readers of a blob on its way: places in its file, as they come."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from store.digest import Digest
from store.errors import NoHolderError
from store.files import FileStore
from store.partial import PartialBlob
from store.partials import Partials
from tests.store.partial_blobs import COUNT, DATA, MANIFEST, chunk, fill, manifest_of


@pytest.fixture
async def blob(tmp_path: Path) -> AsyncIterator[PartialBlob]:
    partials = Partials(tmp_path / "partial")
    yield await partials.open(MANIFEST)
    await partials.close()


async def copied(blob: PartialBlob, start: int = 0, stop: int | None = None) -> bytes:
    """Copy a range as the kernel would."""
    async with blob.spans(start, stop) as found:
        assert found is not None
        file, spans = found
        parts: list[bytes] = []
        at = start
        async for offset, count in spans:
            assert (offset, count > 0) == (at, True)
            parts.append(os.pread(file, count, offset))
            at += count
        return b"".join(parts)


async def test_what_is_here_comes_at_once_and_the_rest_as_it_arrives(blob: PartialBlob) -> None:
    found: dict[str, bytes] = {}

    async def reader(name: str, start: int, stop: int | None) -> None:
        found[name] = await copied(blob, start, stop)

    middle = MANIFEST.offset(3) + 7
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader, "all", 0, None)
        nursery.start_soon(reader, "part", middle, middle + 300_000)
        nursery.start_soon(reader, "none", 5, 5)
        await trio.testing.wait_all_tasks_blocked()
        assert blob.wanted == [0, 3]
        for index in reversed(range(COUNT)):
            await blob.write(index, chunk(index))
    assert found == {"all": DATA, "part": DATA[middle : middle + 300_000], "none": b""}
    assert blob.wanted == []


async def test_a_crowd_is_not_woken_for_every_chunk(blob: PartialBlob) -> None:
    spans: list[tuple[int, int]] = []

    async def reader() -> None:
        async with blob.spans() as found:
            assert found is not None
            spans.extend([span async for span in found[1]])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        await fill(blob, *range(COUNT))
    assert len(spans) < COUNT
    assert sum(count for _, count in spans) == len(DATA)


async def test_readers_outlive_completion(blob: PartialBlob, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    await store.open()
    async with blob.spans() as found:
        assert found is not None
        await fill(blob)
        await blob.complete(store)
        await store.delete(MANIFEST.blob)
        file, spans = found
        assert b"".join([os.pread(file, n, at) async for at, n in spans]) == DATA
    with pytest.raises(NoHolderError):
        await copied(blob)


async def test_a_fetch_that_is_given_up_fails_its_readers(blob: PartialBlob) -> None:
    await fill(blob, 0)
    async with blob.spans() as found:
        assert found is not None
        file, spans = found
        assert await anext(spans) == (0, MANIFEST.offset(1))
        await blob.abandon(NoHolderError("gone"))
        with pytest.raises(NoHolderError, match="gone"):
            await anext(spans)
        assert os.pread(file, 10, 0) == DATA[:10]


async def test_a_small_blob_has_no_file(tmp_path: Path) -> None:
    data = b"small" * 100
    partials = Partials(tmp_path / "partial")
    small = await partials.open(manifest_of(data))
    assert small.manifest.blob == Digest.of(data)
    async with small.spans() as found:
        assert found is None
    await partials.close()
