"""The one writer of a database: units that wait together share a transaction, and its fsync."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import outcome
import sqlalchemy as sa

from store.backend import Backend, Unit
from store.errors import UnavailableError
from store.failures import connection_lost, fatal, repeatable, translate, translating
from store.portal import Portal, Reply, Withdrawn

T = TypeVar("T")

BATCH_MAX = 64  # units that share a transaction
QUEUE_MAX = 4096  # units that may wait
ATTEMPTS = 5  # tries of a transaction that the database itself rolled back
PAUSE = 0.01  # seconds before the second try, doubling


class UnknownOutcomeError(UnavailableError):
    """A commit was sent and never answered: it may or may not have happened."""


@dataclass(slots=True, eq=False)
class Job:
    """A unit on its way."""

    reply: Reply[Any]
    unit: Unit[Any]
    started: bool = field(default=False)


class Writer:
    """Take units, run them in order, answer after the commit.  Lives on the asyncio thread."""

    def __init__(self, portal: Portal, backend: Backend) -> None:
        self._portal = portal
        self._backend = backend
        self._queue: deque[Job] = deque()
        self._wake = asyncio.Event()

    def submit(self, reply: Reply[Any], unit: Unit[Any]) -> None:
        """Queue a unit.  Its reply is answered later, whatever happens."""
        if len(self._queue) >= QUEUE_MAX:
            refused = UnavailableError(f"{QUEUE_MAX} writes are waiting already")
            self._portal.answer([(reply, outcome.Error(refused))])
            return
        reply.work = Job(reply, unit)
        self._queue.append(reply.work)
        self._wake.set()

    def withdraw(self, reply: Reply[Any]) -> None:
        """Drop the unit if it has not begun; else its end is waited for."""
        if not reply.work.started:
            self._queue.remove(reply.work)
            self._portal.answer([(reply, outcome.Error(Withdrawn()))])

    async def run(self) -> None:
        """Work until cancelled; what is left then is answered, for nobody else will."""
        jobs: list[Job] = []
        try:
            while True:
                self._wake.clear()
                await self._wake.wait()
                while self._queue:
                    jobs = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
                    for job in jobs:
                        job.started = True
                    results = await self._commit([job.unit for job in jobs])
                    self._portal.answer(zip((job.reply for job in jobs), results, strict=True))
        finally:
            gone = UnavailableError("the database closed before this was committed")
            self._portal.answer((job.reply, outcome.Error(gone)) for job in (*jobs, *self._queue))
            self._queue.clear()

    async def _commit(self, units: Sequence[Unit[Any]]) -> list[outcome.Outcome[Any]]:
        """Run units in one transaction, at first as if none could fail.

        If one does, all run again behind savepoints, so that it fails alone; where even that fails
        as a whole (a disk too full for one of them), each gets a transaction of its own.
        """
        for run in (run_together, run_apart):
            try:
                return await self._transact(partial(run, units=units))
            except Exception as error:  # noqa: BLE001  carried to the caller, whatever it is
                if len(units) == 1 or isinstance(error, UnknownOutcomeError):
                    return [outcome.Error(error) for _ in units]
        return [result for unit in units for result in await self._commit([unit])]

    async def _transact(self, unit: Unit[T]) -> T:
        """Run and commit, again where the database or its server gave up before the commit."""
        committing = asyncio.Event()
        pause = PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            committing.clear()
            try:
                with translating(self._backend.directory):
                    return await self._backend.write(unit, committing.set)
            except Exception as error:
                cause = error.__cause__ or error
                lost = connection_lost(cause)
                if lost and committing.is_set():
                    raise UnknownOutcomeError(
                        "the database went away while committing: the outcome is unknown"
                    ) from error
                if attempt == ATTEMPTS or not (repeatable(cause) or (lost and attempt == 1)):
                    raise
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt raises")


def run_together(
    connection: sa.Connection, units: Sequence[Unit[Any]]
) -> list[outcome.Outcome[Any]]:
    """Run units in order.  Raises what the first of them raises."""
    return [outcome.Value(unit(connection)) for unit in units]


def run_apart(connection: sa.Connection, units: Sequence[Unit[Any]]) -> list[outcome.Outcome[Any]]:
    """Run units in order, each behind a savepoint.  Raises only what ends the transaction."""
    results: list[outcome.Outcome[Any]] = []
    for unit in units:
        connection.exec_driver_sql("SAVEPOINT unit")
        try:
            results.append(outcome.Value(unit(connection)))
        except Exception as error:
            if fatal(error):
                raise
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT unit")
            results.append(outcome.Error(translate(error)))
        connection.exec_driver_sql("RELEASE SAVEPOINT unit")
    return results
