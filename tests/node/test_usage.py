"""What counts as a download, and that it survives a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from node import usage
from store.errors import DeniedError, UnavailableError
from store.facts import File, Publish
from store.usage import UsageLog
from tests.node.search.support import append, blob, npm
from tests.node.world import World, world


async def count(
    node: World, package: str, version: str | None = None, repository: str = "npm"
) -> int:
    return (await node.core.usage.usage(repository, package, version)).downloads


async def test_only_whole_downloads_count(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await npm(node, "demo", "1.0.0")
        path = "/npm/npm/demo/-/demo-1.0.0.tgz"
        assert (await node.ask("HEAD", path)).status == 200
        assert (await node.core.usage.usage("npm", "demo")).last == 0.0
        sent = await node.ask("GET", path)
        assert (sent.status, await count(node, "demo", "1.0.0")) == (200, 1)
        tag = {"if-none-match": sent.headers["etag"]}
        assert (await node.ask("GET", path, headers=tag)).status == 304
        for span, status in (("bytes=0-3", 206), ("bytes=4-7", 206), ("bytes=-2", 206)):
            assert (await node.ask("GET", path, headers={"range": span})).status == status
        assert (await node.ask("GET", path, headers={"range": "bytes=999-"})).status == 416
        assert await count(node, "demo", "1.0.0") == 2  # the first range, and only that
        assert (await node.ask("GET", "/pypi/pypi/simple/")).status == 200  # no download
        assert (await node.ask("GET", "/npm/npm/demo/-/none.tgz")).status == 404
        assert await count(node, "demo") == 2
        api = "/api/v1/repositories/npm/download/demo/-/demo-1.0.0.tgz"
        assert (await node.ask("GET", api)).status == 200
        assert (await node.ask("HEAD", api)).status == 200
        beside = "/api/v1/repositories/npm/download/demo/-/demo-1.0.0.json"
        before = (await node.core.usage.usage("npm", "demo")).last
        assert (await node.ask("GET", beside)).status == 200  # belongs to it, is not it
        assert await count(node, "demo") == 3
        assert (await node.core.usage.usage("npm", "demo")).last >= before > 0
        page = (await node.api("GET", "/repositories/npm/packages/demo")).json
        assert (page["downloads"], page["versions"][0]["downloads"]) == (3, 3)
        assert page["last_used_at"] > 0
        await node.core.usage.tell()
        trending = (await node.ask("GET", "/api/v1/search/trending")).json
        assert [(each["name"], each["downloads"]) for each in trending["items"]] == [("demo", 3)]


async def test_files_without_versions_count_too(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        file = File("films/a.mkv", "file", await blob(node, b"film"), 4)
        await append(node, Publish("generic", "films", "", (file,)))
        assert (await node.ask("GET", "/general/generic/films/a.mkv")).body == b"film"
        assert await count(node, "films", "", "generic") == 1


async def test_counts_survive_a_restart(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        async with world(tmp_path) as node, trio.open_nursery() as nursery:
            nursery.start_soon(node.core.usage.run)
            await trio.testing.wait_all_tasks_blocked()
            if number == 1:
                await npm(node, "demo", "1.0.0")
            assert (await node.ask("GET", "/npm/npm/demo/-/demo-1.0.0.tgz")).status == 200
            assert await count(node, "demo") == number
            nursery.cancel_scope.cancel()


async def test_what_cannot_be_told_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as node:
        await npm(node, "demo", "1.0.0")
        counter = node.core.usage

        async def refuse(*_: object, **__: object) -> None:
            raise UnavailableError("not now")

        async def deny(*_: object, **__: object) -> None:
            raise DeniedError("may not write here")

        await node.ask("GET", "/npm/npm/demo/-/demo-1.0.0.tgz")
        with monkeypatch.context() as patched:
            patched.setattr(node.core.ledger, "append", refuse)
            with pytest.raises(UnavailableError):
                await counter.tell()
        with monkeypatch.context() as patched:
            patched.setattr(counter.kept, "add", refuse)
            await node.ask("GET", "/npm/npm/demo/-/demo-1.0.0.tgz")
            with pytest.raises(UnavailableError):
                await counter.keep()
        assert await counter.tell() == 1
        assert await count(node, "demo") == 2
        assert await counter.tell() == 0
        await node.ask("GET", "/npm/npm/demo/-/demo-1.0.0.tgz")
        with monkeypatch.context() as patched:
            patched.setattr(node.core.ledger, "append", deny)
            assert await counter.tell() == 0  # this node may not: nobody waits for it
        await node.ask("GET", "/npm/npm/demo/-/demo-1.0.0.tgz")
        assert await counter.tell() == 1
        assert await count(node, "demo") == 4


async def test_a_crawler_does_not_fill_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "TOLD_MAX", 1)
    monkeypatch.setattr(UsageLog.untold, "__defaults__", (1,))
    async with world(tmp_path) as node:
        counter = node.core.usage
        for name in ("zed", "abe"):
            await npm(node, name, "1.0.0")
            await node.ask("GET", f"/npm/npm/{name}/-/{name}-1.0.0.tgz")
            await counter.keep()
        (first, *_) = await counter.kept.untold()
        assert first[0].package == "zed", "used longest ago"
        assert await counter.tell() == 1
        ((left, *_),) = await counter.kept.untold()
        assert left.package == "abe"
        assert await counter.tell() == 1
        assert await counter.kept.untold() == []


async def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "COUNTED_MAX", 1)
    monkeypatch.setattr(usage, "ARRIVING_MAX", 1)
    async with world(tmp_path) as node:
        for name in ("one", "two"):
            await npm(node, name, "1.0.0")
            await node.ask("GET", f"/npm/npm/{name}/-/{name}-1.0.0.tgz")
        artifact = await node.core.catalog.find("npm", "one/-/one-1.0.0.tgz")
        node.core.usage.arriving(lambda: artifact)
        node.core.usage.arriving(lambda: artifact)
        assert await count(node, "one") == 2
        assert await count(node, "two") == 0
