"""Migrations: from nothing to the schema, on both databases, and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from store import bulk, migrations, schema
from store.database import open_database
from store.errors import UnavailableError
from store.facts import Delete
from tests.store.ledgers import publish, single

NAMES = sorted(migrations.HEADS)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of a database without a table."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"


def differences(connection: sa.Connection, name: str) -> list[object]:
    """What autogeneration would still change."""
    tables = migrations.METADATA[name].tables
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "compare_server_default": True,
            "version_table": migrations.version_table(name),
            "include_name": lambda found, kind, _: kind != "table" or found in tables,
        },
    )
    with warnings.catch_warnings():  # SQLite cannot reflect what an expression index computes
        warnings.filterwarnings("ignore", message=".*expression-based index.*")
        return list(compare_metadata(context, migrations.METADATA[name]))


@pytest.mark.parametrize("name", NAMES)
async def test_an_empty_database_becomes_the_schema(empty_url: str, name: str) -> None:
    async with open_database(empty_url, migrations.METADATA[name]) as database:
        assert await database.read(lambda c: migrations.current(c, name)) == migrations.HEADS[name]
        assert await database.write(lambda c: differences(c, name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_revisions_make_what_a_new_file_gets_at_once(name: str) -> None:
    """A new SQLite file skips Alembic; nobody may see a difference."""

    def made(by: Callable[[sa.Connection], None]) -> set[tuple[str, str, str]]:
        engine = sa.create_engine("sqlite://")
        with engine.begin() as connection:
            by(connection)
            query = sa.text("SELECT type, name, sql FROM sqlite_master")
            rows = {(t, n, " ".join((s or "").split())) for t, n, s in connection.execute(query)}
            assert migrations.current(connection, name) == migrations.HEADS[name]
            assert differences(connection, name) == []
        engine.dispose()
        return {(kind, found, "" if kind == "table" else sql) for kind, found, sql in rows}

    def by_alembic(connection: sa.Connection) -> None:
        command.upgrade(migrations.configuration(connection, name), "head")

    assert made(partial(migrations.upgrade, name=name)) == made(by_alembic)


async def test_both_schemas_live_in_one_database(empty_url: str) -> None:
    async with (
        open_database(empty_url, schema.facts) as facts,
        open_database(empty_url, schema.local),
    ):
        tables = await facts.read(lambda c: set(sa.inspect(c).get_table_names()))
    assert tables == {*schema.facts.tables, *schema.local.tables} | {
        migrations.version_table(name) for name in NAMES
    }


async def test_two_nodes_may_start_at_once(empty_url: str) -> None:
    async def start() -> None:
        async with open_database(empty_url, schema.facts) as database:
            assert await database.read(lambda c: migrations.current(c, "facts"))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(start)


@pytest.mark.parametrize("name", NAMES)
async def test_every_step_can_be_undone_and_done_again(empty_url: str, name: str) -> None:
    def down(connection: sa.Connection) -> list[str]:
        command.downgrade(migrations.configuration(connection, name), "base")
        return sa.inspect(connection).get_table_names()

    async with open_database(empty_url, migrations.METADATA[name]) as database:
        assert await database.write(down) == [migrations.version_table(name)]
        await database.write(lambda c: migrations.upgrade(c, name))
        assert await database.write(lambda c: differences(c, name)) == []


async def test_totals_are_added_up_by_the_upgrade(empty_url: str) -> None:
    rows = [("pypi", "a", 2, 30, 1), ("pypi", "b", 1, 4, 1), ("npm", "tags only", 0, 0, 1)]

    def back(connection: sa.Connection) -> None:
        command.downgrade(migrations.configuration(connection, "facts"), "facts0004")
        bulk.insert(connection, schema.packages, rows)

    async with open_database(empty_url, schema.facts) as database:
        await database.write(back)
        await database.write(lambda c: migrations.upgrade(c, "facts"))
        found = await database.read(lambda c: c.execute(sa.select(schema.totals)).all())
    assert [tuple(row) for row in found] == [("pypi", 3, 34)]


@pytest.mark.parametrize("name", NAMES)
async def test_a_newer_database_is_refused(database_url: str, name: str) -> None:
    table = migrations.version_table(name)
    async with open_database(database_url, migrations.METADATA[name]) as database:
        statement = f"UPDATE {table} SET version_num = 'future'"
        assert await database.write(lambda c: c.exec_driver_sql(statement).rowcount) == 1
    with pytest.raises(UnavailableError, match="another version"):
        async with open_database(database_url, migrations.METADATA[name]):
            pass


@pytest.mark.parametrize("name", NAMES)
def test_the_heads_are_what_alembic_finds(name: str) -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        scripts = ScriptDirectory.from_config(migrations.configuration(connection, name))
        assert scripts.get_heads() == [migrations.HEADS[name]]
    engine.dispose()


async def test_a_database_at_its_head_needs_no_alembic(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database(database_url, schema.facts):
        pass
    monkeypatch.setattr(command, "upgrade", None)
    async with open_database(database_url, schema.facts):
        pass


async def test_names_of_what_was_deleted_before_are_found() -> None:
    """An older database, opened by this version."""
    node = await single()
    first = await node.append(publish("a"))
    await node.append(publish("b", package="other"))
    await node.append(Delete("generic", "a", (first,)))
    with node.port.engine.begin() as connection:
        configuration = migrations.configuration(connection, "facts")
        command.stamp(configuration, "head")
        command.downgrade(configuration, "facts0006")
        command.upgrade(configuration, "head")
        assert connection.execute(sa.select(schema.former)).all() == [("generic", "demo")]


async def test_uses_of_what_is_gone_are_put_aside() -> None:
    """Rows that an older version left behind; what is listed keeps its own."""
    node = await single()
    await node.append(publish("a"))
    author = node.identity.node
    with node.port.engine.begin() as connection:
        configuration = migrations.configuration(connection, "facts")
        command.stamp(configuration, "head")
        command.downgrade(configuration, "facts0007")
        rows = [("generic", each, "1", author, 1, 1, 1) for each in ("demo", "gone")]
        bulk.insert(connection, schema.uses, rows)
        command.upgrade(configuration, "head")
        left = connection.execute(sa.select(schema.uses.c.package)).scalars().all()
        assert left == ["demo"]
        assert connection.execute(sa.select(schema.unlisted)).all() == [("generic", "gone", author)]
