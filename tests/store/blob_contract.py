"""What every BlobStore must do.  A back end's test module subclasses BlobStoreContract.

It gives a ``store`` fixture: an opened, empty store.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
import trio

from store.blobs import BlobStore, Ingested
from store.chunks import Manifest
from store.digest import Digest
from store.errors import BlobUnknownError, DigestMismatchError
from store.holdings import Holding

MIB = 1 << 20
SIZES = (0, 1, 1000, 256 << 10, (256 << 10) + 1, MIB, MIB + 1, 5 * MIB + 7)


class Store(BlobStore, Protocol):
    """What the node's services use beside the BlobStore protocol."""

    async def open(self) -> None: ...
    async def shard(self, prefix: str) -> list[Holding]: ...
    async def verify(self, digest: Digest) -> bool: ...
    async def expire(self, digest: Digest, published: float) -> bool: ...
    def pin(self, digest: Digest): ...
    def pinned(self) -> frozenset[Digest]: ...


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def put(store: BlobStore, data: bytes, step: int = 65536, **options: object) -> Ingested:
    async with store.ingest(**options) as incoming:
        for start in range(0, len(data), step):
            await incoming.write(data[start : start + step])
    return incoming.result


async def get(store: BlobStore, digest: Digest, **span: int) -> bytes:
    async with store.read(digest, **span) as blocks:
        return b"".join([block async for block in blocks])


async def fail(store: BlobStore, data: bytes) -> None:
    """Write, then leave the ingest by a ZeroDivisionError."""
    async with store.ingest() as incoming:
        await incoming.write(data)
        raise ZeroDivisionError


async def everything(digests: AsyncIterator[Digest]) -> list[Digest]:
    return sorted([digest async for digest in digests])


