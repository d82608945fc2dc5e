from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

import pytest

from store.digest import Digest
from store.files import FileStore
from store.gc import Sweep, Swept
from store.holdings import PREFIXES
from store.memory import MemoryStore
from tests.store.blob_contract import everything, put

DAY = 86400.0


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


class Marks:
    """What is referred to; ``then`` runs at each question, as the world goes on meanwhile."""

    def __init__(self, *digests: Digest) -> None:
        self.digests = set(digests)
        self.asked: list[int] = []
        self.then: Callable[[Sequence[Digest]], Awaitable[None]] | None = None

    async def __call__(self, digests: Sequence[Digest]) -> Collection[Digest]:
        self.asked.append(len(digests))
        answer = self.digests & set(digests)
        if self.then is not None:
            await self.then(digests)
        return answer


async def swept(store: MemoryStore | FileStore, marks: Marks, now: float, **options) -> Swept:
    deleted: list[Digest] = []
    report = Swept()
    async for report in Sweep(store, marks, now=now, grace=DAY, **options):
        deleted += report.deleted
    report.deleted = deleted
    return report


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


async def test_what_nothing_refers_to_goes_once_it_is_old(store: MemoryStore, clock: Clock) -> None:
    marked = (await put(store, b"marked")).digest
    garbage = (await put(store, b"garbage")).digest
    clock.now += DAY + 1
    young = (await put(store, b"young")).digest
    report = await swept(store, Marks(marked), clock.now)
    assert report.deleted == [garbage]
    assert report.freed == len(b"garbage")
    assert (report.seen, report.seen_size, report.kept_young) == (3, 18, 1)
    assert report.next is None
    assert await everything(store.digests()) == sorted([marked, young])


async def test_pinned_and_open_blobs_stay(store: MemoryStore, clock: Clock) -> None:
    first, second = (await put(store, b"1")).digest, (await put(store, b"2")).digest
    clock.now += 2 * DAY
    async with store.read(first):
        with store.pin(second):
            report = await swept(store, Marks(), clock.now)
    assert report.kept_in_use == 2
    assert report.deleted == []
    assert len((await swept(store, Marks(), clock.now)).deleted) == 2


async def test_what_is_published_between_mark_and_sweep_survives(
    store: MemoryStore, clock: Clock
) -> None:
    """First the catalog refers to it again; the second time it is asked, it says so."""
    digest = (await put(store, b"again")).digest
    clock.now += 2 * DAY
    marks = Marks()

    async def publish(digests: Sequence[Digest]) -> None:
        marks.digests.add(digest)

    marks.then = publish
    report = await swept(store, marks, clock.now)
    assert report.deleted == []
    assert report.kept_in_use == 1
    assert await store.has(digest)


async def test_what_is_ingested_after_the_last_question_survives(
    store: MemoryStore, clock: Clock
) -> None:
    digest = (await put(store, b"again")).digest
    clock.now += 2 * DAY
    marks = Marks()

    async def ingest(digests: Sequence[Digest]) -> None:
        if len(marks.asked) == 2:
            await put(store, b"again")

    marks.then = ingest
    report = await swept(store, marks, clock.now)
    assert marks.asked == [1, 1]
    assert report.deleted == []
    assert await store.has(digest)


async def test_what_is_pinned_after_the_last_question_survives(
    store: MemoryStore, clock: Clock
) -> None:
    digest = (await put(store, b"again")).digest
    clock.now += 2 * DAY
    marks, pin = Marks(), store.pin(digest)

    async def mount(digests: Sequence[Digest]) -> None:
        if len(marks.asked) == 2:
            pin.__enter__()

    marks.then = mount
    await swept(store, marks, clock.now)
    assert await store.has(digest)
    pin.__exit__(None, None, None)


async def test_a_sweep_goes_on_where_it_stopped(store: MemoryStore, clock: Clock) -> None:
    digests = [(await put(store, bytes([n]))).digest for n in range(60)]
    clock.now += 2 * DAY
    deleted: list[Digest] = []
    async for report in Sweep(store, Marks(), now=clock.now, grace=DAY):
        deleted += report.deleted
        if len(deleted) > 20:
            break
    assert 20 < len(deleted) < 60
    assert report.next == PREFIXES[int(deleted[-1].hex[:2], 16) + 1]
    rest = await swept(store, Marks(), clock.now, start=report.next)
    assert sorted(deleted + rest.deleted) == sorted(digests)
    assert rest.seen == 60 - len(deleted)


async def test_the_index_is_told_before_a_blob_goes(store: MemoryStore, clock: Clock) -> None:
    digest = (await put(store, b"indexed")).digest
    clock.now += 2 * DAY
    told: list[Digest] = []

    async def forget(one: Digest) -> None:
        assert await store.has(one)
        told.append(one)

    await swept(store, Marks(), clock.now, forget=forget)
    assert told == [digest]


async def test_files_are_swept_by_their_age(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    await store.open()
    digest = (await put(store, b"file")).digest
    (holding,) = await store.shard(digest.hex[:2])
    assert (await swept(store, Marks(), holding.modified + DAY - 1)).deleted == []
    assert (await swept(store, Marks(), holding.modified + DAY)).deleted == [digest]
    assert store.path(digest) is None
