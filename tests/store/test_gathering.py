"""What waits together is done together, and each has its own outcome."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from store.errors import RegistryError, StoreFullError
from store.gathering import Gathering


class Work:
    """Doubles numbers, one batch whenever it is let; refuses those of 100 and more."""

    def __init__(self, allowed: int = 1000) -> None:
        self.batches: list[list[int]] = []
        self.allowed = trio.Semaphore(allowed)

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        await self.allowed.acquire()
        if max(items) >= 100:
            raise StoreFullError("too much")
        return [2 * each for each in items]


async def test_one_alone_does_not_wait_for_company() -> None:
    work = Work()
    assert await Gathering(work).do(4) == 8
    assert work.batches == [[4]]


async def test_what_comes_meanwhile_goes_together() -> None:
    work = Work(allowed=0)
    gathering, found = Gathering(work, most=3), dict[int, int]()

    async def one(item: int) -> None:
        found[item] = await gathering.do(item)

    async with trio.open_nursery() as nursery:
        for item in range(6):
            nursery.start_soon(one, item)
            await trio.testing.wait_all_tasks_blocked()
        assert work.batches == [[0]]
        for _ in range(3):
            work.allowed.release()
    assert work.batches == [[0], [1, 2, 3], [4, 5]]
    assert found == {item: 2 * item for item in range(6)}


async def test_lanes_work_side_by_side() -> None:
    work = Work(allowed=0)
    gathering = Gathering(work, lanes=2)
    async with trio.open_nursery() as nursery:
        for item in range(5):
            nursery.start_soon(gathering.do, item)
            await trio.testing.wait_all_tasks_blocked()
        assert work.batches == [[0], [1]]
        for _ in range(3):
            work.allowed.release()
    assert work.batches == [[0], [1], [2, 3, 4]]


async def test_each_has_its_own_error() -> None:
    work = Work(allowed=0)
    gathering, found = Gathering(work), dict[int, int | str]()

    async def one(item: int) -> None:
        try:
            found[item] = await gathering.do(item)
        except RegistryError as error:
            found[item] = str(error)

    async with trio.open_nursery() as nursery:
        for item in (1, 2, 100, 3):
            nursery.start_soon(one, item)
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            work.allowed.release()
    assert work.batches == [[1], [2, 100, 3], [2], [100], [3]]
    assert found == {1: 2, 2: 4, 100: "too much", 3: 6}


async def test_who_is_cancelled_keeps_nobody_else_waiting() -> None:
    work = Work(allowed=0)
    gathering, found = Gathering(work), dict[int, int]()
    leaving, waiting = trio.CancelScope(), trio.CancelScope()

    async def one(item: int, scope: trio.CancelScope) -> None:
        with scope:
            found[item] = await gathering.do(item)

    async with trio.open_nursery() as nursery:
        for item, scope in ((0, leaving), (1, waiting), (2, trio.CancelScope())):
            nursery.start_soon(one, item, scope)
            await trio.testing.wait_all_tasks_blocked()
        waiting.cancel()
        await trio.testing.wait_all_tasks_blocked()
        leaving.cancel()  # it was at work
        await trio.testing.wait_all_tasks_blocked()
        work.allowed.release()
    assert work.batches == [[0], [2]]
    assert found == {2: 4}


async def test_a_cancelled_batch_is_done_by_somebody_else() -> None:
    work = Work(allowed=0)
    gathering, found = Gathering(work), dict[int, int]()
    leader = trio.CancelScope()

    async def one(item: int, scope: trio.CancelScope) -> None:
        with scope:
            found[item] = await gathering.do(item)

    async with trio.open_nursery() as nursery:
        for item, scope in ((0, trio.CancelScope()), (1, leader), (2, trio.CancelScope())):
            nursery.start_soon(one, item, scope)
            await trio.testing.wait_all_tasks_blocked()
        work.allowed.release()  # 1 leads a batch of itself and 2 now
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
        await trio.testing.wait_all_tasks_blocked()
        work.allowed.release()
    assert work.batches == [[0], [1, 2], [2]]
    assert found == {0: 0, 2: 4}


async def test_other_errors_are_raised_where_they_happen() -> None:
    async def broken(items: Sequence[int]) -> Sequence[int]:
        await trio.lowlevel.checkpoint()
        raise ValueError("a bug")

    gathering = Gathering(broken)
    with pytest.raises(ValueError, match="a bug"):
        await gathering.do(1)


STEPS = ["start", "go", "pass", "settle", *(("leave", number) for number in range(5))]
TAKEN = ["start", "settle", "start", "settle", "start", "settle", "start", "settle", "go", "settle"]


class Schedule:
    """Plays steps: callers come, work is let go on, callers leave, a checkpoint passes."""

    def __init__(self, lanes: int) -> None:
        self.gathering = Gathering(self.work, most=3, lanes=lanes)
        self.allowed = trio.Semaphore(0)
        self.scopes: list[trio.CancelScope] = []
        self.ended: dict[int, int | str | None] = {}  # None: it was cancelled
        self.late: list[int] = []  # what was begun for one that had left

    async def work(self, items: Sequence[int]) -> Sequence[int]:
        self.late += [item for item in items if item in self.ended]
        await self.allowed.acquire()
        await trio.lowlevel.checkpoint()
        if 1 in items:
            raise StoreFullError("too much")
        return [2 * each for each in items]

    async def caller(self, item: int, scope: trio.CancelScope) -> None:
        outcome: int | str | None = None
        try:
            with scope:
                outcome = await self.gathering.do(item)
        except StoreFullError as error:
            outcome = str(error)
        self.ended[item] = outcome

    async def play(self, steps: Sequence[str | tuple[str, int]]) -> None:
        async with trio.open_nursery() as nursery:
            for step in steps:
                match step:
                    case "start":
                        self.scopes.append(trio.CancelScope())
                        nursery.start_soon(self.caller, len(self.scopes) - 1, self.scopes[-1])
                    case "go":
                        self.allowed.release()
                    case "pass":
                        await trio.lowlevel.checkpoint()
                    case "settle":
                        await trio.testing.wait_all_tasks_blocked()
                    case (_, number) if int(number) < len(self.scopes):
                        self.scopes[int(number)].cancel()
            for _ in range(50):
                self.allowed.release()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 2), st.lists(st.sampled_from(STEPS), max_size=24))
@example(
    1, [*TAKEN, ("leave", 2), "settle", ("leave", 1), "settle"]
)  # one in a batch, then its lead
@example(1, [*TAKEN, ("leave", 2), "go", "settle"])  # one in a batch that fails
@example(1, [*TAKEN, ("leave", 1), ("leave", 2), "settle", ("leave", 3), "go"])
def test_whoever_leaves_and_when_the_others_end(
    lanes: int, steps: list[str | tuple[str, int]]
) -> None:
    async def main() -> Schedule:
        schedule = Schedule(lanes)
        await schedule.play(steps)
        return schedule

    schedule = trio.run(main)
    assert schedule.late == []
    for item, scope in enumerate(schedule.scopes):
        right = "too much" if item == 1 else 2 * item
        assert schedule.ended[item] in ((right, None) if scope.cancel_called else (right,))
