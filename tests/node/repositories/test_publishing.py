"""Commits: what is news, what is refused, and that nobody slips in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from formats.contract import Publish as Wish
from formats.contract import Response
from node.directory import RepositoryEntry
from store.digest import Digest
from store.errors import PreconditionFailedError, StoreFullError, VersionExistsError
from store.facts import METADATA_INLINE_MAX, Delete, Fact, File, Point, Publish
from tests.node.world import World, world

ENTRY = RepositoryEntry(key="generic", format="generic")


def file(path: str, content: bytes, metadata: bytes = b"") -> File:
    return File(path, "file", str(Digest.of(content)), len(content), metadata=metadata)


def publish(*files: File, mutable: bool = False, version: str = "1") -> Publish:
    return Publish("generic", "p", version, files, mutable)


async def commit(
    node: World, *facts: Fact, entry: RepositoryEntry = ENTRY, **options: bool
) -> bool:
    wish = Wish(facts, Response(201), **options)
    return await node.core.publisher.commit(wish, entry, actor="t")


async def records(node: World) -> int:
    return sum(seq for seq, _ in (await node.core.ledger.heads()).values())


async def test_the_same_again_is_no_news_and_other_bytes_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert await commit(node, publish(file("a", b"1"), file("b", b"2")))
        before = await records(node)
        assert not await commit(node, publish(file("a", b"1"), file("b", b"2")))
        assert await records(node) == before
        with pytest.raises(VersionExistsError, match="File already exists: a"):
            await commit(node, publish(file("a", b"other")))
        with pytest.raises(VersionExistsError):
            await commit(node, publish(file("c", b"3"), file("b", b"other")))
        assert await node.core.catalog.find("generic", "c") is None
        assert await commit(node, publish(file("a", b"1"), file("c", b"3")))


async def test_strict_and_conditional_wishes_take_no_repeat(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await commit(node, publish(file("a", b"1")))
        with pytest.raises(VersionExistsError):
            await commit(node, publish(file("a", b"1")), strict=True)
        for mutable in (False, True):
            with pytest.raises(PreconditionFailedError):
                await commit(node, publish(file("a", b"1"), mutable=mutable), only_if_new=True)
        assert await commit(node, publish(file("b", b"1")), strict=True, only_if_new=True)


@pytest.mark.parametrize("mutable", [False, True])
async def test_of_two_at_once_one_wins(tmp_path: Path, *, mutable: bool) -> None:
    """The look was before the transaction: both found nothing, and both were let in."""
    async with world(tmp_path) as node:
        outcomes: list[str] = []

        async def attempt(content: bytes) -> None:
            try:
                await commit(node, publish(file("a", content), mutable=mutable), only_if_new=True)
                outcomes.append("won")
            except PreconditionFailedError:
                outcomes.append("lost")

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(attempt, b"%d" % number)
        assert sorted(outcomes) == ["lost", "lost", "lost", "won"]


async def test_a_deleted_coordinate_takes_only_its_own_bytes(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await commit(node, publish(file("a", b"1")))
        await commit(node, Delete("generic", "a", ()))
        assert await node.core.catalog.find("generic", "a") is None
        with pytest.raises(VersionExistsError):
            await commit(node, publish(file("a", b"other")))
        assert await commit(node, publish(file("a", b"1")))


async def test_what_is_mutable_is_replaced_and_its_metadata_counts(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        small, large = b'{"a":1}', b"x" * (METADATA_INLINE_MAX + 1)
        for metadata in (b"", small, large):
            wish = publish(file("a", b"1", metadata), mutable=True)
            assert await commit(node, wish)
            assert not await commit(node, wish)
        assert await commit(node, publish(file("a", b"2"), mutable=True))
        assert await commit(node, publish(file("a", b"2"), mutable=True, version="2"))


async def test_large_metadata_becomes_a_blob(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        metadata = b"m" * (METADATA_INLINE_MAX + 1)
        await commit(node, publish(file("a", b"1", metadata)))
        found = await node.core.catalog.find("generic", "a")
        assert found is not None
        assert found.metadata == b""
        assert found.metadata_digest == Digest.of(metadata)
        repository = node.core.open(ENTRY)
        assert await repository.metadata([found]) == [metadata]


async def test_a_pointer_set_again_is_no_news(tmp_path: Path) -> None:
    """A tag pushed with every build grew every ledger of the mesh for nothing."""
    async with world(tmp_path) as node:
        point = Point("generic", "p", "latest", b"1")
        assert await commit(node, point)
        before = await records(node)
        assert not await commit(node, point)
        assert await records(node) == before
        assert await commit(node, Point("generic", "p", "latest", b"2"))
        assert await commit(node, Point("generic", "p", "latest", None))
        assert not await commit(node, Point("generic", "p", "latest", None))


async def test_the_quota_counts_what_is_added_and_not_what_is_replaced(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        entry = RepositoryEntry(key="generic", format="generic", quota_bytes=10)

        async def put(*files: File, mutable: bool = True) -> bool:
            return await commit(node, publish(*files, mutable=mutable), entry=entry)

        assert await node.core.publisher.room(entry) == 10
        assert await put(file("a", b"12345678"))
        assert await node.core.publisher.room(entry) == 2
        assert await put(file("a", b"87654321"))
        with pytest.raises(StoreFullError, match="holds 8 of 10"):
            await put(file("b", b"123"))
        assert await put(file("a", b"87654321"), file("b", b"12"))
        with pytest.raises(StoreFullError):
            await put(file("c", b"1"))
        assert await put(file("a", b"1"))
        assert await commit(node, Point("generic", "p", "t", b"x" * 100), entry=entry)


async def test_many_files_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        files: Sequence[File] = [file(f"f{n}", b"%d" % n) for n in range(1200)]
        assert await commit(node, publish(*files))
        assert not await commit(node, publish(*files))
        with pytest.raises(VersionExistsError, match="f1199"):
            await commit(node, publish(*files[:-1], file("f1199", b"other")))
