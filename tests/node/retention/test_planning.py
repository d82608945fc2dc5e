"""Plans over many versions: memory holds a page, and a large package is judged alike."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from node.retention import reading
from node.retention.awaited import Pending
from node.retention.service import BATCH
from store.facts import File, Publish
from tests.node.promotion.staged import KINDS, Staged, staged
from tests.node.retention.test_service import apply, plan, policy

PACKAGES, VERSIONS = 150, 10


async def grow(stage: Staged) -> None:
    """Many versions, the newest last; their bytes are nowhere."""
    facts = [
        Publish("stage", f"d{p:03}/é", "", (File(f"d{p:03}/é/{v}.bin", "file", digest(p, v), 7),))
        for v in range(VERSIONS)
        for p in range(PACKAGES)
    ]
    for first in range(0, len(facts), 500):
        await stage.node.core.ledger.append(facts[first : first + 500], actor="t")


def digest(package: int, version: int) -> str:
    return f"sha256:{package:032x}{version:032x}"


async def test_a_plan_holds_a_page_and_a_run_removes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 20)
    monkeypatch.setattr(reading, "FILES_MAX", 100)
    async with staged(tmp_path, "generic") as stage:
        await grow(stage)
        await policy(stage, keep_last=VERSIONS - 1, unused_for=1e-3)
        tracemalloc.start()
        try:
            async for _ in stage.node.core.retention.plan():
                pass
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3 << 20, f"{held} of {peak}: {PACKAGES * VERSIONS} versions are twice that"
        wanted = [f"d{p:03}/é" for p in range(PACKAGES)]
        assert [e["package"] for e in (await plan(stage))["items"]] == wanted
        before = await stage.node.core.ledger.heads()
        done = await apply(stage)
        assert (done["removed"], done["missed"]) == (PACKAGES, 0)
        grown = sum(end for end, _ in (await stage.node.core.ledger.heads()).values())
        grown -= sum(end for end, _ in before.values())
        assert grown <= 2 * PACKAGES / BATCH + 2, "many leave in one record"
        assert (await plan(stage))["versions"] == 0


async def test_what_saves_versions_is_looked_for_once_for_all_that_was_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FILES_MAX", 500)
    async with staged(tmp_path, "generic") as stage:
        await grow(stage)
        await policy(stage, keep_last=VERSIONS - 1)
        looked, retention = 0, stage.node.core.retention
        look = retention._planner.awaited.look

        async def counted() -> Pending:
            nonlocal looked
            looked += 1
            return await look()

        monkeypatch.setattr(retention._planner.awaited, "look", counted)
        names = [each.package async for each in retention.plan()]
        assert names == [f"d{p:03}/é" for p in range(PACKAGES)]
        assert looked == 3, "fifty packages at a time; a query for each was most of a plan"


async def test_what_changes_meanwhile_keeps_only_itself(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        for name in ("1.0", "2.0", "3.0"):
            await stage.publish(name)
        await policy(stage, keep_last=1)
        retention = stage.node.core.retention
        planned = [each async for each in retention.plan()]
        assert len(planned) == 2
        ledger, tried = retention._ledger, 0

        class Racing:
            async def append(self, facts: object, *, actor: str, check: object = None) -> object:
                nonlocal tried
                tried += 1
                if tried == 1:
                    path = "/general/stage/demo/2.0.bin"
                    token = stage.tokens["dev"]
                    assert (await stage.node.ask("DELETE", path, password=token)).status == 204
                return await ledger.append(facts, actor=actor, check=check)  # type: ignore[arg-type]  # a fake of it

        retention._ledger = Racing()  # type: ignore[assignment]  # a fake in its place
        gone = await retention._remove_all(planned, "t")
        assert [each.verdict.edition.version for each in gone] == ["1.0.bin"]


async def test_a_large_package_whose_tags_move_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FILES_MAX", 1)
    async with staged(tmp_path, "generic") as stage:
        for name in ("1.0", "2.0"):
            await stage.publish(name)
        await policy(stage, keep_last=1)
        retention = stage.node.core.retention
        (planned,) = [each async for each in retention.plan()]
        assert planned.large
        await policy(stage, keep_last=1, exclude=["x@y"])
        assert not await retention._remove(planned, "t"), "it would be read for every version"
        (planned,) = [each async for each in retention.plan()]
        assert await retention._remove(planned, "t")


@pytest.mark.parametrize("form", sorted(KINDS))
async def test_versions_leave_together_unless_one_needs_to_know_of_the_others(
    form: str, tmp_path: Path
) -> None:
    async with staged(tmp_path, form) as stage:
        for version in ("1.0", "2.0", "3.0"):
            await stage.publish(version)
        await policy(stage, keep_last=1)
        retention = stage.node.core.retention
        first, second = [each async for each in retention.plan()]
        assert retention._joins([first], second) is (form in {"generic", "npm", "pypi"})
        before = await stage.node.core.ledger.heads()
        assert (await apply(stage))["removed"] == 2
        grown = sum(end for end, _ in (await stage.node.core.ledger.heads()).values())
        assert grown > sum(end for end, _ in before.values())
        assert (await plan(stage))["versions"] == 0
