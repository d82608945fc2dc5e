"""PostgreSQL behind the port: SQLAlchemy's async engines over asyncpg."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from store import schema
from store.backend import Unit

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0  # seconds for the server to answer
POOL_TIMEOUT = 30.0  # seconds a unit waits for a free connection


def complete_indexes() -> None:
    """Give the schema's partial indexes their conditions in this dialect."""
    tables = (*schema.facts.tables.values(), *schema.local.tables.values())
    for index in (index for table in tables for index in table.indexes):
        where = schema.POSTGRESQL_WHERE.get(str(index.name))
        if where is not None:
            index.dialect_options["postgresql"]["where"] = where


complete_indexes()


class PostgreSQL:
    """Readers on REPEATABLE READ snapshots, and one writer that holds an advisory lock.

    The lock, by ``name``, makes writers of all processes serial, as they are on SQLite.
    """

    dialect = "postgresql"
    directory: Path | None = None

    def __init__(self, url: sa.URL, name: str, *, readers: int) -> None:
        arguments: dict[str, Any] = {
            "connect_args": {"timeout": CONNECT_TIMEOUT},
            "pool_timeout": POOL_TIMEOUT,
            "max_overflow": 0,
        }
        self._reading = create_async_engine(
            url,
            pool_size=readers,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
            **arguments,
        )
        # READ COMMITTED: one snapshot for all statements would be older than the lock, and so miss
        # what its last holder wrote.
        self._writing = create_async_engine(
            url, pool_size=1, isolation_level="READ COMMITTED", **arguments
        )
        digest = hashlib.sha256(f"atoll {name}".encode()).digest()
        number = int.from_bytes(digest[:8], signed=True)
        self._lock = sa.select(sa.func.pg_advisory_xact_lock(sa.literal(number, sa.BigInteger)))

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit on one snapshot, read-only.  Cancelling cancels it on the server."""
        async with self._reading.connect() as connection:
            return await connection.run_sync(unit)

    async def write(self, unit: Unit[T], committing: Callable[[], None]) -> T:
        """Run a unit under the writers' lock, and commit it."""
        async with self._writing.begin() as connection:
            await connection.execute(self._lock)
            result = await connection.run_sync(unit)
            committing()
        return result

    def connect(self) -> sa.Connection | None:
        """Never: a round trip is no short read."""
        return None

    async def close(self) -> None:
        """Close every connection."""
        await self._reading.dispose()
        await self._writing.dispose()
