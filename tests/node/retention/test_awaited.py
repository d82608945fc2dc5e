"""Requests for promotion that come while versions are about to go."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.retention.awaited import Awaited, Wanted
from tests.node.promotion.staged import staged
from tests.node.retention.test_service import meanwhile, policy


async def test_looking_again_reads_what_is_new_and_forgets_what_was_decided(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        for version in ("1.0", "2.0"):
            await stage.publish(version)
        catalog = stage.node.core.catalog
        awaited = Awaited(catalog)
        nothing = await awaited.look()
        assert not nothing.versions
        asked = (await stage.ask("dev", ("demo", "1.0.bin"))).json["promotion_id"]
        one = Wanted("stage", "demo", "1.0.bin")
        assert await catalog.read(nothing.since) == {one}
        first = await awaited.look()
        assert first.versions == {one}
        assert await awaited.look() is first, "nothing new"
        await stage.ask("dev", ("demo", "2.0.bin"))
        await awaited.look()
        assert await catalog.read(first.since) == {Wanted("stage", "demo", "2.0.bin")}
        await stage.call("dev", "POST", f"/approval/{asked}/reject", {})
        assert (await awaited.look()).versions == {Wanted("stage", "demo", "2.0.bin")}


async def test_a_promotion_asked_for_since_the_plan_or_the_look_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path, "generic") as stage:
        for version in ("1.0", "2.0", "3.0"):
            await stage.publish(version)
        await policy(stage, keep_last=1)
        retention = stage.node.core.retention
        planned = [each async for each in retention.plan()]
        assert [each.verdict.edition.version for each in planned] == ["1.0.bin", "2.0.bin"]
        asked = (await stage.ask("dev", ("demo", "1.0.bin"))).json
        gone = await retention._remove_all(planned, "t")
        assert [each.verdict.edition.version for each in gone] == ["2.0.bin"]
        taken_back = await stage.call(
            "dev", "POST", f"/approval/{asked['promotion_id']}/reject", {}
        )
        assert taken_back.status == 200, taken_back.body

        async def ask() -> None:
            again = await stage.ask("dev", ("demo", "1.0.bin"))
            assert again.status == 200, again.body

        with monkeypatch.context() as patch:
            meanwhile(retention, patch, ask)
            assert not await retention._remove(planned[0], "t")
        assert (await stage.get("/demo/1.0.bin", "stage")).status == 200
