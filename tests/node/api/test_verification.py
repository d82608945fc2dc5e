"""The endpoint tells what it finds as it goes, to managers alone."""

from __future__ import annotations

import json
from pathlib import Path

from store.facts import Flag
from tests.node.test_verification import sql
from tests.node.world import world


async def test_findings_come_a_line_each_and_the_verdict_last(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await node.core.ledger.append([Flag("generic", "p", "1", "", "yanked", b"")], actor="t")
        sql(node, "DELETE FROM flags")
        answer = await node.api("POST", "/verify", {"repair": True})
        assert answer.headers["content-type"] == "application/x-ndjson"
        events = [json.loads(line) for line in answer.body.splitlines()]
        (found,) = [each for each in events if each["type"] == "finding"]
        assert (found["kind"], found["healed"]) == ("catalog", True)
        assert (events[-1]["type"], events[-1]["healed"]) == ("verdict", 1)
        assert (await node.ask("POST", "/api/v1/verify", b"{}")).status == 401
        assert (await node.api("POST", "/verify", {"repiar": True})).status == 400
