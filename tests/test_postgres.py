"""The tests' own PostgreSQL: databases apart from each other, a server that can be restarted."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.postgres import PostgresServer


def _fetch(url: str, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_databases_are_apart(postgres: PostgresServer) -> None:
    first, second = postgres.new_database(), postgres.new_database()
    _fetch(first, "CREATE TABLE kept AS SELECT 7 AS value")
    assert _fetch(first, "SELECT value FROM kept") == 7
    with pytest.raises(asyncpg.UndefinedTableError):
        _fetch(second, "SELECT value FROM kept")


def test_a_crash_keeps_what_was_committed(own_postgres: PostgresServer) -> None:
    url = own_postgres.new_database()
    _fetch(url, "CREATE TABLE kept AS SELECT 7 AS value")
    own_postgres.stop(mode="immediate")
    with pytest.raises(ConnectionRefusedError):
        _fetch(url, "SELECT 1")
    own_postgres.start()
    assert _fetch(url, "SELECT value FROM kept") == 7
