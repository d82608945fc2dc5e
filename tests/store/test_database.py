"""The database port: one unit, one transaction; cancellation, shutdown, failures, restarts."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial

import pytest
import sqlalchemy as sa
import trio
from trio.testing import wait_all_tasks_blocked

from store import schema, sqlite
from store.database import Database, open_database
from store.errors import (
    ReadOnlyError,
    RegistryError,
    StoreFullError,
    UnavailableError,
    VersionExistsError,
)
from store.portal import open_portal
from store.writer import UnknownOutcomeError
from tests.postgres import PostgresServer
from tests.store.threads import threads

settings = schema.settings
Unit = Callable[[sa.Connection], None]
FOREVER = {
    "sqlite": "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
    "postgresql": "SELECT pg_sleep(60)",
}


def put(key: str, value: bytes = b"") -> Unit:
    row = {"kind": "test", "key": key, "value": value, "records": b"", "hlc": 1}

    def unit(connection: sa.Connection) -> None:
        connection.execute(sa.insert(settings), row)

    return unit


def sql(statement: str) -> Unit:
    def unit(connection: sa.Connection) -> None:
        connection.exec_driver_sql(statement)

    return unit


def keys(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(settings.c.key).order_by(settings.c.key)).scalars())


def forever(database: Database, running: threading.Event | None = None) -> Unit:
    def unit(connection: sa.Connection) -> None:
        if running is not None:
            running.set()
        connection.exec_driver_sql(FOREVER[database.dialect])

    return unit


async def until(event: threading.Event) -> None:
    while not event.is_set():  # noqa: ASYNC110  another thread sets it
        await trio.sleep(0.001)


class Gate:
    """A writing unit that holds the only writer until it is told to go on."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, connection: sa.Connection) -> None:
        self.entered.set()
        assert self.opened.wait(10)


class NonBlockingGate(Gate):
    """The same for PostgreSQL, whose units run on the asyncio thread and must not block it."""

    def __call__(self, connection: sa.Connection) -> None:
        self.entered.set()
        while not self.opened.is_set():
            connection.exec_driver_sql("SELECT pg_sleep(0.005)")


@pytest.fixture
def gate(facts: Database) -> Gate:
    return Gate() if facts.dialect == "sqlite" else NonBlockingGate()


# --- units ---------------------------------------------------------------------------------------
async def test_a_write_is_seen_by_every_later_read(facts: Database) -> None:
    await facts.write(put("a"))
    assert await facts.read(keys) == ["a"]
    assert await facts.read(keys, hot=True) == ["a"]


async def test_a_unit_gives_its_result_and_its_error(facts: Database) -> None:
    assert await facts.write(lambda c: 7) == 7

    def fail(connection: sa.Connection) -> None:
        put("a")(connection)
        raise VersionExistsError("taken")

    with pytest.raises(VersionExistsError, match="taken"):
        await facts.write(fail)
    assert await facts.read(keys) == []


async def test_a_read_sees_one_snapshot(facts: Database) -> None:
    seen: list[list[str]] = []
    between, go_on = threading.Event(), threading.Event()

    def unit(connection: sa.Connection) -> None:
        seen.append(keys(connection))
        between.set()
        while not go_on.is_set():
            connection.exec_driver_sql("SELECT 1")
        seen.append(keys(connection))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(facts.read, unit)
        await until(between)
        await facts.write(put("a"))
        go_on.set()
    assert seen == [[], []]
    assert await facts.read(keys) == ["a"]


@pytest.mark.parametrize("hot", [False, True])
async def test_a_read_cannot_write(facts: Database, hot: bool) -> None:
    with pytest.raises(ReadOnlyError):
        await facts.read(put("a"), hot=hot)
    await facts.write(put("b"))
    assert await facts.read(keys, hot=hot) == ["b"]


