"""Membership, placement, couriers and conflicts as Prometheus sees them, on whole nodes."""

from __future__ import annotations

from pathlib import Path

from tests.node.placement.fleet import fleet, until
from tests.node.placement.test_repair import content, rule


async def test_everything_that_the_mesh_knows_is_told(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a = await made.node("harbour")
        b = await made.node("ship", courier="on", courier_budget=1000)
        for each in (a, b):
            await each.settle()
        await rule(a, id="all", target="everywhere")
        blob = await a.publish("tool/1", content(1))
        await until(lambda: b.has(blob))

        async def counted() -> bool:
            text = (await b.core.metrics.text()).decode()
            return 'atoll_placement_blobs{rule="all",state="held"} 1.0' in text

        await until(counted)
        text = (await b.core.metrics.text()).decode()
        for line in (
            'atoll_mesh_members{site="harbour"} 1.0',
            'atoll_mesh_members{site="ship"} 1.0',
            "atoll_mesh_linked 1.0",
            "atoll_mesh_evicted 0.0",
            "atoll_mesh_root_contested 0.0",
            "atoll_ledger_forked 0.0",
            'atoll_placement_blobs{rule="all",state="missing"} 0.0',
            'atoll_placement_bytes{rule="all",state="held"} 20000.0',
            "atoll_placement_fetched_bytes_total 20000.0",
            "atoll_evicted_blobs_total 0.0",
            "atoll_courier_active 1.0",
            "atoll_courier_budget_bytes 1000.0",
            'atoll_courier_blobs_total{outcome="delivered"} 0.0',
            'atoll_conflicts{kind="files"} 0.0',
            'atoll_transfer_ends_total{outcome="complete"} 1.0',
            'atoll_transfer_bytes_total{use="useful"} 20000.0',
        ):
            assert line in text, line
        answer = await b.api("GET", "/admin/metrics")
        assert answer.status == 200
        assert b"atoll_mesh_members" in answer.body
