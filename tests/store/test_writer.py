"""The writer against a database that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
import trio
from trio.testing import wait_all_tasks_blocked

from store import writer as module
from store.backend import Unit
from store.errors import StoreFullError, UnavailableError, VersionExistsError
from store.portal import Portal, open_portal
from store.writer import UnknownOutcomeError, Writer

T = TypeVar("T")


class Refusal(Exception):  # noqa: N818  a refusal, not an error
    """What asyncpg would raise, with this SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class Scripted:
    """A backend in memory whose transactions fail as told: before or while committing."""

    dialect = "scripted"
    directory = None

    def __init__(self) -> None:
        self.before: list[Exception] = []
        self.committing: list[Exception | None] = []
        self.hold: asyncio.Event | None = None
        self.begun = self.committed = 0

    async def write(self, unit: Unit[T], committing: Callable[[], None]) -> T:
        self.begun += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.before:
            raise self.before.pop(0)
        engine = sa.create_engine("sqlite://")
        try:
            with engine.begin() as connection:
                result = unit(connection)
        finally:
            engine.dispose()
        committing()
        failure = self.committing.pop(0) if self.committing else None
        if failure is not None:
            raise failure
        self.committed += 1
        return result


Write = Callable[[Unit[Any]], Any]


class Fixture:
    def __init__(self, portal: Portal, backend: Scripted, writer: Writer) -> None:
        self.portal, self.backend, self.writer = portal, backend, writer

    async def write(self, unit: Unit[T]) -> T:
        return await self.portal.wait(partial(self.writer.submit, unit=unit), self.writer.withdraw)

    async def hold(self, nursery: trio.Nursery) -> None:
        """Let one unit occupy the writer until ``release``."""

        async def hold() -> int:
            self.backend.hold = asyncio.Event()
            return self.backend.begun

        before = await self.portal.call(hold)
        nursery.start_soon(self._hold)
        while self.backend.begun == before:  # noqa: ASYNC110  another thread counts
            await trio.sleep(0.001)

    async def _hold(self) -> None:
        with suppress(UnavailableError):
            await self.write(lambda c: None)

    async def release(self) -> None:
        async def release() -> None:
            assert self.backend.hold is not None
            self.backend.hold.set()

        await self.portal.call(release)


@pytest.fixture
async def setup(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Fixture]:
    monkeypatch.setattr(module, "PAUSE", 0.0001)
    async with open_portal(drain=0.05) as portal:
        backend = Scripted()

        async def start() -> tuple[Writer, asyncio.Task[None]]:
            writer = Writer(portal, backend)  # type: ignore[arg-type]  # a fake of the backend
            return writer, asyncio.create_task(writer.run())

        writer, task = await portal.call(start)
        yield Fixture(portal, backend, writer)

        async def stop() -> None:
            task.cancel()
            await asyncio.wait((task,))

        await portal.call(stop)


async def test_a_serialization_failure_is_tried_again(setup: Fixture) -> None:
    setup.backend.before = [Refusal("40001"), Refusal("40P01")]
    setup.backend.committing = [Refusal("40001")]
    assert await setup.write(lambda c: 7) == 7
    assert (setup.backend.begun, setup.backend.committed) == (4, 1)


async def test_but_not_for_ever(setup: Fixture) -> None:
    setup.backend.before = [Refusal("40001")] * module.ATTEMPTS
    with pytest.raises(UnavailableError):
        await setup.write(lambda c: 7)
    assert setup.backend.begun == module.ATTEMPTS
    assert await setup.write(lambda c: 7) == 7


async def test_a_connection_lost_before_the_commit_is_tried_once_again(setup: Fixture) -> None:
    setup.backend.before = [Refusal("57P01")]
    assert await setup.write(lambda c: 7) == 7
    setup.backend.before = [Refusal("57P01"), Refusal("57P03")]
    with pytest.raises(UnavailableError):
        await setup.write(lambda c: 7)


async def test_a_connection_lost_in_the_commit_is_not(setup: Fixture) -> None:
    setup.backend.committing = [Refusal("57P01")]
    with pytest.raises(UnknownOutcomeError):
        await setup.write(lambda c: 7)
    assert setup.backend.begun == 1


async def crowd(setup: Fixture, *units: Unit[Any]) -> list[object]:
    """Let units wait together; the result or the error of each."""
    results: list[object] = [None] * len(units)

    async def write(index: int, unit: Unit[Any]) -> None:
        try:
            results[index] = await setup.write(unit)
        except UnavailableError as error:
            results[index] = type(error)
        except VersionExistsError as error:
            results[index] = str(error)

    async with trio.open_nursery() as nursery:
        await setup.hold(nursery)
        for index, unit in enumerate(units):
            nursery.start_soon(write, index, unit)
            await wait_all_tasks_blocked()  # in this order
        await setup.release()
    return results


async def test_an_unknown_outcome_is_everybody_s(setup: Fixture) -> None:
    setup.backend.committing = [None, Refusal("57P01")]  # the first commit is the holder's
    found = await crowd(setup, lambda c: 1, lambda c: 2)
    assert found == [UnknownOutcomeError] * 2


async def test_one_failure_runs_the_others_again_behind_savepoints(setup: Fixture) -> None:
    ran: list[int] = []

    def fail(connection: sa.Connection) -> None:
        ran.append(0)
        raise VersionExistsError("taken")

    def work(number: int, connection: sa.Connection) -> int:
        ran.append(number)
        return number

    assert await crowd(setup, partial(work, 1), fail, partial(work, 2)) == [1, "taken", 2]
    assert ran == [1, 0, 1, 0, 2]
    assert setup.backend.committed == 2  # the holder's, and one for all three


async def test_a_fatal_failure_gives_each_its_own_transaction(setup: Fixture) -> None:
    full = Refusal("53100")

    def fail(connection: sa.Connection) -> None:
        raise sa.exc.OperationalError("INSERT", {}, full)

    assert await crowd(setup, lambda c: 1, fail, lambda c: 2) == [1, StoreFullError, 2]
    assert setup.backend.committed == 3


async def test_batches_are_bounded(setup: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_MAX", 4)
    assert await crowd(setup, *[lambda c: 7] * 10) == [7] * 10
    assert setup.backend.committed == 4


async def test_the_queue_is_bounded(setup: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 2)
    found = await crowd(setup, *[lambda c: 7] * 5)
    assert sorted(map(str, found)) == ["7", "7", *[str(UnavailableError)] * 3]


async def test_stopping_answers_everybody(setup: Fixture) -> None:
    async def refused() -> None:
        with pytest.raises(UnavailableError):
            await setup.write(lambda c: 7)

    async def stop() -> None:
        writers = [t for t in asyncio.all_tasks() if "run" in repr(t.get_coro())]
        for task in writers:
            task.cancel()

    async with trio.open_nursery() as nursery:
        await setup.hold(nursery)
        for _ in range(3):
            nursery.start_soon(refused)
        await wait_all_tasks_blocked()
        await setup.portal.call(stop)
