"""Package counts after deletions: right, and found by an index however many packages change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from store import bulk, counting
from store.counting import Delta
from store.paging import keyed
from store.schema import facts, packages


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    facts.create_all(engine)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def removal(files: int, size: int, hlc: int) -> Delta:
    delta = Delta()
    delta.files, delta.size = -files, -size
    delta.went(hlc)
    return delta


def test_removals_from_several_repositories_are_counted(connection: sa.Connection) -> None:
    rows = [("a", "one", 3, 30, 9), ("a", "two", 2, 20, 9), ("b", "one", 1, 10, 9)]
    bulk.insert(connection, packages, rows)
    counting.write(connection, {("a", "one"): removal(1, 10, 5), ("b", "one"): removal(1, 10, 9)})
    found = [tuple(row) for row in connection.execute(sa.select(packages).order_by(*packages.c))]
    # The last file of b/one was its newest row, and nothing else is visible there: no package left.
    assert found == [("a", "one", 2, 20, 9), ("a", "two", 2, 20, 9)]


def test_no_statement_scans_the_package_table(connection: sa.Connection) -> None:
    bulk.insert(connection, packages, [("a", f"p{n}", 2, 2, 9) for n in range(50)])
    statements: list[str] = []

    def note(_c: object, _cursor: object, sql: str, *_: object) -> None:
        statements.append(sql)

    sa.event.listen(connection, "before_cursor_execute", note)
    counting.write(connection, {("a", f"p{n}"): removal(1, 1, 5) for n in range(20)})
    sa.event.remove(connection, "before_cursor_execute", note)
    looked = [sql for sql in statements if sql.startswith(("SELECT", "DELETE"))]
    assert looked
    for sql in looked:
        values = (None,) * sql.count("?")
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
        assert not [row for row in plan if str(row[3]).startswith("SCAN")], (sql, plan)


def test_composite_keys_of_a_catalog_table_use_its_index(connection: sa.Connection) -> None:
    key = list(packages.primary_key)
    for condition in keyed(key, [("a", "one"), ("a", "two"), ("b", "one")]):
        query = (
            sa.select(packages)
            .where(condition)
            .compile(connection, compile_kwargs={"literal_binds": True})
        )
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
        assert all(str(row[3]).startswith("SEARCH") for row in plan), plan
