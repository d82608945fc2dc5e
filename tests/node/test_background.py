"""Chores: each gets its turn, whatever becomes of the others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from node.background import Background
from node.directory import TokenEntry
from store.errors import UnavailableError
from tests.node.world import world


async def test_one_failing_chore_stops_neither_the_others_nor_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only disk made sweeping fail with an error nobody expected: the node ended."""
    async with world(tmp_path) as node:
        core = node.core

        def fail(*_: object) -> int:
            raise PermissionError("read-only file system")

        async def unavailable(*_: object) -> int:
            raise UnavailableError("not now")

        monkeypatch.setattr(core.sessions, "sweep", fail)
        monkeypatch.setattr(core.staging, "expire", unavailable)
        await core.accounts.create_token("admin", "old", ["read"], actor="t", expires_at=1.0)
        await Background(core).housekeep()
        assert {each.name for each in core.directory.all(TokenEntry)} == {"t"}


async def test_every_chore_is_done(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        core = node.core
        await core.sessions.of("docker", ()).create("app")
        await core.accounts.create_token("admin", "old", ["read"], actor="t", expires_at=1.0)
        await Background(core).housekeep()
        assert len(core.directory.all(TokenEntry)) == 1
        assert core.sessions.sweep(now=time.time() + 10 * 86400) == 1


async def test_it_runs_until_it_is_cancelled(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        with trio.move_on_after(0.2) as scope:
            await Background(node.core).run()
        assert scope.cancelled_caught