class BlobStoreContract:
    @pytest.mark.parametrize("size", SIZES)
    async def test_what_went_in_comes_out(self, store: Store, size: int) -> None:
        data = noise(size)
        stored = await put(store, data)
        assert stored.digest == Digest.of(data)
        assert stored.size == size
        assert stored.checksums == {"sha256": stored.digest.hex}
        assert await store.has(stored.digest)
        assert await store.size(stored.digest) == size
        assert await get(store, stored.digest) == data
        assert await store.verify(stored.digest)

    async def test_its_manifest_describes_the_bytes(self, store: Store) -> None:
        data = noise(3 * MIB)
        stored = await put(store, data, step=70_001)
        again = Manifest.decode(stored.manifest.encode())
        assert again == stored.manifest
        for index, chunk in enumerate(stored.manifest.chunks):
            start = stored.manifest.offset(index)
            assert hashlib.sha256(data[start : start + chunk.length]).digest() == chunk.sha256

    async def test_the_split_of_the_writes_changes_nothing(self, store: Store) -> None:
        data = noise(2 * MIB + 5)
        results = [await put(store, data, step=step) for step in (4099, MIB - 1, len(data))]
        assert results[0] == results[1] == results[2]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    async def test_any_buffer_may_be_written_and_reused(self, store: Store, kind: type) -> None:
        data = bytearray(noise(2 * MIB))
        digest = Digest.of(bytes(data))
        async with store.ingest(digest) as incoming:
            await incoming.write(kind(data))
            assert incoming.size == len(data)
            data[:] = bytes(len(data))
        assert incoming.result.digest == digest

    async def test_checksums_beside_sha256(self, store: Store) -> None:
        data = noise(MIB + 3)
        stored = await put(store, data, checksums=("md5", "sha1", "sha512", "blake2b"))
        for name in ("md5", "sha1", "sha256", "sha512", "blake2b"):
            assert stored.checksums[name] == hashlib.new(name, data).hexdigest()

    @pytest.mark.parametrize("size", [100, 3 * MIB])
    async def test_other_bytes_than_expected_are_refused(self, store: Store, size: int) -> None:
        expected = Digest.of(b"something else")
        with pytest.raises(DigestMismatchError) as caught:
            await put(store, noise(size), expected=expected)
        assert caught.value.expected == expected
        assert caught.value.actual == Digest.of(noise(size))
        assert await everything(store.digests()) == []

    async def test_a_sha512_may_be_expected_too(self, store: Store) -> None:
        data = noise(1000)
        right = Digest("sha512", hashlib.sha512(data).hexdigest())
        stored = await put(store, data, expected=right)
        assert stored.digest == Digest.of(data)
        assert stored.checksums["sha512"] == right.hex
        with pytest.raises(DigestMismatchError):
            await put(store, b"other", expected=right)

    async def test_there_is_no_result_before_the_end(self, store: Store) -> None:
        async with store.ingest() as incoming:
            await incoming.write(b"abc")
            with pytest.raises(RuntimeError):
                _ = incoming.result
            assert not await store.has(Digest.of(b"abc"))
        assert incoming.result.size == 3

    @pytest.mark.parametrize("size", [100, 3 * MIB])
    async def test_an_exception_discards(self, store: Store, size: int) -> None:
        with pytest.raises(ZeroDivisionError):
            await fail(store, noise(size))
        assert await everything(store.digests()) == []

    @pytest.mark.parametrize("size", [100, 9 * MIB])
    async def test_cancellation_discards(self, store: Store, size: int) -> None:
        with trio.CancelScope() as scope:
            async with store.ingest() as incoming:
                await incoming.write(noise(size))
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert await everything(store.digests()) == []

    async def test_twice_is_not_an_error(self, store: Store) -> None:
        first = await put(store, b"twice")
        assert await put(store, b"twice") == first
        assert await everything(store.digests()) == [first.digest]

    async def test_several_at_once(self, store: Store) -> None:
        blobs = [noise(2 * MIB + n, seed=n) for n in range(4)]
        async with trio.open_nursery() as nursery:
            for data in blobs:
                nursery.start_soon(put, store, data)
        assert await everything(store.digests()) == sorted(map(Digest.of, blobs))
        for data in blobs:
            assert await get(store, Digest.of(data)) == data

    @pytest.mark.parametrize(
        ("start", "stop"), [(0, None), (10, 20), (5, 5), (MIB - 1, MIB + 1), (2 * MIB, 9 * MIB)]
    )
    async def test_ranges(self, store: Store, start: int, stop: int | None) -> None:
        data = noise(2 * MIB + 100)
        stored = await put(store, data)
        assert await get(store, stored.digest, start=start, stop=stop) == data[start:stop]

    async def test_reading_may_stop_half_way(self, store: Store) -> None:
        stored = await put(store, noise(3 * MIB))
        async with store.read(stored.digest) as blocks:
            async for _ in blocks:
                break
        assert stored.digest not in store.pinned()

    async def test_an_unknown_blob(self, store: Store) -> None:
        digest = Digest.of(b"nobody has this")
        assert not await store.has(digest)
        assert store.path(digest) is None
        with pytest.raises(BlobUnknownError):
            await store.size(digest)
        with pytest.raises(BlobUnknownError):
            await get(store, digest)
        with pytest.raises(BlobUnknownError):
            await store.verify(digest)
        await store.delete(digest)

    async def test_a_path_leads_to_the_bytes(self, store: Store) -> None:
        stored = await put(store, b"zero copy")
        path = store.path(stored.digest)
        assert path is None or path.read_bytes() == b"zero copy"

    async def test_adopting_a_file_consumes_it(self, store: Store, tmp_path: Path) -> None:
        data = noise(MIB + 1)
        file = tmp_path / "whole"
        file.write_bytes(data)
        await store.adopt(file, Digest.of(data))
        assert not file.exists()
        assert await get(store, Digest.of(data)) == data

    async def test_keeping_many_small_blobs_at_once(self, store: Store) -> None:
        blobs = [noise(size, seed=size) for size in range(1, 100)]
        async with trio.open_nursery() as nursery:
            for data in [*blobs, blobs[0]]:  # one of them twice
                nursery.start_soon(store.keep, data, Digest.of(data))
        for data in blobs:
            assert await get(store, Digest.of(data)) == data
        assert len(await everything(store.digests())) == len(blobs)

    async def test_deleting(self, store: Store) -> None:
        stored = await put(store, noise(3 * MIB))
        await store.delete(stored.digest)
        assert not await store.has(stored.digest)
        assert await everything(store.digests()) == []

    async def test_open_readers_keep_their_bytes_and_pin_them(self, store: Store) -> None:
        data = noise(3 * MIB)
        stored = await put(store, data)
        async with store.read(stored.digest) as blocks:
            assert stored.digest in store.pinned()
            await store.delete(stored.digest)
            assert b"".join([block async for block in blocks]) == data
        assert stored.digest not in store.pinned()

    async def test_expiring_spares_what_is_pinned_or_young(self, store: Store) -> None:
        stored = await put(store, b"old")
        (holding,) = await store.shard(stored.digest.hex[:2])
        with store.pin(stored.digest):
            assert not await store.expire(stored.digest, holding.modified + 1)
        assert not await store.expire(stored.digest, holding.modified - 1)
        assert await store.has(stored.digest)
        assert await store.expire(stored.digest, holding.modified)
        assert not await store.has(stored.digest)
        assert await store.expire(stored.digest, holding.modified)

    async def test_pins_nest(self, store: Store) -> None:
        digest = Digest.of(b"x")
        with store.pin(digest):
            with store.pin(digest):
                pass
            assert store.pinned() == {digest}
        assert store.pinned() == frozenset()

    async def test_walking_finds_every_blob_in_its_shard(self, store: Store) -> None:
        stored = [await put(store, bytes([n])) for n in range(40)]
        digests = sorted(one.digest for one in stored)
        assert await everything(store.digests()) == digests
        for digest in digests[:3]:
            holdings = await store.shard(digest.hex[:2])
            assert digest in {holding.digest for holding in holdings}
            assert {holding.size for holding in holdings} == {1}
            assert all(holding.modified > 0 for holding in holdings)
