"""Emptying a repository: files, pointers and marks, in batches, and again after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.repositories import removal
from node.repositories.removal import empty
from store.digest import Digest
from store.facts import Fact, File, Flag, Point, Publish
from tests.node.world import world


async def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "BATCH", 3)
    async with world(tmp_path) as node:
        catalog, ledger = node.core.catalog, node.core.ledger
        facts: list[Fact] = []
        for number in range(8):
            package, path = f"p{number % 4}", f"p/{number}"
            content = File(path, "file", str(Digest.of(b"%d" % number)), 1)
            facts += [
                Publish("generic", package, "1", (content,)),
                Point("generic", package, f"t{number}", b"1"),
                Flag("generic", package, "1", "", "yanked", b"why"),
            ]
        facts.append(Point("generic", "only-tags", "latest", b"1"))
        facts.append(Point("npm", "other", "latest", b"1"))
        await ledger.append(facts, actor="t")
        await empty(catalog, ledger, "generic", actor="t")
        await empty(catalog, ledger, "generic", actor="t")
        assert await catalog.files("generic") == []
        assert await catalog.packages("generic") == []
        for number in range(4):
            assert await catalog.pointers("generic", f"p{number}") == []
            assert await catalog.flags("generic", f"p{number}") == []
        assert (await catalog.statistics("generic")).size == 0
        assert await catalog.pointer("npm", "other", "latest") is not None
