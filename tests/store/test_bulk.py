"""Rows in bulk, and keys in parts."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from store import bulk, schema
from tests.store.ledgers import MemoryPort


def test_chunks_lose_nothing() -> None:
    assert list(bulk.chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(bulk.chunks([])) == []
    assert [len(part) for part in bulk.chunks(range(1000))] == [400, 400, 200]


def test_every_table_has_its_columns_in_order_for_both_databases() -> None:
    for table in schema.facts.tables.values():
        lite = bulk.positional(sa.insert(table), table, sqlite.dialect())
        assert lite.count("?") == len(table.columns)
        rich = bulk.positional(sa.insert(table), table, postgresql.asyncpg.dialect())  # type: ignore[no-untyped-call]  # SQLAlchemy has no types there
        assert f"${len(table.columns)}" in rich


async def test_rows_arrive_as_they_were() -> None:
    port = MemoryPort()
    rows = [("r", "p", n, 1 << 60, n) for n in range(3)]

    def unit(connection: sa.Connection) -> list[tuple[object, ...]]:
        bulk.insert(connection, schema.packages, [])
        bulk.insert(connection, schema.packages, [(r[0], f"p{r[2]}", *r[2:]) for r in rows])
        return [tuple(row) for row in connection.execute(sa.select(schema.packages))]

    assert await port.write(unit) == [("r", f"p{n}", n, 1 << 60, n) for n in range(3)]