async def test_writers_of_two_processes_are_serial(database_url: str) -> None:
    """Each adds one to a counter it first reads: a lost update would show."""
    counter = sa.select(settings.c.hlc).where(settings.c.key == "counter")

    def add(connection: sa.Connection) -> None:
        value = connection.execute(counter).scalar_one()
        connection.execute(sa.update(settings).values(hlc=value + 1))

    async with (
        open_database(database_url, schema.facts, synchronous="NORMAL") as one,
        open_database(database_url, schema.facts, synchronous="NORMAL") as two,
    ):
        await one.write(put("counter"))
        async with trio.open_nursery() as nursery:
            for database in (one, two) * 20:
                nursery.start_soon(database.write, add)
        assert await two.read(lambda c: c.execute(counter).scalar()) == 41


# --- group commit --------------------------------------------------------------------------------
async def crowd(facts: Database, gate: Gate, units: list[Unit]) -> list[RegistryError | None]:
    """Let units wait together behind one that holds the writer; what each of them raised."""
    errors: list[RegistryError | None] = [None] * len(units)

    async def write(index: int, unit: Unit) -> None:
        try:
            await facts.write(unit)
        except RegistryError as error:
            errors[index] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(facts.write, gate)
        await until(gate.entered)
        for index, unit in enumerate(units):
            nursery.start_soon(write, index, unit)
        await wait_all_tasks_blocked()
        gate.opened.set()
    return errors


async def test_waiting_units_share_a_transaction(facts: Database, gate: Gate) -> None:
    together: list[int] = []
    calls: list[int] = []

    def unit(key: str, connection: sa.Connection) -> None:
        calls.append(1)
        together.append(id(connection.get_transaction()))
        put(key)(connection)

    errors = await crowd(facts, gate, [partial(unit, f"{n:02}") for n in range(16)])
    assert errors == [None] * 16
    assert len(calls) == 16
    assert len(set(together)) == 1
    assert await facts.read(keys) == [f"{n:02}" for n in range(16)]


async def test_a_failed_unit_takes_no_neighbour_with_it(facts: Database, gate: Gate) -> None:
    def fail(key: str, connection: sa.Connection) -> None:
        put(key)(connection)
        raise VersionExistsError(key)

    units = [partial(fail, f"{n}") if n % 3 == 0 else put(f"{n}") for n in range(9)]
    errors = await crowd(facts, gate, units)
    assert [str(error) if error else "" for error in errors] == [
        f"{n}" if n % 3 == 0 else "" for n in range(9)
    ]
    assert await facts.read(keys) == [f"{n}" for n in range(9) if n % 3]


