"""Staged bytes: remembered, replaced, forgotten, expired; their blobs known to the collector."""

from __future__ import annotations

import pytest

from store import staging as module
from store.database import Database
from store.rows import StagedRow
from store.staging import Staging
from tests.store.catalogs import digest


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def staging(local: Database, clock: Clock) -> Staging:
    return Staging(local, clock=clock)


async def test_what_is_staged_is_found(staging: Staging) -> None:
    await staging.stage("docker", "app", "b", digest("b"), 7, {"md5": "00"}, b"{}")
    await staging.stage("docker", "app", "a", digest("a"), 1, {})
    await staging.stage("docker", "other", "a", digest("o"), 1, {})
    first, second = await staging.staged("docker", "app")
    assert (first.name, second.name) == ("a", "b")
    assert second == StagedRow(
        repository="docker",
        package="app",
        name="b",
        digest=digest("b"),
        size=7,
        checksums={"md5": "00", "sha256": digest("b").hex},
        metadata=b"{}",
        created=1000.0,
    )
    assert await staging.staged("docker", "none") == []
    assert await staging.staged("docker", "\0") == []


async def test_an_equal_name_is_replaced(staging: Staging) -> None:
    await staging.stage("r", "p", "n", digest("old"), 1, {})
    await staging.stage("r", "p", "n", digest("new"), 2, {})
    (row,) = await staging.staged("r", "p")
    assert (row.digest, row.size) == (digest("new"), 2)


async def test_what_is_unstaged_is_gone(staging: Staging) -> None:
    for name in "abc":
        await staging.stage("r", "p", name, digest(name), 1, {})
    await staging.unstage("r", "p", "a")
    await staging.unstage("r", "p", "unknown")
    await staging.unstage("r", "p", "\0")
    assert [row.name for row in await staging.staged("r", "p")] == ["b", "c"]
    await staging.unstage_all("r", [("p", "b"), ("p", "c"), ("q", "d")])
    assert await staging.staged("r", "p") == []


async def test_what_is_old_expires(staging: Staging, clock: Clock) -> None:
    await staging.stage("r", "p", "old", digest("old"), 1, {})
    clock.now += 100.0
    await staging.stage("r", "p", "new", digest("new"), 1, {})
    assert await staging.expire(50.0) == 1
    assert await staging.expire(50.0) == 0
    assert [row.name for row in await staging.staged("r", "p")] == ["new"]


async def test_the_collector_learns_what_is_needed(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for name in "abcde":
        await staging.stage("r", "p", name, digest(name), 1, {})
        await staging.stage("r", "q", name, digest(name), 1, {})
    assert sorted([each async for each in staging.digests()]) == sorted(map(digest, "abcde"))
    assert await staging.referenced([*map(digest, "axe")]) == {digest("a"), digest("e")}
    assert await staging.referenced([]) == set()
