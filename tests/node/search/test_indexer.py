"""The index follows what is committed, and begins anew where it cannot know."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from node.search import documents, indexer, service
from node.search.asking import read
from node.search.documents import Source
from store.errors import UnavailableError
from store.facts import Delete, File, Point, Publish
from store.search_writing import DocumentKey
from tests.node.search.support import append, blob, npm
from tests.node.world import World, world


async def found(node: World, text: str, *keys: str) -> list[str]:
    page = await node.core.search.search(read(text, keys or ("npm", "generic")).query, limit=50)
    return [f"{row['package'] or row['path']} {row['version']}".strip() for row in page.rows]


async def test_a_publish_is_found_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert await found(node, "pad") == []
        await npm(node, "left-pad", "1.0.0", description="Pads strings", keywords=["align"])
        await npm(node, "left-pad", "1.1.0", description="Pads any string", license="MIT")
        assert await found(node, "leftpad") == ["left-pad 1.1.0"]
        assert await found(node, "align") == []
        assert await found(node, "align version:1.0.0") == ["left-pad 1.0.0"]
        assert await found(node, "any license:mit") == ["left-pad 1.1.0"]
        assert await found(node, "file:left-pad-1.0.0.tgz") == ["left-pad 1.0.0"]
        await append(node, Point("npm", "left-pad", "stable", b"1.0.0"))
        assert await found(node, "tag:stable") == ["left-pad 1.0.0"]
        await append(node, Point("npm", "left-pad", "stable", b"1.1.0"))
        assert await found(node, "tag:stable") == ["left-pad 1.1.0"]


async def test_files_without_versions_are_found_one_by_one(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        digest = await blob(node, b"x")
        for path in ("films/one.mkv", "films/two.mkv"):
            fact = Publish("generic", "films", "", (File(path, "file", digest, 1),))
            await append(node, fact)
        assert sorted(await found(node, "films")) == ["films", "films"]
        page = await node.core.search.search(read("two", ("generic",)).query, limit=5)
        assert [row["path"] for row in page.rows] == ["films/two.mkv"]
        await append(node, Delete("generic", "films/two.mkv", ()))
        assert await found(node, "two") == []
        assert await found(node, "one") == ["films"]


async def test_it_is_made_again_after_upgrades_and_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PAGE", 2)
    async with world(tmp_path) as node:
        for number in range(5):
            await npm(node, f"package-{number}", "1.0.0")
        digest = await blob(node, b"x")
        files = [File(f"f/{n}", "file", digest, 1) for n in range(5)]
        for each in files:
            await append(node, Publish("generic", "f", "", (each,)))
        search = node.core.search
        assert len(await found(node, "package")) == 5
        state = search.indexer.state
        assert state is not None
        assert (state.complete, state.turn) == (True, 1)
        await search.index.put([], [key async for key in _keys(node)], turn=1)
        assert await found(node, "package") == []
        monkeypatch.setattr(indexer, "VERSION", 2)  # an upgrade
        assert len(await found(node, "package")) == 5
        assert state.turn == 2
        state.position += 100  # more than the journal has: a restored backup
        assert len(await found(node, "")) == 10
        assert state.turn == 3
        await node.core.journal.trim(kept=0)
        state.position = 0
        assert len(await found(node, "")) == 10
        assert (await search.status()).documents == 10


async def _keys(node: World):  # type: ignore[no-untyped-def]  # a generator of many types
    last = None
    while page := await node.core.search.source.page(last):
        for each in page.documents:
            yield each.key
        last = page.last


async def test_the_walk_names_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as node:
        digest = await blob(node, b"x")
        expected = []
        for package, version, count in (("a", "", 7), ("a", "1", 2), ("b", "", 1), ("c", "2", 1)):
            for number in range(count):
                path = f"{package}{version}/{number}"
                file = File(path, "file", digest, 1)
                await append(node, Publish("generic", package, version, (file,)))
            paths = [f"{package}/{n}" for n in range(count)] if not version else [""]
            expected += [("generic", package, version, path) for path in paths]
        for size in (1, 2, 3, 100):
            monkeypatch.setattr(documents, "PAGE", size)
            assert [tuple(key) async for key in _keys(node)] == expected
            last, pages = None, list[set[str]]()
            while page := await node.core.search.source.page(last):
                pages.append({each.key.package for each in page.documents})
                last = page.last
            for package in "abc":  # whole beside others, or in parts by itself
                held = [each for each in pages if package in each]
                assert len(held) == 1 or all(each == {package} for each in held)


async def test_a_walk_goes_on_where_it_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PAGE", 4)
    async with world(tmp_path) as node:
        for number in range(6):
            await npm(node, f"package-{number}", "1.0.0", description="told")
        search = node.core.search
        read_pages: list[object] = []
        page = documents.Source.page

        async def counted(source: Source, last: DocumentKey | None) -> documents.Page | None:
            read_pages.append(last)
            if len(read_pages) == 3:
                raise UnavailableError("cut off")
            return await page(source, last)

        monkeypatch.setattr(documents.Source, "page", counted)
        with pytest.raises(UnavailableError, match="cut off"):
            await found(node, "package")
        assert search.indexer.state is not None
        search.indexer.state = None  # as after a start
        await npm(node, "package-0", "2.0.0", description="later")
        assert len(await found(node, "told")) == 5
        assert await found(node, "later") == ["package-0 2.0.0"]
        keys = [None if each is None else each.package for each in read_pages]  # type: ignore[attr-defined]  # a list that the test put there
        assert keys == [None, "package-0", "package-1", "package-1", *keys[4:]]
        assert search.indexer.state.turn == 1
        assert search.indexer.state.last is None


async def test_a_task_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WARM_AFTER", 0.0)
    async with world(tmp_path) as node, trio.open_nursery() as nursery:
        nursery.start_soon(node.core.search.run, node.core.ledger)
        indexer_ = node.core.search.indexer
        with trio.fail_after(30):
            while indexer_.state is None or not indexer_.state.complete:
                await indexer_.changed.wait()
            assert indexer_.following
            changed = indexer_.changed
            await npm(node, "followed", "1.0.0")
            await changed.wait()
            assert await node.core.search.index.count() == 1
            await node.core.search.rebuild()
            while (await node.core.search.status()).rebuilding:
                await indexer_.changed.wait()
            assert indexer_.progress.documents == 1
        nursery.cancel_scope.cancel()


async def test_whoever_falls_behind_the_journal_begins_anew(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await npm(node, "first", "1.0.0")
        assert await found(node, "first") == ["first 1.0.0"]
        follower = node.core.search.indexer
        await npm(node, "missed", "1.0.0")
        await node.core.journal.trim(kept=0)
        for number in range(3):
            await npm(node, f"later-{number}", "1.0.0")
            await node.core.journal.trim(kept=1)
        follower.following = True  # as if a task did: then a query only reads what is next
        assert await found(node, "missed") == []
        assert follower.due.is_set()
        follower.following = False
        assert await found(node, "missed") == ["missed 1.0.0"]
        assert len(await found(node, "later")) == 3
