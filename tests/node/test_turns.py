"""Locks by key that leave nothing behind."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from node.turns import Turns


async def test_one_at_a_time_for_a_key_and_side_by_side_for_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    turns: Turns[str] = Turns()
    seen: list[tuple[str, float]] = []

    async def work(key: str) -> None:
        async with turns.of(key):
            await trio.sleep(1)
            seen.append((key, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for key in ("a", "a", "b"):
            nursery.start_soon(work, key)
    assert sorted(seen) == [("a", 1.0), ("a", 2.0), ("b", 1.0)]
    assert len(turns) == 0


async def test_cancelled_and_failed_holders_leave_nothing_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    turns: Turns[str] = Turns()

    async def hold() -> None:
        async with turns.of("a"):
            with trio.move_on_after(1):
                async with turns.of("b"):
                    await trio.sleep_forever()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await hold()
    assert len(turns) == 0
