"""A BlobStore in an S3 bucket: one object a blob, ``PREFIX/blobs/ab/abcd…``.

Bytes go up while they come in, in parts, and become visible only after they were verified: under
their own key when it is known beforehand, else under a temporary one and then moved on the server.
One node owns a prefix: what is unfinished below it when the store opens belongs to nobody.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from store.blobs import Ingested
from store.digest import Digest
from store.errors import BlobUnknownError, DigestInvalidError, RegistryError
from store.holdings import Holding, Pins, Walk
from store.intake import Intake
from store.lanes import Block, Lanes
from store.s3_client import PART_SIZE, Bucket, Multipart, s3_errors

READ_SIZE = 512 << 10  # bytes a reader gets at a time
THREADS_MAX = 32  # calls and uploads under way at once

T = TypeVar("T")


class S3Ingest:
    """Bytes on their way into an S3Store."""

    def __init__(self, store: S3Store, intake: Intake, expected: Digest | None) -> None:
        self._store, self._intake = store, intake
        self._known = expected if expected and expected.algorithm == "sha256" else None
        self._block = Block()
        self._lanes: Lanes | None = None
        self._held = bytearray()  # of the next part
        self._multipart: Multipart | None = None
        self._temporary: str | None = None
        self._result: Ingested | None = None
        self.size = 0

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``.  Raises StoreFullError, ReadOnlyError, UnavailableError."""
        rest = memoryview(data).cast("B")
        self.size += len(rest)
        while rest:
            if self._block.full:
                await self._turn()
            rest = self._block.fill(rest)
        await trio.lowlevel.checkpoint_if_cancelled()  # the source of the bytes yields often enough

    @property
    def result(self) -> Ingested:
        """What was stored; only once the block has been left cleanly."""
        if self._result is None:
            raise RuntimeError("the ingest has not been left cleanly")
        return self._result

    async def finish(self) -> None:
        """Verify and publish.  Raises DigestMismatchError, UnavailableError."""
        if self._lanes is None:
            self._held += self._block.view
            await self._store.in_thread(partial(self._intake.update, self._block.view))
        else:
            self._lanes.put(self._block)
            await self._lanes.join()
        ingested = await self._store.in_thread(self._intake.finish)
        async with self._store.publishing(ingested.digest):
            await self._store.in_thread(partial(self._publish, self._store.key(ingested.digest)))
        self._result = ingested

    async def close(self) -> None:
        """Drop what was not published."""
        if self._lanes is not None:
            await self._lanes.stop()
        if self._multipart is not None or self._temporary is not None:
            with trio.CancelScope(shield=True):
                await self._store.in_thread(self._discard)

    async def _turn(self) -> None:
        """Send the full block through the lanes, and get an empty one."""
        if self._lanes is None:
            self._lanes = Lanes(self._store.executor, [self._send, *self._intake.sinks])
            self._lanes.adopt(self._block)
        else:
            self._lanes.put(self._block)
        self._block = await self._lanes.free()

    def _send(self, data: memoryview) -> None:
        self._held += data
        if len(self._held) < (self._multipart.next_size if self._multipart else PART_SIZE):
            return
        if self._multipart is None:
            if self._known is None:
                key = self._temporary = self._store.temporary + uuid.uuid4().hex
            else:
                key = self._store.key(self._known)
            self._multipart = Multipart.begin(self._store.bucket, key)
        self._multipart.add(self._held)
        self._held = bytearray()

    def _publish(self, key: str) -> None:
        if self._multipart is None:
            self._store.bucket.put(key, self._held)
            return
        if self._held:
            self._multipart.add(self._held)
        self._multipart.complete()
        self._multipart = None
        if self._temporary is not None:
            self._store.bucket.move(self._temporary, key)
            self._temporary = None

    def _discard(self) -> None:
        if self._multipart is not None:
            self._multipart.abort()
        elif self._temporary is not None:
            with suppress(RegistryError):  # the next start sweeps what the network keeps
                self._store.bucket.delete(self._temporary)


class S3Blocks(AsyncIterator[bytes]):
    """A streaming body, block by block, read in a worker thread."""

    def __init__(self, store: S3Store, body: Any) -> None:
        self._store, self._body = store, body

    async def __anext__(self) -> bytes:
        block = await self._store.in_thread(self._read) if self._body is not None else b""
        if not block:
            raise StopAsyncIteration
        return block

    def _read(self) -> bytes:
        with s3_errors():
            return bytes(self._body.read(READ_SIZE))


