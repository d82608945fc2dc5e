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
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
import trio

from store import migrations, schema
from store.backend import Backend, Unit
from store.errors import UnavailableError
from store.failures import connection_lost, translating
from store.portal import DRAIN, Portal, open_portal
from store.sqlite import SQLite
from store.writer import Writer

T = TypeVar("T")

READERS = 4  # connections; each of SQLite's is a thread with up to 2 MB of page cache
STOP_TIMEOUT = 2.0  # seconds for what still runs to notice that it was cancelled


class Database:
    """Run units of work.  Made by ``open_database``."""

    def __init__(self, portal: Portal, backend: Backend) -> None:
        self.dialect = backend.dialect
        self._portal = portal
        self._backend = backend
        self._writer = Writer(portal, backend)
        self._reading: set[asyncio.Task[Any] | None] = set()  # asyncio thread only
        self._writing: asyncio.Task[None] | None = None
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
        with translating(self._backend.directory), connection.begin():
            return unit(connection)

    async def _read(self, unit: Unit[T]) -> T:
        """Run a reading unit.  On the asyncio thread."""
        task = asyncio.current_task()
        self._reading.add(task)
        try:
            with translating(self._backend.directory):
                try:
                    return await self._backend.read(unit)
                except (sa.exc.SQLAlchemyError, OSError) as error:
                    if not connection_lost(error):
                        raise
                return await self._backend.read(unit)
        finally:
            self._reading.discard(task)

    async def start(self, name: str) -> None:
        """Migrate and begin to work.  Only ``open_database`` calls this."""
        await self._portal.call(self._start, name)
        self._hot = self._backend.connect()

    async def _start(self, name: str) -> None:
        """Bring the schema to its head, then let writers in.  On the asyncio thread."""
        with translating(self._backend.directory):
            await self._backend.write(partial(migrations.upgrade, name=name), lambda: None)
        self._writing = asyncio.get_running_loop().create_task(self._writer.run())

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
            self._hot = None

    async def _stop(self) -> None:
        """Cancel what still runs and close every connection.  On the asyncio thread."""
        running = [task for task in (self._writing, *self._reading) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=STOP_TIMEOUT)
        await self._backend.close()


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
        backend = create_backend(url, name, synchronous=synchronous, readers=readers)
        database = Database(portal, backend)
        try:
            await database.start(name)
            yield database
        finally:
            await database.close(drain)


def create_backend(url: str, name: str, *, synchronous: str, readers: int) -> Backend:
    """Make what ``url`` asks for; it connects to nothing yet.  Raises ValueError."""
    parsed = sa.make_url(url)
    if parsed.drivername == "sqlite+aiosqlite":
        return SQLite(parsed, synchronous=synchronous, readers=readers)
    if parsed.drivername == "postgresql+asyncpg":
        from store.postgresql import PostgreSQL  # a quarter of all that is imported here

        return PostgreSQL(parsed, name, readers=readers)
    raise ValueError(f"not sqlite+aiosqlite or postgresql+asyncpg: {parsed.drivername!r}")
