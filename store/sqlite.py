"""SQLite behind the port: connections of aiosqlite, on whose threads whole units run.

SQLAlchemy's own aiosqlite dialect crosses threads four times a statement; here a transaction costs
one crossing, and its statements what they cost inline (docs/decisions/0002-database-port.md).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import sqlalchemy as sa

from store.backend import Unit

T = TypeVar("T")

BUSY_TIMEOUT = 5.0  # seconds to wait for another process's lock
CACHE_MAX = 8 << 20  # bytes of pages that the writer keeps: ids are random, rows go everywhere
LOG_SIZE_MAX = 64 << 20  # bytes of the write-ahead log that may stay on disk
INTERRUPT_INTERVAL = 0.02  # seconds; an interrupt only stops the statement running just then
REST_AFTER = 15.0  # seconds without work, after which a connection lets go of its pages
ITERATION = 64  # rows aiosqlite would fetch at once; units fetch for themselves


class SQLite:
    """One file: a pool of readers and one writer that begins IMMEDIATE.

    ``synchronous`` is FULL (a commit survives a power cut) or NORMAL.  Raises ValueError.
    """

    dialect = "sqlite"

    def __init__(self, url: sa.URL, *, synchronous: str, readers: int) -> None:
        if not url.database or url.database == ":memory:":
            raise ValueError("SQLite needs a file: several connections share it")
        if synchronous not in {"FULL", "NORMAL"}:
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        self.directory: Path | None = Path(url.database).parent
        self._reading = engine(url.database, "BEGIN", "PRAGMA query_only=ON")
        self._writing = engine(
            url.database,
            "BEGIN IMMEDIATE",
            "PRAGMA journal_mode=WAL",  # sticks to the file; the writer is the first to connect
            f"PRAGMA synchronous={synchronous}",
            "PRAGMA foreign_keys=ON",
            f"PRAGMA cache_size=-{CACHE_MAX >> 10}",  # in KiB where negative
            f"PRAGMA journal_size_limit={LOG_SIZE_MAX}",
        )
        self._writer: Worker | None = None
        self._idle: list[Worker] = []
        self._free = asyncio.Semaphore(readers)

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit on one snapshot, read-only."""
        async with self._reader() as worker:
            return await worker.run(unit)

    async def write(self, unit: Unit[T], committing: Callable[[], None]) -> T:
        """Run a unit and commit it."""
        if self._writer is None:
            self._writer = await Worker.start(self._writing)

        def whole(connection: sa.Connection) -> T:
            result = unit(connection)
            committing()
            return result

        return await self._writer.run(whole)

    def connect(self) -> sa.Connection | None:
        """Open a connection for short reads on the calling thread, and on no other."""
        return self._reading.connect()

    async def close(self) -> None:
        """Close every connection; the last one moves the write-ahead log into the file."""
        for worker in self._idle:
            await worker.close()
        self._idle.clear()
        if self._writer is not None:
            await self._writer.close()
            self._writer = None

    @asynccontextmanager
    async def _reader(self) -> AsyncGenerator[Worker]:
        async with self._free:
            worker = self._idle.pop() if self._idle else await Worker.start(self._reading)
            try:
                yield worker
            finally:
                self._idle.append(worker)


class Worker(aiosqlite.Connection):
    """A connection and its thread, on which transactions run one after the other."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(self._open, ITERATION)
        self._thread.daemon = True  # a node that crashes must not wait for it
        self._engine = engine
        self._session: sa.Connection
        self._raw: sqlite3.Connection
        self._used = 0.0  # loop time
        self._timer: asyncio.TimerHandle | None = None  # while it holds pages
        self._resting: asyncio.Future[None] | None = None

    @classmethod
    async def start(cls, engine: sa.Engine) -> Worker:
        """Start the thread and connect on it."""
        worker = cls(engine)
        await worker
        return worker

    def _open(self) -> sqlite3.Connection:
        self._session = self._engine.connect()
        raw = self._session.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        self._raw = raw
        return raw

    def _transact(self, unit: Unit[T]) -> T:
        with self._session.begin():
            return unit(self._session)

    async def run(self, unit: Unit[T]) -> T:
        """Run a unit in a transaction.  Cancelling interrupts it, and waits for it to stop."""
        work = asyncio.ensure_future(self._on_thread(partial(self._transact, unit)))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            while not work.done():
                await self.interrupt()
                await asyncio.wait((work,), timeout=INTERRUPT_INTERVAL)
            work.exception()  # seen: the interruption
            raise
        finally:
            loop = asyncio.get_running_loop()
            self._used = loop.time()
            if self._timer is None:
                self._timer = loop.call_later(REST_AFTER, self._rest)

    def _rest(self) -> None:
        """Let go of the pages that a long job has left, once nothing was asked for a while.

        All connections of a node keep 50 MB between them otherwise; the system has the same pages.
        """
        loop = asyncio.get_running_loop()
        due = self._used + REST_AFTER
        if due > loop.time():
            self._timer = loop.call_at(due, self._rest)
            return
        self._timer = None
        self._resting = asyncio.ensure_future(self._on_thread(self._shrink))

    def _shrink(self) -> None:
        with suppress(sqlite3.Error):  # interrupted by whoever gives up what comes next
            self._raw.execute("PRAGMA shrink_memory")

    async def _on_thread(self, function: Callable[[], T]) -> T:
        result: T = await self._execute(function)  # type: ignore[no-untyped-call]  # aiosqlite has no types there
        return result

    async def close(self) -> None:
        """Close the connection and end its thread."""
        if self._timer is not None:
            self._timer.cancel()
        if self._running:
            await self._on_thread(self._session.close)
        await super().close()
        self._thread.join()  # it has nothing left to do but return


def engine(path: str, begin: str, *prepare: str) -> sa.Engine:
    """Make an engine whose connections execute ``prepare``, and begin with ``begin``."""
    made = sa.create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
        poolclass=sa.NullPool,
    )

    @sa.event.listens_for(made, "connect")
    def configure(connection: Any, record: object) -> None:
        for statement in prepare:
            connection.execute(statement)

    @sa.event.listens_for(made, "begin")
    def start(connection: sa.Connection) -> None:
        # The driver, having no isolation level, begins nothing by itself.  Asked directly: through
        # SQLAlchemy this would cost as much as a whole point read.
        raw: Any = connection.connection.dbapi_connection
        raw.execute(begin)

    return made
