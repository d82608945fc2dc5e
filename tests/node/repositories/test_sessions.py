"""Resumable uploads: what arrived stays, what is wrong goes nowhere, and one works at a time."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.blobs import Blobs
from node.repositories import sessions as module
from node.repositories.sessions import EXPIRES, RepositoryUploads, Sessions
from store import schema
from store.chunkindex import ChunkIndex
from store.database import open_database
from store.digest import Digest
from store.errors import DigestMismatchError, RejectedError, SessionUnknownError, StoreFullError
from store.files import FileStore

DATA = os.urandom(3_000_000)


class Chunks(AsyncIterator[bytes]):
    """Pieces of a body, then an error if there is one."""

    def __init__(self, *pieces: bytes, error: BaseException | None = None) -> None:
        self._pieces, self._error = list(pieces), error

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration


class Held(AsyncIterator[bytes]):
    """A body that comes only when it is let."""

    def __init__(self) -> None:
        self.begun, self.go = trio.Event(), trio.Event()

    async def __anext__(self) -> bytes:
        if self.go.is_set():
            raise StopAsyncIteration
        self.begun.set()
        await self.go.wait()
        return b"late bytes"


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[tuple[Sessions, RepositoryUploads, Blobs]]:
    url = f"sqlite+aiosqlite:///{folder / 'local.db'}"
    async with open_database(url, schema.local, synchronous="NORMAL") as database:
        store = FileStore(folder)
        await store.open()
        blobs = Blobs(store, ChunkIndex(database, store))
        found = Sessions(folder / "sessions", blobs)
        yield found, found.of("docker", ("sha256",)), blobs


async def content(blobs: Blobs, digest: Digest) -> bytes:
    return await blobs.load(digest, limit=1 << 30)


async def test_an_upload_grows_over_requests_and_restarts(tmp_path: Path) -> None:
    async with opened(tmp_path) as (found, uploads, _):
        session = await uploads.create("app")
        assert session.size == 0
        assert (
            await found.append(session.id, Chunks(DATA[:10], DATA[10:2_000_000]))
        ).size == 2_000_000
    async with opened(tmp_path) as (found, uploads, blobs):
        assert (await uploads.status(session.id, "app")).size == 2_000_000
        await found.append(session.id, Chunks(DATA[2_000_000:]))
        digest = Digest.of(DATA)
        ingested = await uploads.finish(session.id, "app", digest)
        assert (ingested.digest, ingested.size) == (digest, len(DATA))
        assert await content(blobs, digest) == DATA
        assert await blobs.index.manifest(digest) is not None
        path = blobs.path(digest)
        assert path is not None
        assert path.stat().st_mode & 0o777 == 0o644
        with pytest.raises(SessionUnknownError):
            await uploads.status(session.id, "app")
        assert list((tmp_path / "sessions").iterdir()) == []


async def test_a_broken_connection_keeps_every_byte_that_came(tmp_path: Path) -> None:
    """Less than a batch was dropped: on a link that breaks twice a second nothing ever got on."""
    async with opened(tmp_path) as (found, uploads, blobs):
        session = await uploads.create("app")
        for at in range(5):
            with pytest.raises(ConnectionError):
                await found.append(
                    session.id, Chunks(DATA[at * 1000 : at * 1000 + 1000], error=ConnectionError())
                )
        with trio.CancelScope() as scope:
            chunks = Chunks(DATA[5000:6000], error=AssertionError("cancelled before"))
            scope.cancel()
            await found.append(session.id, chunks)
        size = (await uploads.status(session.id, "app")).size
        assert size in {5000, 6000}
        await found.append(session.id, Chunks(DATA[size:]))
        await uploads.finish(session.id, "app", Digest.of(DATA))
        assert await content(blobs, Digest.of(DATA)) == DATA


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_wrong_digest_leaves_the_session_as_it_was(tmp_path: Path, algorithm: str) -> None:
    async with opened(tmp_path) as (found, uploads, blobs):
        session = await uploads.create("app")
        await found.append(session.id, Chunks(DATA))
        wrong = Digest(algorithm, hashlib.new(algorithm, b"other").hexdigest())
        right = Digest(algorithm, hashlib.new(algorithm, DATA).hexdigest())
        for _ in range(2):
            with pytest.raises(DigestMismatchError):
                await uploads.finish(session.id, "app", wrong)
            assert (await uploads.status(session.id, "app")).size == len(DATA)
        assert [digest async for digest in blobs.store.digests()] == []
        await uploads.finish(session.id, "app", right)
        assert await content(blobs, Digest.of(DATA)) == DATA


async def test_one_request_works_on_a_session_at_a_time(tmp_path: Path) -> None:
    """What was appended while a session became a blob ended up in the blob."""
    async with opened(tmp_path) as (found, uploads, blobs):
        session = await uploads.create("app")
        await found.append(session.id, Chunks(b"early bytes, "))
        held = Held()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.append, session.id, held)
            await held.begun.wait()
            with pytest.raises(RejectedError, match="another request"):
                await found.append(session.id, Chunks(b"x"))
            with pytest.raises(RejectedError, match="another request"):
                await uploads.finish(session.id, "app")
            with pytest.raises(RejectedError, match="another request"):
                await uploads.abort(session.id, "app")
            assert found.sweep(now=time.time() + 2 * EXPIRES) == 0
            held.go.set()
        ingested = await uploads.finish(session.id, "app")
        assert await content(blobs, ingested.digest) == b"early bytes, late bytes"


async def test_sessions_belong_to_their_repository_and_package(tmp_path: Path) -> None:
    async with opened(tmp_path) as (found, uploads, _):
        session = await uploads.create("app")
        other = found.of("other", ())
        for who, package in ((uploads, "other"), (other, "app")):
            for call in (who.status, who.finish, who.abort):
                with pytest.raises(SessionUnknownError):
                    await call(session.id, package)
        for name in ("", "x", "../../etc/passwd", "a" * 32, "é" * 32, "../" + "a" * 29):
            with pytest.raises(SessionUnknownError):
                await uploads.status(name, "app")
            with pytest.raises(SessionUnknownError):
                await found.append(name, Chunks(b"x"))


async def test_an_aborted_session_is_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (found, uploads, _):
        session = await uploads.create("app")
        await found.append(session.id, Chunks(b"x"))
        await uploads.abort(session.id, "app")
        with pytest.raises(SessionUnknownError):
            await found.append(session.id, Chunks(b"x"))
        assert list((tmp_path / "sessions").iterdir()) == []


async def test_a_full_disk_is_told_and_what_fits_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as (found, uploads, blobs):
        session = await uploads.create("app")
        await found.append(session.id, Chunks(b"before "))
        original = module.write_all

        def fail(descriptor: int, data: memoryview, offset: int) -> None:
            original(descriptor, data[:3], offset)
            raise StoreFullError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(module, "write_all", fail)
            with pytest.raises(StoreFullError):
                await found.append(session.id, Chunks(b"after"))
        size = (await uploads.status(session.id, "app")).size
        assert size == len(b"before aft")
        await found.append(session.id, Chunks(b"er"))
        ingested = await uploads.finish(session.id, "app")
        assert await content(blobs, ingested.digest) == b"before after"


async def test_a_hundred_uploads_at_once_are_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_rehash", None)
    async with opened(tmp_path) as (found, uploads, blobs):
        made = [await uploads.create("app") for _ in range(100)]
        for piece in (bytes(40_000), b"more"):
            for session in made:
                await found.append(session.id, Chunks(piece))
        ingested = await uploads.finish(made[0].id, "app")
        assert await content(blobs, ingested.digest) == bytes(40_000) + b"more"


@pytest.mark.parametrize(("bound", "value", "kept"), [("LIVE_COUNT", 2, 2), ("LIVE_MAX", 1, 1)])
async def test_memory_for_hashing_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, kept: int
) -> None:
    monkeypatch.setattr(module, bound, value)
    async with opened(tmp_path) as (found, uploads, blobs):
        made = [await uploads.create("app") for _ in range(4)]
        for number, session in enumerate(made):
            await found.append(session.id, Chunks(f"{number} ".encode()))
        assert len(found._live) == kept
        assert found._busy == set()
        for number, session in enumerate(made):
            await found.append(session.id, Chunks(b"more"))
            ingested = await uploads.finish(session.id, "app")
            assert await content(blobs, ingested.digest) == f"{number} more".encode()


async def test_what_nobody_touches_for_a_day_is_swept(tmp_path: Path) -> None:
    async with opened(tmp_path) as (found, uploads, _):
        old, young = await uploads.create("app"), await uploads.create("app")
        await found.append(old.id, Chunks(b"x"))
        (tmp_path / "sessions" / f"{'a' * 32}.data").write_bytes(b"an orphan's")
        past = time.time() - EXPIRES - 9
        for each in (tmp_path / "sessions").iterdir():
            if young.id not in each.name:
                os.utime(each, (past, past))
        assert found.sweep() == 2
        assert found.sweep() == 0
        assert {each.stem for each in (tmp_path / "sessions").iterdir()} == {young.id}
        assert (await uploads.status(young.id, "app")).size == 0
