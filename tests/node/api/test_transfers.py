"""Transfers over the API: operators only, and 404 for what never moved."""

from __future__ import annotations

from pathlib import Path

from tests.node.world import world

NEVER = "sha256:" + "00" * 32


async def test_without_a_mesh_nothing_moves(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for place in ("/mesh/transfers", f"/mesh/transfers/{NEVER}", "/mesh/links"):
            assert (await node.api("GET", place)).status == 503
            assert (await node.ask("GET", f"/api/v1{place}")).status == 401
