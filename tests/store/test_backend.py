"""What both databases promise the port, asked of them directly on an asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from store import sqlite
from store.backend import Backend
from store.database import create_backend
from store.errors import ReadOnlyError
from store.failures import translate
from store.postgresql import PostgreSQL
from store.sqlite import SQLite

INSERT = "INSERT INTO settings (kind, key, value, records, hlc) VALUES ('k', 'a', '', '', 1)"
COUNT = "SELECT count(*) FROM settings"
Work = Callable[[Backend], Awaitable[None]]


def insert(connection: sa.Connection) -> None:
    connection.exec_driver_sql(INSERT)


def count(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql(COUNT).scalar_one())


def run(url: str, work: Work, readers: int = 2) -> None:
    async def main() -> None:
        backend = create_backend(url, "facts", synchronous="NORMAL", readers=readers)
        try:
            tables = "CREATE TABLE IF NOT EXISTS settings (kind TEXT, key TEXT, value TEXT, records TEXT, hlc INT)"
            await backend.write(lambda c: c.exec_driver_sql(tables).close(), lambda: None)
            await work(backend)
        finally:
            await backend.close()

    asyncio.run(main())


def test_the_url_decides(database_url: str) -> None:
    async def work(backend: Backend) -> None:
        kind = SQLite if backend.dialect == "sqlite" else PostgreSQL
        assert isinstance(backend, kind)
        assert database_url.startswith(backend.dialect)
        assert (backend.directory is None) == (backend.dialect == "postgresql")

    run(database_url, work)


def test_a_write_says_when_it_commits(database_url: str) -> None:
    steps: list[str] = []

    def unit(connection: sa.Connection) -> None:
        insert(connection)
        steps.append("ran")

    async def work(backend: Backend) -> None:
        await backend.write(unit, lambda: steps.append("committing"))
        assert await backend.read(count) == 1

    run(database_url, work)
    assert steps == ["ran", "committing"]


def test_a_failed_write_leaves_nothing(database_url: str) -> None:
    def unit(connection: sa.Connection) -> None:
        insert(connection)
        raise KeyError

    async def work(backend: Backend) -> None:
        with pytest.raises(KeyError):
            await backend.write(unit, lambda: pytest.fail("it cannot commit"))
        assert await backend.read(count) == 0

    run(database_url, work)


def test_a_reader_cannot_write(database_url: str) -> None:
    async def work(backend: Backend) -> None:
        with pytest.raises(sa.exc.DBAPIError) as caught:
            await backend.read(insert)
        assert isinstance(translate(caught.value), ReadOnlyError)
        near = backend.connect()
        assert (near is None) == (backend.dialect == "postgresql")
        if near is not None:
            assert count(near) == 0
            with pytest.raises(sa.exc.OperationalError):
                insert(near)
            near.close()

    run(database_url, work)


def test_more_reads_than_readers_take_turns(database_url: str) -> None:
    async def work(backend: Backend) -> None:
        assert await asyncio.gather(*(backend.read(count) for _ in range(20))) == [0] * 20

    run(database_url, work)


def test_cancelled_reads_give_their_connection_back(database_url: str) -> None:
    slow = {
        "sqlite": "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c",
        "postgresql": "SELECT pg_sleep(60)",
    }

    async def work(backend: Backend) -> None:
        def unit(connection: sa.Connection) -> None:
            connection.exec_driver_sql(slow[backend.dialect])

        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(backend.read(unit), 0.02)
        assert await asyncio.wait_for(backend.read(count), 10) == 0

    run(database_url, work, readers=1)


def test_a_connection_without_work_lets_go_of_its_pages(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "REST_AFTER", 0.02)
    statements: list[str] = []

    def watched(connection: sa.Connection) -> int:
        raw: Any = connection.connection.dbapi_connection
        raw.set_trace_callback(statements.append)
        return count(connection)

    async def rested(times: int) -> None:
        while statements.count("PRAGMA shrink_memory") < times:  # noqa: ASYNC110  a thread's
            await asyncio.sleep(0.001)

    async def work(backend: Backend) -> None:
        assert await backend.read(watched) == 0
        await asyncio.wait_for(rested(1), 10)
        await backend.write(insert, lambda: None)
        assert await backend.read(watched) == 1
        await asyncio.wait_for(rested(2), 10)
        before = len(statements)
        await asyncio.sleep(0.1)
        assert len(statements) == before, "once, and not again without work"

    run(sqlite_url, work)