class S3Store:
    """Immutable bytes as objects below ``prefix`` of a bucket.  Made by S3Store.open."""

    def __init__(self, bucket: Bucket, prefix: str = "") -> None:
        self.bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.blobs = self._prefix + "blobs/"
        self.temporary = self._prefix + "tmp/"
        self.executor = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="s3")
        self._limiter = trio.CapacityLimiter(THREADS_MAX)
        self._pins = Pins()
        self._doomed: dict[Digest, trio.Event] = {}  # being removed by expire()

    @classmethod
    async def open(
        cls,
        *,
        bucket: str,
        prefix: str = "",
        endpoint: str | None = None,
        region: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
    ) -> S3Store:
        """Connect, and sweep what unfinished ingests left.  Raises UnavailableError."""
        connect = partial(
            Bucket.connect,
            bucket,
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )
        store = cls(await trio.to_thread.run_sync(connect), prefix)
        await store.in_thread(lambda: store.bucket.sweep(store._prefix, store.temporary))
        return store

    async def size(self, digest: Digest) -> int:
        """Return the length in bytes.  Raises BlobUnknownError."""
        self._check(digest)
        return await self.in_thread(lambda: self.bucket.size(self.key(digest)))

    async def has(self, digest: Digest) -> bool:
        """Tell whether the blob is here."""
        try:
            await self.size(digest)
        except BlobUnknownError:
            return False
        return digest not in self._doomed

    def path(self, digest: Digest) -> Path | None:
        """Return None: there is no file."""
        return None

    @asynccontextmanager
    async def read(
        self, digest: Digest, *, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open bytes ``[start, stop)``.  While it is open, the blob is not collected."""
        with self._pins.hold(digest):
            self._check(digest)
            body = await self.in_thread(lambda: self.bucket.open(self.key(digest), start, stop))
            try:
                yield S3Blocks(self, body)
            finally:
                if body is not None:
                    body.close()

    @asynccontextmanager
    async def ingest(
        self, expected: Digest | None = None, *, checksums: Iterable[str] = ()
    ) -> AsyncGenerator[S3Ingest]:
        """Accept a blob.  Leaving the block cleanly verifies and publishes it."""
        incoming = S3Ingest(self, Intake(expected, checksums), expected)
        try:
            yield incoming
            await incoming.finish()
        finally:
            await incoming.close()

    async def adopt(self, file: Path, digest: Digest) -> None:
        """Take over a complete, already verified local file.  Consumes it."""
        async with self.publishing(digest):
            await self.in_thread(lambda: self.bucket.upload(str(file), self.key(digest)))
        await self.in_thread(file.unlink)

    async def keep(self, data: bytes, digest: Digest) -> None:
        """Publish a small blob that is already verified."""
        async with self.publishing(digest):
            await self.in_thread(lambda: self.bucket.put(self.key(digest), data))

    def digests(self) -> AsyncIterator[Digest]:
        """Iterate over what is here, in no order."""
        return Walk(self.shard, "0123456789abcdef")  # a request each: 256 would take their time

    async def shard(self, prefix: str) -> list[Holding]:
        """Return the blobs whose hex begins with ``prefix``, one or two characters."""
        holdings = []
        for one in await self.in_thread(lambda: self.bucket.list(self.blobs + prefix)):
            with suppress(DigestInvalidError):  # not ours
                digest = Digest.sha256(one.key.rpartition("/")[2])
                holdings.append(Holding(digest, one.size, one.modified))
        return holdings

    async def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is not here is not an error."""
        await self.in_thread(lambda: self.bucket.delete(self.key(digest)))

    async def expire(self, digest: Digest, published: float) -> bool:
        """Remove a blob unless it is pinned or was published after ``published``."""
        try:
            modified = await self.in_thread(lambda: self.bucket.modified(self.key(digest)))
        except BlobUnknownError:
            return True
        if modified > published or digest in self._pins or digest in self._doomed:
            return False
        # From here on nobody finds it, and who publishes it waits until it is gone.
        gone = self._doomed[digest] = trio.Event()
        try:
            with trio.CancelScope(shield=True):
                await self.delete(digest)
        finally:
            del self._doomed[digest]
            gone.set()
        return True

    async def verify(self, digest: Digest) -> bool:
        """Tell whether a blob's bytes still hash to its name.  Raises BlobUnknownError."""
        value = hashlib.sha256()
        async with self.read(digest) as blocks:
            async for block in blocks:
                await self.in_thread(partial(value.update, block))
        return value.hexdigest() == digest.hex

    def pin(self, digest: Digest) -> AbstractContextManager[None]:
        """Keep a blob from being collected for the length of the block."""
        return self._pins.hold(digest)

    def pinned(self) -> frozenset[Digest]:
        """Return the blobs that are in use now."""
        return self._pins.digests()

    def key(self, digest: Digest) -> str:
        """Return the key of a blob."""
        return f"{self.blobs}{digest.hex[:2]}/{digest.hex}"

    @asynccontextmanager
    async def publishing(self, digest: Digest) -> AsyncGenerator[None]:
        """Keep expire() away from a blob while it is written."""
        while digest in self._doomed:
            await self._doomed[digest].wait()
        with self._pins.hold(digest):
            yield

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run a blocking call in a worker thread; once begun it is not abandoned."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _check(self, digest: Digest) -> None:
        if digest in self._doomed or digest.algorithm != "sha256":
            raise BlobUnknownError(f"no blob {digest}")
