from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store import disk
from store.partial import PartialBlob
from store.partials import Partials
from tests.store.partial_blobs import COUNT, MANIFEST, fill


@pytest.fixture
def partials(tmp_path: Path) -> Partials:
    (tmp_path / "partial").mkdir()
    return Partials(tmp_path / "partial")


@pytest.fixture
async def blob(partials: Partials) -> AsyncIterator[PartialBlob]:
    blob = await partials.open(MANIFEST)
    yield blob
    await partials.close()


def crashed(partials: Partials) -> Partials:
    """Look at the same folder as another process would after kill -9 of this one."""
    return Partials(partials.root)


async def test_after_a_crash_claims_hold_and_unclaimed_bytes_are_found(
    blob: PartialBlob, partials: Partials
) -> None:
    await fill(blob, 1, 2)
    await blob.flush()
    await fill(blob, 5, 6, 7)
    (data,) = partials.root.glob("*/data")
    with data.open("r+b") as file:  # chunk 6 was under way
        file.seek(MANIFEST.offset(6) + 100)
        file.write(b"torn")
    again = await crashed(partials).open(MANIFEST)
    assert [index for index in range(COUNT) if again.have(index)] == [1, 2, 5, 7]
    await again.close()


async def test_after_a_crash_the_last_claims_are_hashed_again(
    blob: PartialBlob, partials: Partials
) -> None:
    """A disk that lied about its sync: the older claim is trusted, the last one is not."""
    await fill(blob, 0)
    await blob.flush()
    await fill(blob, 2, 3)
    await blob.flush()
    (data,) = partials.root.glob("*/data")
    with data.open("r+b") as file:
        file.seek(MANIFEST.offset(3))
        file.write(b"lost")
    again = await crashed(partials).open(MANIFEST)
    assert [index for index in range(COUNT) if again.have(index)] == [0, 2]
    await again.close()


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
async def test_a_damaged_bitmap_costs_hashing_only(
    blob: PartialBlob, partials: Partials, damage: bytes | None
) -> None:
    await fill(blob, 0, 4)
    await blob.flush()
    (have,) = partials.root.glob("*/have")
    have.write_bytes(damage) if damage is not None else have.unlink()
    again = await crashed(partials).open(MANIFEST)
    assert [index for index in range(COUNT) if again.have(index)] == [0, 4]
    await again.close()


async def test_bytes_become_durable_before_they_are_claimed(
    blob: PartialBlob, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fdatasync, disk.replace_file

    def note_sync(fd: int) -> None:
        order.append("sync")
        sync(fd)

    def note_claim(target: Path, data: bytes) -> None:
        order.append("claim")
        replace(target, data)

    monkeypatch.setattr(os, "fdatasync", note_sync)
    monkeypatch.setattr(disk, "replace_file", note_claim)
    await fill(blob, 0)
    assert order == []
    await blob.flush()
    await blob.flush()
    assert order == ["sync", "claim"]
