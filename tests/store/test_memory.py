from __future__ import annotations

import pytest

from store.errors import StoreFullError
from store.memory import MemoryStore
from tests.store.blob_contract import BlobStoreContract, everything, get, put


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class TestMemoryStore(BlobStoreContract):
    pass


async def test_a_full_store_refuses_and_keeps_what_it_has() -> None:
    store = MemoryStore(capacity=10)
    first = await put(store, b"12345678")
    with pytest.raises(StoreFullError):
        await put(store, b"abc")
    assert await everything(store.digests()) == [first.digest]
    await store.delete(first.digest)
    second = await put(store, b"abc")
    assert await get(store, second.digest) == b"abc"


async def test_the_clock_dates_the_blobs() -> None:
    store = MemoryStore(clock=lambda: 17.0)
    stored = await put(store, b"x")
    assert [holding.modified for holding in await store.shard(stored.digest.hex[:2])] == [17.0]
