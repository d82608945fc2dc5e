"""Invitations over the API; without a network there are none."""

from __future__ import annotations

from pathlib import Path

from tests.node.world import world


async def test_invitations_need_a_running_mesh_and_an_administrator(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert (await node.api("GET", "/mesh/invitations")).status == 503
        assert (await node.api("DELETE", "/mesh/invitations/ab")).status == 503
        assert (await node.api("POST", "/mesh/invitations", {"expires_in": 0})).status == 400
        assert (await node.api("POST", "/mesh/invitations", {})).status == 503
        assert (await node.ask("GET", "/api/v1/mesh/invitations")).status == 401
