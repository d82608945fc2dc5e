from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from store.errors import StoreFullError
from store.partials import Partials
from tests.store.blob_contract import noise
from tests.store.partial_blobs import COUNT, MANIFEST, drain, fill, manifest_of


@pytest.fixture
def partials(tmp_path: Path) -> Partials:
    (tmp_path / "partial").mkdir()
    return Partials(tmp_path / "partial")


async def test_a_fetch_is_shared_while_open_and_resumed_afterwards(partials: Partials) -> None:
    blob = await partials.open(MANIFEST)
    assert await partials.open(MANIFEST) is blob
    assert partials.current(MANIFEST.blob) is blob
    await fill(blob, 0, 3)
    await partials.close()
    assert partials.current(MANIFEST.blob) is None
    again = await partials.open(MANIFEST)
    assert again is not blob
    assert list(again.missing) == [one for one in range(COUNT) if one not in (0, 3)]
    await partials.close()


async def test_one_that_is_left_is_resumed(partials: Partials) -> None:
    blob = await partials.open(MANIFEST)
    await fill(blob, 0, 3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partials.leave, blob)
        again = await partials.open(MANIFEST)
    if again is blob:  # it came first
        again = await partials.open(MANIFEST)
    assert not blob.active
    assert again.active
    assert list(again.missing) == [one for one in range(COUNT) if one not in (0, 3)]
    await partials.close()


async def test_the_service_flushes_by_time(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    partials = Partials(tmp_path / "partial", flush_seconds=0.001)
    blob = await partials.open(MANIFEST)
    await fill(blob, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partials.run)
        with trio.fail_after(5):
            while blob._unsaved:  # noqa: ASYNC110  flushing tells nobody
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    await partials.close()


async def test_the_service_abandons_what_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "partial").mkdir()
    partials = Partials(tmp_path / "partial", flush_seconds=0.001)
    blob = await partials.open(MANIFEST)
    await fill(blob, 0)

    def refuse(fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fdatasync", refuse)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partials.run)
        with trio.fail_after(5), pytest.raises(StoreFullError):
            await drain(blob, MANIFEST.offset(1))
        nursery.cancel_scope.cancel()


async def test_loading_lists_what_can_be_resumed_and_sweeps_the_rest(partials: Partials) -> None:
    blob = await partials.open(MANIFEST)
    await fill(blob, 0)
    await partials.close()
    (folder,) = partials.root.iterdir()
    (partials.root / "stray").mkdir()
    (partials.root / f"{'0' * 64}-{'0' * 16}").mkdir()
    (partials.root / f"{'0' * 64}-{'0' * 16}" / "manifest").write_bytes(b"\xc1")
    assert await Partials(partials.root).load() == [MANIFEST]
    assert list(partials.root.iterdir()) == [folder]


async def test_loading_makes_the_folder(tmp_path: Path) -> None:
    assert await Partials(tmp_path / "a" / "b").load() == []


async def test_stale_partials_are_collected_unless_open(partials: Partials) -> None:
    await partials.open(MANIFEST)
    other = await partials.open(manifest_of(noise(300 << 10, seed=2)))
    assert await partials.collect(older=4e9) == 0
    await other.close()
    assert await partials.collect(older=0.0) == 0
    assert await partials.collect(older=4e9) == 1
    assert len(list(partials.root.iterdir())) == 1
    await partials.close()
