from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from store.digest import Digest
from store.errors import (
    BlobUnknownError,
    DigestMismatchError,
    ReadOnlyError,
    StoreFullError,
    UnavailableError,
)
from store.s3 import S3Store
from store.s3_client import Multipart, part_size
from tests.store.blob_contract import MIB, BlobStoreContract, everything, fail, get, noise, put

server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
pytestmark = pytest.mark.slow
NAMES = itertools.count()
BIG = 17 * MIB  # three parts


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


def connect(endpoint: str, bucket: str, prefix: str):
    return S3Store.open(
        bucket=bucket,
        prefix=prefix,
        endpoint=endpoint,
        region="us-east-1",
        access_key="test",
        secret_key="test",
    )


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> str:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="island")
    return "island"


@pytest.fixture
async def store(endpoint: str, bucket: str) -> AsyncIterator[S3Store]:
    store = await connect(endpoint, bucket, f"node{next(NAMES)}")
    yield store
    store.executor.shutdown()
    store.bucket.client.close()


class TestS3Store(BlobStoreContract):
    pass


def keys(store: S3Store) -> list[str]:
    return [one.key for one in store.bucket.list(store._prefix)]


def uploads(store: S3Store) -> list[object]:
    found = store.bucket.client.list_multipart_uploads(
        Bucket=store.bucket.name, Prefix=store._prefix
    )
    return found.get("Uploads", [])


@pytest.mark.parametrize("known", [True, False])
async def test_large_blobs_go_up_in_parts(store: S3Store, known: bool) -> None:
    data = noise(BIG)
    digest = Digest.of(data)
    stored = await put(store, data, expected=digest if known else None)
    assert stored.digest == digest
    assert keys(store) == [store.key(digest)]
    assert uploads(store) == []
    assert await get(store, digest, start=BIG - 100) == data[-100:]
    assert await store.verify(digest)


async def test_nothing_is_visible_before_it_is_verified(store: S3Store) -> None:
    data = noise(BIG)
    async with store.ingest(Digest.of(data)) as incoming:
        await incoming.write(data)
        await trio.to_thread.run_sync(lambda: None)
        assert keys(store) == []
        assert not await store.has(Digest.of(data))
    assert keys(store) == [store.key(Digest.of(data))]


@pytest.mark.parametrize("known", [True, False])
async def test_a_failed_upload_leaves_nothing(store: S3Store, known: bool) -> None:
    if known:
        with pytest.raises(DigestMismatchError):
            await put(store, noise(BIG), expected=Digest.of(b"other"))
    else:
        with pytest.raises(ZeroDivisionError):
            await fail(store, noise(BIG))
    assert keys(store) == []
    assert uploads(store) == []


async def test_opening_sweeps_what_a_crash_left(store: S3Store, endpoint: str, bucket: str) -> None:
    kept = await put(store, b"kept")
    Multipart.begin(store.bucket, store.key(Digest.of(b"x"))).add(b"part")
    store.bucket.put(store.temporary + "left", b"half")
    again = await connect(endpoint, bucket, store._prefix)
    assert keys(again) == [store.key(kept.digest)]
    assert uploads(again) == []
    again.bucket.client.close()


async def test_foreign_objects_are_no_blobs(store: S3Store) -> None:
    stored = await put(store, b"one")
    store.bucket.put(f"{store.blobs}{stored.digest.hex[:2]}/README", b"not a blob")
    assert await everything(store.digests()) == [stored.digest]


async def test_prefixes_keep_nodes_apart(store: S3Store, endpoint: str, bucket: str) -> None:
    stored = await put(store, b"mine")
    other = await connect(endpoint, bucket, "someone/else")
    assert not await other.has(stored.digest)
    other.bucket.client.close()


async def test_a_missing_bucket_is_told(endpoint: str) -> None:
    with pytest.raises(UnavailableError, match="no bucket"):
        await connect(endpoint, "nowhere", "")


async def test_publishing_waits_for_a_removal_under_way(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the removal could take the blob that was just acknowledged."""
    stored = await put(store, b"again")
    begun, go_on = trio.Event(), trio.Event()
    delete = store.delete

    async def slow(digest: Digest) -> None:
        begun.set()
        await go_on.wait()
        await delete(digest)

    monkeypatch.setattr(store, "delete", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.expire, stored.digest, 4e9)
        await begun.wait()
        assert not await store.has(stored.digest)
        with pytest.raises(BlobUnknownError):
            await get(store, stored.digest)
        nursery.start_soon(put, store, b"again")
        await trio.testing.wait_all_tasks_blocked(0.05)
        go_on.set()
    assert await get(store, stored.digest) == b"again"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDenied", ReadOnlyError),
        ("XMinioStorageFull", StoreFullError),
        ("SlowDown", UnavailableError),
        ("NoSuchKey", BlobUnknownError),
    ],
)
async def test_what_the_server_refuses_is_told(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, code: str, kind: type
) -> None:
    from botocore.exceptions import ClientError

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": code}}, "PutObject")

    with monkeypatch.context() as patch:
        patch.setattr(store.bucket.client, "put_object", refuse)
        with pytest.raises(kind) as caught:
            await put(store, b"refused")
        assert type(caught.value) is kind
    await put(store, b"refused")


async def test_an_unreachable_server_is_told(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import EndpointConnectionError

    def refuse(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="s3")

    monkeypatch.setattr(store.bucket.client, "get_object", refuse)
    with pytest.raises(UnavailableError):
        await get(store, Digest.of(b"x"))


def test_parts_grow_so_that_ten_thousand_suffice() -> None:
    sizes = [part_size(number) for number in range(1, 10_001)]
    assert min(sizes) >= 5 * MIB
    assert sum(sizes) > 250 << 30
    assert max(sizes) <= 64 * MIB
