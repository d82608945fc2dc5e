"""Engines: how connections to either database are made, and how their transactions begin."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

READERS = 4  # connections; each SQLite one is a thread with up to 2 MB of page cache
BUSY_TIMEOUT = 5.0  # seconds SQLite waits for another process's lock
POOL_TIMEOUT = 30.0  # seconds a unit waits for a free connection
CONNECT_TIMEOUT = 10.0  # seconds for PostgreSQL to answer
LOG_SIZE_MAX = 64 << 20  # bytes of SQLite's write-ahead log that may stay on disk


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of one database.  ``lock`` is what a writer must execute first, if anything."""

    dialect: str
    reader: AsyncEngine
    writer: AsyncEngine
    lock: sa.Executable | None = None
    path: Path | None = None  # SQLite's file


def create_engines(url: str, name: str, *, synchronous: str, readers: int = READERS) -> Engines:
    """Make the engines that ``url`` asks for.  Connects to nothing yet.  Raises ValueError."""
    parsed = sa.make_url(url)
    if parsed.drivername == "sqlite+aiosqlite":
        return _sqlite(parsed, synchronous, readers)
    if parsed.drivername == "postgresql+asyncpg":
        return _postgresql(parsed, name, readers)
    raise ValueError(f"not sqlite+aiosqlite or postgresql+asyncpg: {parsed.drivername!r}")


def connect_hot(path: Path) -> sa.Connection:
    """Open SQLite for short reads on the calling thread, and on no other."""
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None),
        poolclass=StaticPool,
    )
    _on_connect(engine, ("PRAGMA query_only=ON",))
    _on_begin(engine, "BEGIN")
    return engine.connect()


def _sqlite(url: sa.URL, synchronous: str, readers: int) -> Engines:
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file: several connections share it")
    if synchronous not in {"FULL", "NORMAL"}:
        raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
    arguments: dict[str, Any] = {
        "connect_args": {"timeout": BUSY_TIMEOUT, "isolation_level": None},
        "pool_timeout": POOL_TIMEOUT,
        "max_overflow": 0,
    }
    reader = create_async_engine(url, pool_size=readers, **arguments)
    _on_connect(reader.sync_engine, ("PRAGMA query_only=ON",))
    _on_begin(reader.sync_engine, "BEGIN")
    writer = create_async_engine(url, pool_size=1, **arguments)
    _on_connect(
        writer.sync_engine,
        (
            "PRAGMA journal_mode=WAL",  # sticks to the file; the writer is the first to connect
            f"PRAGMA synchronous={synchronous}",
            "PRAGMA foreign_keys=ON",
            f"PRAGMA journal_size_limit={LOG_SIZE_MAX}",
        ),
    )
    _on_begin(writer.sync_engine, "BEGIN IMMEDIATE")
    return Engines("sqlite", reader, writer, path=Path(url.database))


def _postgresql(url: sa.URL, name: str, readers: int) -> Engines:
    arguments: dict[str, Any] = {
        "connect_args": {"timeout": CONNECT_TIMEOUT},
        "pool_timeout": POOL_TIMEOUT,
        "max_overflow": 0,
    }
    reader = create_async_engine(
        url,
        pool_size=readers,
        isolation_level="REPEATABLE READ",
        execution_options={"postgresql_readonly": True},
        **arguments,
    )
    # READ COMMITTED: one snapshot for all statements would be older than the lock, and so miss
    # what its last holder wrote.
    writer = create_async_engine(url, pool_size=1, isolation_level="READ COMMITTED", **arguments)
    number = int.from_bytes(hashlib.sha256(f"atoll {name}".encode()).digest()[:8], signed=True)
    lock = sa.select(sa.func.pg_advisory_xact_lock(sa.literal(number, sa.BigInteger)))
    return Engines("postgresql", reader, writer, lock=lock)


def _on_connect(engine: sa.Engine, statements: tuple[str, ...]) -> None:
    """Execute ``statements`` on each new connection."""

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()


def _on_begin(engine: sa.Engine, statement: str) -> None:
    """Begin with ``statement``: the driver itself, having no isolation level, begins nothing."""

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(statement)