async def test_a_broken_statement_takes_no_neighbour_with_it(facts: Database, gate: Gate) -> None:
    async def insert(key: str) -> None:
        if key == "bad":
            with pytest.raises(sa.exc.IntegrityError):
                await facts.write(put("taken"))
        else:
            await facts.write(put(key))

    await facts.write(put("taken"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(facts.write, gate)
        await until(gate.entered)
        for key in ("a", "bad", "b"):
            nursery.start_soon(insert, key)
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert await facts.read(keys) == ["a", "b", "taken"]


# --- cancellation --------------------------------------------------------------------------------
async def test_a_cancelled_write_in_the_queue_never_happens(facts: Database, gate: Gate) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(facts.write, gate)
        await until(gate.entered)
        with trio.move_on_after(0.01) as scope:
            await facts.write(put("never"))
        assert scope.cancelled_caught
        gate.opened.set()
    await facts.write(put("after"))
    assert await facts.read(keys) == ["after"]


async def test_a_cancelled_write_that_runs_is_finished(facts: Database, gate: Gate) -> None:
    done = False

    def unit(connection: sa.Connection) -> None:
        gate(connection)
        put("kept")(connection)

    async def write() -> None:
        nonlocal done
        await facts.write(unit)
        done = True  # its result stands, although the scope is cancelled

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await until(gate.entered)
        nursery.cancel_scope.cancel()
        gate.opened.set()
    assert done
    assert await facts.read(keys) == ["kept"]


async def test_a_cancelled_read_is_interrupted(facts: Database) -> None:
    for _ in range(6):  # more than the pool has readers: none is lost
        running = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(facts.read, forever(facts, running))
            await until(running)
            nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        assert await facts.read(keys) == []


async def test_reads_that_wait_for_a_connection_can_be_cancelled(facts: Database) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(facts.read, forever(facts))
            await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
        assert await facts.read(keys) == []


async def test_random_cancellation_keeps_the_pool_whole(facts: Database) -> None:
    rng = random.Random(17)
    wrote: set[str] = set()

    async def one(number: int, patience: float) -> None:
        with trio.move_on_after(patience):
            await facts.read(keys)
            await facts.write(put(f"{number}"))
            wrote.add(f"{number}")

    async with trio.open_nursery() as nursery:
        for number in range(150):
            nursery.start_soon(one, number, rng.random() * 0.05)
    with trio.fail_after(10):
        assert wrote <= set(await facts.read(keys))
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(facts.read, keys)


# --- shutdown ------------------------------------------------------------------------------------
async def test_closing_waits_for_work_in_flight(database_url: str) -> None:
    gate = Gate() if database_url.startswith("sqlite") else NonBlockingGate()
    async with (
        trio.open_nursery() as nursery,
        open_database(database_url, schema.facts) as database,
    ):
        nursery.start_soon(database.write, gate)
        await until(gate.entered)
        for key in "abc":
            nursery.start_soon(database.write, put(key))
        await wait_all_tasks_blocked()
        gate.opened.set()
    async with open_database(database_url, schema.facts) as database:
        assert await database.read(keys) == ["a", "b", "c"]


async def test_closing_does_not_wait_for_ever(database_url: str) -> None:
    refused: list[UnavailableError] = []

    async def read() -> None:
        try:
            await database.read(forever(database, running))
        except UnavailableError as error:
            refused.append(error)

    running = threading.Event()
    before = threads()
    with trio.fail_after(10):
        async with (
            trio.open_nursery() as nursery,
            open_database(database_url, schema.facts, drain=0.05) as database,
        ):
            nursery.start_soon(read)
            await until(running)
    assert len(refused) == 1
    assert threads() <= before
    with pytest.raises(UnavailableError):
        await database.read(keys)
    with pytest.raises(UnavailableError):
        await database.write(put("a"))


async def test_a_cancelled_owner_still_closes(sqlite_url: str) -> None:
    before = threads()
    with trio.CancelScope() as scope:
        async with open_database(sqlite_url, schema.facts) as database:
            await database.write(put("a"))
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert threads() <= before


async def test_two_databases_share_a_thread(database_url: str) -> None:
    async with (
        open_portal() as portal,
        open_database(database_url, schema.facts, portal=portal) as facts,
    ):
        async with open_database(database_url, schema.local, portal=portal) as local:
            await local.write(sql("DELETE FROM staged"))
        await facts.write(put("a"))
        assert await facts.read(keys) == ["a"]


# --- failures ------------------------------------------------------------------------------------
async def test_a_full_disk_is_said_and_got_over(sqlite_url: str) -> None:
    async with open_database(sqlite_url, schema.facts) as database:
        await database.write(
            sql("PRAGMA max_page_count=1")
        )  # SQLite takes it for "no more than there are"
        with pytest.raises(StoreFullError):
            await database.write(put("large", b"x" * 1_000_000))
        await database.write(sql("PRAGMA max_page_count=1000000"))
        await database.write(put("large", b"x" * 1_000_000))
        assert await database.read(keys) == ["large"]


async def test_a_unit_too_large_takes_no_neighbour_with_it(sqlite_url: str) -> None:
    gate = Gate()
    async with open_database(sqlite_url, schema.facts) as database:
        await database.write(put("before"))
        await database.write(sql("PRAGMA max_page_count=1"))
        errors = await crowd(database, gate, [put("a"), put("large", b"x" * 1_000_000), put("b")])
        assert [type(error) for error in errors] == [type(None), StoreFullError, type(None)]
        assert await database.read(keys) == ["a", "b", "before"]


async def test_a_read_only_disk_is_said_and_got_over(sqlite_url: str) -> None:
    def unit(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only=ON")
        try:
            put("a")(connection)
        finally:
            connection.exec_driver_sql("PRAGMA query_only=OFF")

    async with open_database(sqlite_url, schema.facts) as database:
        with pytest.raises(ReadOnlyError):
            await database.write(unit)
        await database.write(put("a"))
        assert await database.read(keys) == ["a"]


async def test_another_process_that_holds_the_lock_is_not_waited_for_long(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.05)
    other = sa.create_engine(sqlite_url.replace("+aiosqlite", ""))
    async with open_database(sqlite_url, schema.facts) as database:
        with other.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            with pytest.raises(UnavailableError):
                await database.write(put("a"))
            assert await database.read(keys) == []
        await database.write(put("a"))
    other.dispose()


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:", "mysql+asyncmy://h/d"],
)
async def test_urls_of_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ValueError):
        async with open_database(url, schema.facts):
            pass


async def test_synchronous_is_one_of_two(sqlite_url: str) -> None:
    with pytest.raises(ValueError, match="FULL or NORMAL"):
        async with open_database(sqlite_url, schema.facts, synchronous="OFF"):
            pass


@pytest.mark.parametrize(("synchronous", "number"), [("FULL", 2), ("NORMAL", 1)])
async def test_sqlite_is_set_up_for_durability(
    sqlite_url: str, synchronous: str, number: int
) -> None:
    def pragma(name: str) -> Callable[[sa.Connection], object]:
        return lambda c: c.exec_driver_sql(f"PRAGMA {name}").scalar()

    async with open_database(sqlite_url, schema.facts, synchronous=synchronous) as database:
        assert await database.write(pragma("journal_mode")) == "wal"
        assert await database.write(pragma("synchronous")) == number
        assert await database.write(pragma("foreign_keys")) == 1


async def test_an_unreachable_server_is_unavailable() -> None:
    with pytest.raises(UnavailableError):
        async with open_database("postgresql+asyncpg://a@127.0.0.1:1/none", schema.facts):
            pass


# --- PostgreSQL comes and goes -------------------------------------------------------------------
async def test_a_restarted_server_is_found_again(own_postgres: PostgresServer) -> None:
    async with open_database(own_postgres.new_database(), schema.facts) as database:
        await database.write(put("a"))
        assert await database.read(keys) == ["a"]
        own_postgres.stop()
        with pytest.raises(UnavailableError):
            await database.read(keys)
        with pytest.raises(UnavailableError):
            await database.write(put("b"))
        own_postgres.start()
        assert await database.read(keys) == ["a"]
        await database.write(put("c"))

        own_postgres.stop(mode="immediate")
        own_postgres.start()
        assert await database.read(keys) == ["a", "c"]  # the dead connections are noticed at once
        await database.write(put("d"))

        own_postgres.stop(mode="immediate")
        own_postgres.start()
        await database.write(put("e"))
        assert await database.read(keys) == ["a", "c", "d", "e"]


async def test_a_lost_commit_is_an_unknown_outcome(own_postgres: PostgresServer) -> None:
    ran: list[int] = []

    def unit(connection: sa.Connection) -> None:
        ran.append(1)
        put("a")(connection)
        sa.event.listen(
            connection, "commit", lambda _: own_postgres.stop(mode="immediate"), once=True
        )

    async with open_database(own_postgres.new_database(), schema.facts) as database:
        with pytest.raises(UnknownOutcomeError):
            await database.write(unit)
        assert ran == [1]  # it was not tried again: it may have happened
        own_postgres.start()
        assert await database.read(keys) in ([], ["a"])


async def test_a_deadlock_is_tried_again(postgres_url: str) -> None:
    ran: list[int] = []

    def unit(connection: sa.Connection) -> None:
        ran.append(1)
        put("a")(connection)
        if len(ran) < 3:
            connection.exec_driver_sql("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")

    async with open_database(postgres_url, schema.facts) as database:
        await database.write(unit)
        assert len(ran) == 3
        assert await database.read(keys) == ["a"]
