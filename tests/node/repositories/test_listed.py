"""Documents of any length: in memory while they are small, else in a file, never whole in memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from formats.contract import Rendered
from node.repositories import listed, rendered
from node.repositories.listed import Listed, compose
from node.repositories.rendered import RenderCache
from store import packaged
from store.digest import Digest
from store.facts import File, Publish
from tests.node.world import world

FILES = 3000


async def text(count: int) -> AsyncGenerator[bytes]:
    for number in range(count):
        await trio.lowlevel.checkpoint()
        yield b"%09d\n" % number


async def test_small_documents_are_in_memory_and_large_ones_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "BUFFER", 1000)
    small = await compose(tmp_path, lambda: text(99), 5.0)
    assert isinstance(small, Rendered)
    assert (len(small.data), small.modified) == (990, 5.0)
    assert small.etag == str(Digest.of(small.data))
    large = await compose(tmp_path, lambda: text(1234), 5.0)
    assert isinstance(large, Listed)
    whole = b"".join([each async for each in text(1234)])
    assert (large.size, large.etag) == (len(whole), str(Digest.of(whole)))
    exact = await compose(tmp_path, lambda: text(100), 5.0)
    assert isinstance(exact, Listed)
    assert exact.size == 1000


async def test_a_shelf_counts_files_less_than_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "BUFFER", 1000)
    cache = RenderCache(tmp_path)
    for number in range(100):
        await cache.composed(("r", str(number)), lambda: 1, lambda: text(200), lambda: 0.0)
    kept = len(cache.compositions._entries)
    assert kept == rendered.LISTED_MAX // rendered.LISTED_MIN, "so many files are open at most"
    again = await cache.composed(("r", "99"), lambda: 1, lambda: text(1), lambda: 0.0)
    assert isinstance(again, Listed)


async def test_a_large_folder_is_never_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "BUFFER", 16 << 10)
    monkeypatch.setattr(packaged, "PAGE", 100)
    async with world(tmp_path) as node:
        files = [
            Publish("generic", "big", "", (File(f"big/{n:05}", "file", f"sha256:{n:064x}", n),))
            for n in range(FILES)
        ]
        beside = [f"big/deep{n}/x" for n in range(5)]
        files += [
            Publish("generic", path[:-2], "", (File(path, "file", f"sha256:{1:064x}", 1),))
            for path in beside
        ]
        for first in range(0, len(files), 500):
            await node.core.ledger.append(files[first : first + 500], actor="t")
        headers = {"authorization": f"Bearer {node.token}"}
        await node.ask("GET", "/general/generic/?list", headers=headers)  # what is imported then
        tracemalloc.start()
        try:
            answer = await node.ask("HEAD", "/general/generic/big/?list", headers=headers)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert answer.status == 200
        assert peak < 1 << 20, f"{peak} bytes for {FILES} rows of a kilobyte each"
        answer = await node.ask("GET", "/general/generic/big/?list", headers=headers)
        found = json.loads(answer.body)["entries"]
        assert [each["name"] for each in found[:5]] == [f"deep{n}" for n in range(5)]
        assert [each["size"] for each in found[5:]] == list(range(FILES))
        answer = await node.ask("PROPFIND", "/general/generic/big/", headers=headers)
        assert answer.status == 207
        assert answer.body.count(b"<D:response>") == FILES + 6
