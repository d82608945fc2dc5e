"""Judging: what is lacking when the ground moves between the request and the judgement."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.promotion.judging import Judge
from store.errors import NotFoundError
from tests.node.promotion.staged import staged


async def test_what_is_gone_is_lacking(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        core = stage.node.core
        await stage.publish()
        found = await core.promotions.show(
            core.operator(), (await stage.ask("dev")).json["promotion_id"]
        )
        judge = Judge(core)
        assert [each.rule for each in (await judge.judge(found)).unmet] == ["approvals"]
        await stage.node.ask("DELETE", "/general/stage/demo/1.0.bin", password=stage.tokens["dev"])
        lacking = (await judge.judge(found)).unmet
        assert [each.rule for each in lacking] == ["content", "approvals"]
        assert (await stage.node.api("DELETE", "/repositories/stage")).status == 204
        with pytest.raises(NotFoundError):
            await judge.judge(found)
