"""The mesh as the node starts it: what it is told of, and how patiently it joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import trio

from node import swarm
from node.directory import UserEntry
from store.errors import NoHolderError, RejectedError
from tests.node.world import world


class Mesh:
    """An inviter that is away for a while."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0

    async def join(self, invitation: str) -> None:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)


async def test_joining_waits_for_the_inviter_and_then_for_its_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(swarm, "RETRY", 0.01)
    async with world(tmp_path) as node:
        core, marker = node.core, node.core.config.path / "provisioned"
        marker.unlink()
        core.directory._entries["user"].clear()
        mesh = Mesh(NoHolderError("away"), ConnectionRefusedError("nobody listens"))
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(swarm._join, core, cast("Any", mesh), "x")
                await trio.sleep(0.3)
                user = UserEntry(username="theirs")
                await core.ledger.append([core.directory.change("theirs", user)], actor="t")
        assert mesh.tries == 3
        assert "npm" in marker.read_text().split()
    assert capsys.readouterr().err.count("cannot join yet") == 2


async def test_an_invitation_that_is_no_good_is_not_tried_again(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        mesh = Mesh(RejectedError("expired"), RejectedError("again"))
        with pytest.raises(RejectedError, match="expired"):
            await swarm._join(node.core, cast("Any", mesh), "x")
        assert mesh.tries == 1
