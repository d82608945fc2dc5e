"""A blob of one chunk on its way needs no folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from store.errors import DigestMismatchError, StoreFullError
from store.files import FileStore
from store.partials import Partials
from tests.store.blob_contract import get, noise
from tests.store.partial_blobs import drain, manifest_of

DATA = noise(20_000, seed=4)
MANIFEST = manifest_of(DATA)


@pytest.fixture
def partials(tmp_path: Path) -> Partials:
    return Partials(tmp_path / "partial")


@pytest.fixture
async def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path / "store")
    await store.open()
    return store


async def test_it_touches_the_disk_once_it_is_whole(partials: Partials, store: FileStore) -> None:
    blob = await partials.open(MANIFEST)
    with pytest.raises(DigestMismatchError):
        await blob.write(0, DATA[:-1])
    assert await blob.write_runs([(0, 1, b"x" * len(DATA))]) == [0]
    assert await blob.write(0, DATA)
    await blob.flush()
    assert not partials.root.exists()
    assert await blob.bytes_here(5, 9) == DATA[5:9]
    assert await drain(blob, 100) == DATA[100:]
    ingested = await blob.complete(store)
    assert ingested.manifest == MANIFEST
    assert await get(store, MANIFEST.blob) == DATA
    assert not partials.root.exists()
    assert not blob.active


async def test_a_full_disk_can_be_tried_again(
    partials: Partials, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = await partials.open(MANIFEST)
    await blob.write(0, DATA)

    def refuse(fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreFullError):
            await blob.complete(store)
    assert blob.active
    await blob.complete(store)
    assert await get(store, MANIFEST.blob) == DATA


async def test_what_an_older_version_left_is_swept(partials: Partials) -> None:
    partials.root.mkdir()
    left = partials.root / f"{MANIFEST.blob.hex}-{MANIFEST.id.hex()[:16]}"
    left.write_bytes(DATA)
    assert await partials.load() == []
    assert not left.exists()
