from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from store import disk
from store.digest import Digest
from store.errors import ReadOnlyError, StoreFullError, UnavailableError
from store.files import FileStore
from tests.store.blob_contract import MIB, BlobStoreContract, everything, fail, get, noise, put


@pytest.fixture
async def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path / "data")
    await store.open()
    return store


class TestFileStore(BlobStoreContract):
    pass


async def test_a_blob_is_a_plain_file_named_by_its_digest(store: FileStore) -> None:
    stored = await put(store, b"plain")
    file = store.root / "blobs" / stored.digest.hex[:2] / stored.digest.hex
    assert file.read_bytes() == b"plain"
    assert file.stat().st_mode & 0o777 == 0o644
    assert store.path(stored.digest) == file


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_no_temporary_file_outlives_an_ingest(store: FileStore, size: int) -> None:
    await put(store, noise(size))
    with pytest.raises(ZeroDivisionError):
        await fail(store, noise(size))
    assert list(store.temporary.iterdir()) == []


async def test_opening_sweeps_what_a_crash_left(store: FileStore) -> None:
    stored = await put(store, b"kept")
    (store.temporary / "left").write_bytes(b"half a blob")
    again = FileStore(store.root)
    await again.open()
    assert list(again.temporary.iterdir()) == []
    assert await get(again, stored.digest) == b"kept"


async def test_foreign_files_are_no_blobs(store: FileStore) -> None:
    stored = await put(store, b"one")
    folder = store.locate(stored.digest).parent
    (folder / "README").write_text("not a blob")
    assert await everything(store.digests()) == [stored.digest]


async def test_other_algorithms_are_not_looked_up(store: FileStore) -> None:
    assert store.path(Digest("sha512", "ab" * 64)) is None
    assert store.descriptor(Digest("sha512", "ab" * 64)) is None


async def test_a_descriptor_outlives_the_blobs_name(store: FileStore) -> None:
    stored = await put(store, b"kept open")
    assert store.descriptor(Digest.of(b"not here")) is None
    descriptor = store.descriptor(stored.digest)
    assert descriptor is not None
    try:
        store.locate(stored.digest).unlink()
        assert os.pread(descriptor, 100, 0) == b"kept open"
    finally:
        os.close(descriptor)


async def test_verify_notices_a_changed_byte(store: FileStore) -> None:
    stored = await put(store, noise(2 * MIB))
    with store.locate(stored.digest).open("r+b") as file:
        file.seek(MIB)
        file.write(b"\0\0\0\0")
    assert not await store.verify(stored.digest)


async def test_publishing_again_renews_the_age(store: FileStore) -> None:
    stored = await put(store, b"old")
    os.utime(store.locate(stored.digest), (1.0, 1.0))
    assert [one.modified for one in await store.shard(stored.digest.hex[:2])] == [1.0]
    await put(store, b"old")
    assert [one.modified > 1.0 for one in await store.shard(stored.digest.hex[:2])] == [True]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EROFS, ReadOnlyError),
        (errno.EACCES, ReadOnlyError),
        (errno.EIO, UnavailableError),
    ],
)
@pytest.mark.parametrize("size", [10, 4 * MIB])
async def test_a_disk_that_refuses_is_told_and_forgiven(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, code: int, kind: type, size: int
) -> None:
    """The write fails, in a worker thread; nothing is left, and the next attempt succeeds."""

    def refuse(fd: int, data: memoryview, offset: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_all", refuse)
        with pytest.raises(kind) as caught:
            await put(store, noise(size))
        assert type(caught.value) is kind
    assert list(store.temporary.iterdir()) == []
    assert await everything(store.digests()) == []
    stored = await put(store, noise(size))
    assert await store.verify(stored.digest)


async def test_a_disk_that_refuses_one_of_many_small_blobs(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = [bytes([number]) * 100 for number in range(8)]
    bad, sync, refused = blobs[5], os.fsync, list[bytes]()

    def refuse(fd: int) -> None:
        if os.fstat(fd).st_size == 100 and Path(f"/proc/self/fd/{fd}").read_bytes() == bad:
            raise OSError(errno.ENOSPC, "no space")
        sync(fd)

    async def keep(data: bytes) -> None:
        try:
            await store.keep(data, Digest.of(data))
        except StoreFullError:
            refused.append(data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        async with trio.open_nursery() as nursery:
            for data in blobs:
                nursery.start_soon(keep, data)
    assert refused == [bad]
    assert [data for data in blobs if not await store.has(Digest.of(data))] == [bad]
    assert list(store.temporary.iterdir()) == []
    await store.keep(bad, Digest.of(bad))
    assert await store.has(Digest.of(bad))


async def test_adopting_across_file_systems(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "elsewhere"
    file.write_bytes(b"from another disk")
    publish = store.publish

    def publish_within(temporary: Path, target: Path) -> None:
        if temporary == file:
            raise OSError(errno.EXDEV, "cross-device link")
        publish(temporary, target)

    monkeypatch.setattr(store, "publish", publish_within)
    await store.adopt(file, Digest.of(b"from another disk"))
    assert not file.exists()
    assert list(store.temporary.iterdir()) == []
    assert await get(store, Digest.of(b"from another disk")) == b"from another disk"
