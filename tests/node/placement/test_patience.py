"""Repair rests while there is nothing to do, whatever it met before."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from node.placement.follower import Follower
from node.placement.repair import LOOK, Repair
from store.errors import NoHolderError
from store.inventory import Row


class Inventory:
    """One blob that is missing, or nothing; counts how often it is asked."""

    def __init__(self, *rows: Row) -> None:
        self.all, self.asked = list(rows), 0
        self.missed: list[bytes] = []  # what repair says that nobody gave

    async def missing(self, after: bytes, _: int) -> list[Row]:
        self.asked += not after
        return [row for row in self.all if row.blob > after]

    async def rows(self, blobs: list[bytes]) -> dict[bytes, Row]:
        return {row.blob: row for row in self.all if row.blob in blobs}


async def tried(inventory: Inventory, seconds: float) -> int:
    """Let it work for some virtual time, meeting three members; how often it tried to fetch."""
    attempts = 0
    meetings = iter([1.0, 2.0, 3.0])

    async def met() -> None:
        await trio.sleep(next(meetings, 1e9))

    async def fetch(*_: Any, **__: Any) -> None:
        nonlocal attempts
        attempts += 1
        raise NoHolderError("nobody")

    async def judge(_: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def uses(names: list[str]) -> dict[str, list[Any]]:
        return {name: [] for name in names}

    follower = SimpleNamespace(
        changed=trio.Event(),
        fresh=deque(),
        inventory=inventory,
        judge=judge,
        noting=lambda _: False,
    )
    follower.wake = lambda: Follower.wake(follower)  # type: ignore[arg-type]  # a fake of it
    repair = Repair(follower, SimpleNamespace(of=uses), fetch, met)  # type: ignore[arg-type]  # a fake of it
    repair.missed = inventory.missed.append
    with trio.move_on_after(seconds):
        await repair.run()
    return attempts


async def test_nothing_missing_is_looked_for_once_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inventory = Inventory()
    assert await tried(inventory, 600.0) == 0
    assert 600 / LOOK <= inventory.asked <= 600 / LOOK + 5


async def test_what_nobody_has_is_tried_ever_less_often(
    autojump_clock: trio.testing.MockClock,
) -> None:
    row = Row(b"x" * 32, 10, "", 1, wanted=True, held=False, due=None, used=0.0, reads=0.0)
    inventory = Inventory(row)
    attempts = await tried(inventory, 600.0)
    assert 5 <= attempts <= 15
    assert inventory.missed == [row.blob] * attempts
    assert inventory.asked <= 40
