"""A disk that is really full: a small tmpfs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.errors import ReadOnlyError, StoreFullError
from store.files import FileStore
from store.intake import Intake
from store.partials import Partials
from tests.store.blob_contract import MIB, everything, get, noise, put

SIZE = 8 * MIB


def mount(folder: Path, options: str) -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")


def remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, f"size={SIZE}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_is_told_and_recovers(disk: Path) -> None:
    store = FileStore(disk)
    await store.open()
    first = await put(store, noise(5 * MIB))
    for size in (4 * MIB, 12 * MIB, 4 * MIB):
        with pytest.raises(StoreFullError):
            await put(store, noise(size, seed=2))
    filler = (disk / "filler").open("wb")
    with pytest.raises(OSError, match="No space"), filler:
        filler.write(noise(4 * MIB))
    with pytest.raises(StoreFullError):
        await put(store, noise(300_000, seed=3))
    assert list(store.temporary.iterdir()) == []
    assert await everything(store.digests()) == [first.digest]
    assert await get(store, first.digest) == noise(5 * MIB)
    (disk / "filler").unlink()
    await store.delete(first.digest)
    second = await put(store, noise(4 * MIB, seed=2))
    assert await store.verify(second.digest)


async def test_a_fetch_onto_a_full_disk_is_told_and_goes_on(disk: Path) -> None:
    store, partials = FileStore(disk), Partials(disk / "partial")
    await store.open()
    await partials.load()
    hog = await put(store, noise(5 * MIB))
    data = noise(6 * MIB, seed=2)
    intake = Intake()
    intake.update(memoryview(data))
    manifest = intake.finish().manifest
    blob = await partials.open(manifest)

    async def fill() -> None:
        for index in list(blob.missing):
            await blob.write(index, data[manifest.offset(index) : manifest.offset(index + 1)])

    with pytest.raises(StoreFullError):
        await fill()
    arrived = len(manifest.chunks) - len(blob.missing)
    assert arrived > 5
    await store.delete(hog.digest)
    await fill()
    await blob.complete(store)
    assert await store.verify(manifest.blob)


async def test_a_read_only_disk_is_told_and_still_serves(disk: Path) -> None:
    store = FileStore(disk)
    await store.open()
    stored = await put(store, noise(100_000))
    remount(disk, "ro")
    for size in (10, 2 * MIB):
        with pytest.raises(ReadOnlyError):
            await put(store, noise(size, seed=2))
    with pytest.raises(ReadOnlyError):
        await store.delete(stored.digest)
    again = FileStore(disk)
    await again.open()
    assert await get(again, stored.digest) == noise(100_000)
    remount(disk, "rw")
    await put(store, noise(2 * MIB, seed=2))
