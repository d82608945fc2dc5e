"""The database port: trio outside, SQLAlchemy's async engines on an asyncio thread inside.

A *unit* is a synchronous function of a ``sqlalchemy.Connection``; one unit is one transaction and
one hop to the asyncio thread.  The URL decides the database:

``sqlite+aiosqlite:///path``  WAL; a pool of readers and one writer that begins IMMEDIATE.
``postgresql+asyncpg://…``    readers REPEATABLE READ, READ ONLY; one writer under an advisory lock.

Either way all writes of all processes are serial, so a unit never sees a rival's half of anything.
Units that wait together commit together (``store.writer``): they share the fsync, not the errors.

A unit may run more than once (a lost connection, a deadlock, a neighbour's failure), so it has no
effect outside its connection.  Docs: docs/decisions/0002-database-port.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
import trio
from sqlalchemy.ext.asyncio import AsyncConnection

from store import migrations, schema
from store.engines import READERS, Engines, connect_hot, create_engines
from store.errors import UnavailableError
from store.failures import connection_lost, translate
from store.portal import DRAIN, Portal, open_portal
from store.writer import Writer

T = TypeVar("T")
Unit = Callable[[sa.Connection], T]

STOP_TIMEOUT = 2.0  # seconds for what still runs to notice that it was cancelled
INTERRUPT_INTERVAL = 0.02  # seconds; SQLite only stops the statement that is running just then


class Database:
    """Run units of work.  Made by ``open_database``."""

    def __init__(self, portal: Portal, engines: Engines) -> None:
        self.dialect = engines.dialect
        self._portal = portal
        self._engines = engines
        self._directory = engines.path.parent if engines.path else None
        self._writer = Writer(portal, engines.writer, lock=engines.lock, directory=self._directory)
        self._writing: asyncio.Task[None]
        self._hot: sa.Connection | None = None
        self._closing = False
        self._active = 0
        self._idle = trio.Event()

    async def read(self, unit: Unit[T], *, hot: bool = False) -> T:
        """Run a unit that only reads, on one snapshot.

        ``hot`` units run at once on this thread where the database is SQLite (0.05 ms instead of
        1): for a few rows found by key, since everything else waits meanwhile.  A cancelled read
        is interrupted.  A lost connection is retried once.  Raises UnavailableError.
        """
        if hot and self._hot is not None:
            await trio.lowlevel.checkpoint()
            return self._read_hot(self._hot, unit)
        with self._counted():
            return await self._portal.call(self._read, unit)

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit and commit it; its result comes after the commit is durable.

        What the unit raises rolls back that unit alone and is raised here.  A cancelled write that
        has not begun never does; one that has is waited for, and its result stands.  Raises
        StoreFullError, ReadOnlyError, UnavailableError; the last also when the connection was lost
        while committing: then the write may or may not have happened.
        """
        with self._counted():
            return await self._portal.wait(
                partial(self._writer.submit, unit=unit), self._writer.withdraw
            )

    @contextmanager
    def _counted(self) -> Generator[None]:
        if self._closing:
            raise UnavailableError("the database is closed")
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    def _read_hot(self, connection: sa.Connection, unit: Unit[T]) -> T:
        try:
            with connection.begin():
                return unit(connection)
        except sa.exc.DBAPIError as error:
            raise translate(error, directory=self._directory) from error

    async def _read(self, unit: Unit[T]) -> T:
        """Run a reading unit.  On the asyncio thread."""
        for attempt in (1, 2):
            try:
                async with self._engines.reader.connect() as connection:
                    if self.dialect == "sqlite":
                        return await interruptible(connection, unit)
                    return await connection.run_sync(unit)
            except (sa.exc.SQLAlchemyError, OSError) as error:
                if attempt == 1 and connection_lost(error):
                    continue
                raise translate(error, directory=self._directory) from error
        raise AssertionError("the last attempt returns")

    async def _start(self, name: str) -> None:
        """Bring the schema to its head, then let writers in.  On the asyncio thread."""
        try:
            async with self._engines.writer.connect() as connection, connection.begin():
                if self._engines.lock is not None:
                    await connection.execute(self._engines.lock)
                await connection.run_sync(migrations.upgrade, name)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise translate(error, directory=self._directory) from error
        self._writing = asyncio.get_running_loop().create_task(self._writer.run())

    async def _stop(self) -> None:
        """Cancel what still runs and close every connection.  On the asyncio thread."""
        self._writing.cancel()
        await asyncio.wait((self._writing,), timeout=STOP_TIMEOUT)
        await self._engines.reader.dispose()
        await self._engines.writer.dispose()

    async def start(self, name: str) -> None:
        """Migrate and begin to work.  Only ``open_database`` calls this."""
        await self._portal.call(self._start, name)
        if self._engines.path is not None:
            self._hot = connect_hot(self._engines.path)

    async def close(self, drain: float = DRAIN) -> None:
        """Refuse new units, give those in flight ``drain`` seconds, then cancel the rest."""
        self._closing = True
        with trio.CancelScope(shield=True):
            if self._active:
                with trio.move_on_after(drain):
                    await self._idle.wait()
            await self._portal.call(self._stop)
        if self._hot is not None:
            self._hot.close()
            self._hot.engine.dispose()
            self._hot = None


async def interruptible(connection: AsyncConnection, unit: Unit[T]) -> T:
    """Run a unit on SQLite, whose driver ignores cancellation: interrupt the statement instead."""
    work = asyncio.ensure_future(connection.run_sync(unit))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        while not work.done():
            await driver.interrupt()
            await asyncio.wait((work,), timeout=INTERRUPT_INTERVAL)
        work.exception()
        raise


@asynccontextmanager
async def open_database(
    url: str,
    metadata: sa.MetaData,
    *,
    synchronous: str = "FULL",
    readers: int = READERS,
    portal: Portal | None = None,
    drain: float = DRAIN,
) -> AsyncGenerator[Database]:
    """Open a database and bring its schema up to date; leaving the block drains and closes it.

    ``metadata`` is ``schema.facts`` or ``schema.local``.  ``synchronous`` (FULL or NORMAL) is
    SQLite's: whether a commit survives a power cut.  Two databases may share a ``portal``; without
    one this makes its own thread.  Raises ValueError, UnavailableError, ReadOnlyError,
    StoreFullError.
    """
    name = {schema.facts: "facts", schema.local: "local"}[metadata]
    async with AsyncExitStack() as stack:
        if portal is None:
            portal = await stack.enter_async_context(open_portal(drain=drain))
        engines = create_engines(url, name, synchronous=synchronous, readers=readers)
        database = Database(portal, engines)
        try:
            await database.start(name)
            yield database
        finally:
            await database.close(drain)
