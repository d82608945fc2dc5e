"""Rendered documents: built once, never stale, never too many."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio
import trio.testing

from formats.contract import Rendered
from node.repositories.listed import Listed
from node.repositories.rendered import Numbers, RenderCache, Shelf, render
from store.blobs import Ingested
from store.digest import Digest
from store.errors import UnavailableError
from store.intake import Intake


def blob(text: str) -> Ingested:
    intake = Intake()
    intake.update(memoryview(text.encode()))
    return intake.finish()


class Repository:
    """Something that changes, and a slow renderer of it."""

    def __init__(self) -> None:
        self.revision, self.built = 1, 0

    def now(self) -> int:
        return self.revision

    async def build(self) -> str:
        self.built += 1
        seen = self.revision
        await trio.sleep(1)
        return f"as of {seen}"


async def test_however_many_ask_it_is_built_once(autojump_clock: trio.testing.MockClock) -> None:
    shelf: Shelf[str] = Shelf(1000, len)
    source = Repository()
    found: list[str] = []

    async def ask() -> None:
        found.append(await shelf.get(("r", "k"), source.now, source.build))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert (found, source.built) == (["as of 1"] * 20, 1)
    await ask()
    assert source.built == 1


async def test_a_queue_builds_once_where_changes_come_faster_than_documents(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shelf: Shelf[str] = Shelf(1000, len)
    source = Repository()
    found: list[str] = []

    async def ask() -> None:
        found.append(await shelf.get(("r", "k"), source.now, source.build))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.5)
        source.revision = 2
        for _ in range(20):
            nursery.start_soon(ask)
        await trio.sleep(1)  # the second document is being built: the first was of before
        source.revision = 3
    assert (found, source.built) == (["as of 1", *["as of 2"] * 20], 2)


async def test_a_change_while_building_is_not_missed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shelf: Shelf[str] = Shelf(1000, len)
    source = Repository()
    found: dict[str, str] = {}

    async def ask(name: str) -> None:
        found[name] = await shelf.get(("r", "k"), source.now, source.build)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "before")
        await trio.sleep(0.5)
        source.revision = 2
        nursery.start_soon(ask, "after")
    assert found["after"] == "as of 2"
    assert shelf.since(("r", "k"), 2) == "as of 2"
    assert shelf.since(("r", "k"), 3) is None


async def test_a_failed_or_cancelled_builder_lets_the_next_one_try(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shelf: Shelf[str] = Shelf(1000, len)
    source = Repository()

    async def fail() -> str:
        raise ValueError

    with pytest.raises(ValueError):
        await shelf.get(("r", "k"), source.now, fail)
    with trio.move_on_after(0.5):
        await shelf.get(("r", "k"), source.now, source.build)
    assert await shelf.get(("r", "k"), source.now, source.build) == "as of 1"
    assert len(shelf._turns) == 0


async def test_the_least_recently_used_make_room() -> None:
    shelf: Shelf[str] = Shelf(10, len)

    async def get(key: str) -> str:
        async def build() -> str:
            return key * 4

        return await shelf.get(("r", key), lambda: 1, build)

    for key in "aba":
        await get(key)
    await get("c")
    assert shelf.since(("r", "a"), 1)
    assert not shelf.since(("r", "b"), 1)
    assert shelf._size <= 10


async def test_what_is_too_large_may_be_left_out_and_drives_nothing_away() -> None:
    shelf: Shelf[str] = Shelf(10, len, huge=False)

    async def get(key: str, length: int, revision: int = 1) -> str:
        async def build() -> str:
            return key * length

        return await shelf.get(("r", key), lambda: revision, build)

    await get("a", 8)
    assert await get("b", 11) == "b" * 11
    assert not shelf.since(("r", "b"), 1)
    assert shelf.since(("r", "a"), 1)
    await get("a", 11, revision=2)
    assert (shelf._size, len(shelf._entries)) == (0, 0)


def test_numbers_grow_whenever_a_thing_is_made_of_others() -> None:
    numbers = Numbers(places_max=2)
    place, other = ("r", "a"), ("r", "b")
    seen = [numbers.of(place, state) for state in (b"z", b"a", b"a", b"z")]
    assert seen[0] < seen[1] == seen[2] < seen[3]
    assert numbers.of(other, b"a") > seen[3]
    assert numbers.of(place, b"z") == seen[3]
    numbers.of(("r", "c"), b"a")  # the other place is forgotten
    assert numbers.of(place, b"z") == seen[3]
    assert numbers.of(other, b"a") > seen[3] + 2


async def test_sets_stay_known_for_some_generations() -> None:
    cache = RenderCache()
    for revision in range(1, 6):

        async def build(number: int = revision) -> dict[str, Ingested]:
            return {"Release": blob(f"release {number // 2}")}

        await cache.document_set(("debian", "stable"), lambda n=revision: n, build)  # type: ignore[misc]  # mypy infers no type for lambdas with defaults
    kept = cache.generations(("debian", "stable"))
    names = [Digest.of(f"release {number}".encode()) for number in (2, 1, 0)]
    assert [each["Release"].digest for each in kept] == names, "equal sets are one generation"
    assert cache.referenced() == set(names)
    assert cache.generations(("debian", "other")) == ()


def test_a_document_carries_its_validators() -> None:
    assert render(b"text", 5.0) == Rendered(b"text", str(Digest.of(b"text")), 5.0)


async def test_long_documents_lie_on_the_disk(tmp_path: Path) -> None:
    cache, built = RenderCache(tmp_path), 0
    half = bytes(range(256)) * 5000

    async def parts() -> AsyncGenerator[bytes]:
        nonlocal built
        built += 1
        for part in (half, b"", half):
            await trio.lowlevel.checkpoint()
            yield part

    async def ask(revision: int) -> Listed:
        return await cache.listed(("pypi", "index"), lambda: revision, parts, lambda: 5.0)

    found = await ask(1)
    assert (found.size, found.etag) == (2 * len(half), str(Digest.of(half * 2)))
    assert await ask(1) is found
    assert list(tmp_path.iterdir()) == []  # it has no name
    async with found.spans(7, len(half) + 9) as (file, spans):
        newer = await ask(2)
        del found
        read = b"".join([os.pread(file, count, at) async for at, count in spans])
    assert read == (half * 2)[7 : len(half) + 9]
    assert (newer.modified, built) == (5.0, 2)


async def test_a_long_document_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = RenderCache(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))

    async def parts() -> AsyncGenerator[bytes]:
        yield b"x" * (2 << 20)
        raise UnavailableError("the database is away")

    for _ in range(3):
        with pytest.raises(UnavailableError):
            await cache.listed(("pypi", "index"), lambda: 1, parts, lambda: 5.0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
