"""The bridge to asyncio: results, errors, cancellation from either side, closing."""

from __future__ import annotations

import asyncio
import threading

import outcome
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from store.errors import UnavailableError
from store.portal import Reply, Withdrawn, open_portal
from tests.store.threads import threads


async def test_a_call_runs_on_the_portal_s_thread() -> None:
    async def where(number: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return number, threading.current_thread().name

    async with open_portal() as portal:
        assert await portal.call(where, 7) == (7, "asyncio")


async def test_an_error_is_raised_here() -> None:
    async def fail() -> None:
        raise KeyError("x")

    async with open_portal() as portal:
        with pytest.raises(KeyError, match="x"):
            await portal.call(fail)


async def test_many_calls_run_at_once() -> None:
    here = asyncio.Queue[int]()
    got: list[int] = []

    async def take() -> int:
        return await here.get()

    async def give(number: int) -> None:
        here.put_nowait(number)

    async with open_portal() as portal:

        async def one() -> None:
            got.append(await portal.call(take))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
            for number in range(20):
                nursery.start_soon(portal.call, give, number)
    assert sorted(got) == list(range(20))


async def test_cancelling_here_cancels_there_and_waits() -> None:
    steps: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            steps.append("cleaned up")

    async with open_portal() as portal:
        with trio.move_on_after(0.02) as scope:
            await portal.call(slow)
        assert scope.cancelled_caught
        assert steps == ["cleaned up"]


async def test_a_call_cancelled_before_it_starts_does_not_run() -> None:
    ran: list[int] = []

    async def work() -> None:
        ran.append(1)

    async with open_portal() as portal:
        with trio.CancelScope() as scope:
            scope.cancel()
            await portal.call(work)
        assert scope.cancelled_caught
    assert ran == []


async def test_a_result_that_comes_despite_cancellation_stands() -> None:
    async def stubborn() -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return 7
        raise AssertionError

    results: list[int] = []
    async with open_portal() as portal:
        with trio.move_on_after(0.02) as scope:
            results.append(await portal.call(stubborn))
    assert results == [7]
    assert not scope.cancelled_caught


async def test_closing_lets_calls_finish() -> None:
    results: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.03)
        results.append("done")

    async with trio.open_nursery() as nursery, open_portal() as portal:
        nursery.start_soon(portal.call, work)
        await wait_all_tasks_blocked()
    assert results == ["done"]


async def test_closing_gives_up_in_the_end() -> None:
    async def call() -> None:
        with pytest.raises(UnavailableError):
            await portal.call(asyncio.sleep, 60)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, open_portal(drain=0.02) as portal:
            nursery.start_soon(call)
            await wait_all_tasks_blocked()
    with pytest.raises(UnavailableError):
        await portal.call(asyncio.sleep, 0)
    await portal.close()  # twice is once


async def test_a_reply_is_answered_once() -> None:
    def begin(reply: Reply[int]) -> None:
        portal.answer([(reply, outcome.Value(1))])
        portal.answer([(reply, outcome.Value(2))])

    async with open_portal() as portal:
        assert await portal.wait(begin, lambda reply: None) == 1


async def test_a_withdrawn_reply_is_a_cancelled_call() -> None:
    begun = threading.Event()

    def cancel(reply: Reply[None]) -> None:
        portal.answer([(reply, outcome.Error(Withdrawn()))])

    async with open_portal() as portal:
        with trio.move_on_after(0.01) as scope:
            await portal.wait(lambda reply: begun.set(), cancel)
        assert scope.cancelled_caught
        assert begun.is_set()


async def test_the_thread_ends() -> None:
    before = threads()
    async with open_portal():
        assert len(threads() - before) == 1
    assert threads() <= before
