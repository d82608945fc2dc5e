"""Metrics of deltas."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.core import CollectorRegistry

from node.deltametrics import DeltaMetrics
from tests.node.test_deltas import desk, version


async def test_what_is_made_and_kept_is_counted(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        keeper, registry = found.keeper, CollectorRegistry()
        registry.register(DeltaMetrics(keeper))
        assert registry.get_sample_value("atoll_delta_made_total") == 0
        digests = [await found.publish(f"p-1.{n}.whl", version(n)) for n in range(2)]
        keeper.asked(digests[1].raw)
        await found.settled(lambda: keeper.made == 1 and keeper.allowance.spent > 0)
        value = registry.get_sample_value
        assert value("atoll_delta_made_total") == value("atoll_delta_count") == 1
        assert value("atoll_delta_bytes") == keeper.shelf.taken > 0
        assert value("atoll_delta_cpu_seconds_total") == keeper.allowance.spent
        assert value("atoll_delta_resting") == 0
