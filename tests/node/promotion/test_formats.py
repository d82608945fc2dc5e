"""Promotion in every format: the native index lists it, the bytes are there, rollback undoes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node.promotion.staged import KINDS, staged

each_kind = pytest.mark.parametrize("form", sorted(KINDS))


@each_kind
async def test_what_is_promoted_is_served_and_rolled_back(form: str, tmp_path: Path) -> None:
    async with staged(tmp_path, form) as stage:
        assert (await stage.publish("1.0")).status in {200, 201}
        assert (await stage.publish("2.0")).status in {200, 201}
        assert not await stage.listed()
        blobs = sorted((tmp_path / "data" / "blobs").rglob("*"))
        answer = await stage.ask("lead")
        assert answer.status == 200, answer.body
        assert answer.json["promoted"], answer.body
        assert sorted((tmp_path / "data" / "blobs").rglob("*")) == blobs, "records, not bytes"
        assert await stage.listed()
        here, there = await stage.get(stage.kind.file), await stage.get(stage.kind.file, "stage")
        assert here.status == 200, here.body
        assert here.body == there.body
        path = f"/approval/{answer.json['promotion_id']}/rollback"
        undone = await stage.call("lead", "POST", path, {"notes": "broken"})
        assert undone.json["status"] == "rolled_back", undone.body
        assert not await stage.listed()
        assert (await stage.ask("lead")).json["promoted"], "the same bytes may come again"
        assert await stage.listed()


@each_kind
async def test_direct_publishes_are_refused_where_only_promotions_may(
    form: str, tmp_path: Path
) -> None:
    async with staged(tmp_path, form) as stage:
        await stage.rules(promotion_only=True)
        refused = await stage.publish(key="rel", user="lead")
        assert refused.status == 403, refused.body
        assert b"takes promotions only" in refused.body
        assert (await stage.publish()).status in {200, 201}
        assert (await stage.ask("lead")).json["promoted"]
        assert await stage.listed()
