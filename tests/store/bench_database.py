"""What the database port costs: ``python -m tests.store.bench_database [postgresql]``.

Prints the median of a call alone, and calls per second of 16 tasks, for a point read, a hot one, an
insert, and a publish-like unit of ten statements.  docs/decisions/0002-database-port.md has figures.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial

import sqlalchemy as sa
import trio

from store import schema
from store.database import Database, open_database
from tests.postgres import PostgresServer

ROWS = 10_000
CALLS = 800
TASKS = 16
SELECT = sa.select(schema.settings).where(
    schema.settings.c.kind == "bench", schema.settings.c.key == sa.bindparam("wanted")
)
INSERT = sa.insert(schema.settings)


def row(number: int, kind: str = "bench") -> dict[str, object]:
    return {"kind": kind, "key": f"{number:08}", "value": b"v" * 64, "records": b"", "hlc": number}


class Bench:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.number = ROWS

    async def fill(self) -> None:
        rows = [row(number) for number in range(ROWS)]
        await self.database.write(lambda c: c.execute(INSERT, rows).rowcount)

    async def select(self, *, hot: bool = False) -> None:
        self.number += 1
        wanted = {"wanted": f"{self.number % ROWS:08}"}
        found = await self.database.read(lambda c: c.execute(SELECT, wanted).one(), hot=hot)
        assert found.key == wanted["wanted"]

    async def insert(self) -> None:
        self.number += 1
        new = row(self.number, "more")
        await self.database.write(lambda c: c.execute(INSERT, new).rowcount)

    async def publish(self) -> None:
        self.number += 1
        number = self.number

        def unit(connection: sa.Connection) -> None:
            for step in range(5):
                connection.execute(SELECT, {"wanted": f"{number % ROWS:08}"}).one()
                connection.execute(INSERT, row(number, f"publish{step}"))

        await self.database.write(unit)


async def latency(call: Callable[[], Awaitable[None]], calls: int) -> float:
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


async def throughput(call: Callable[[], Awaitable[None]], calls: int) -> float:
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call()

    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(work)
    return calls / (time.perf_counter() - start)


async def measure(title: str, url: str, synchronous: str) -> None:
    async with open_database(url, schema.facts, synchronous=synchronous) as database:
        bench = Bench(database)
        await bench.fill()
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "SELECT hot": partial(bench.select, hot=True),
            "SELECT": bench.select,
            "INSERT": bench.insert,
            "10 statements": bench.publish,
        }
        for name, call in kinds.items():
            await latency(call, 50)
            alone = await latency(call, CALLS // 2)
            together = await throughput(call, CALLS * 2)
            print(f"| {title} | {name} | {alone:.0f} | {together:.0f} |", flush=True)


def main() -> None:
    sys.setswitchinterval(1e-4)
    print(f"| database | unit | us | x{TASKS}, 1/s |\n|---|---|---|---|")
    if "postgresql" in sys.argv:
        server = PostgresServer()
        try:
            server.start()
            trio.run(measure, "PostgreSQL", server.new_database(), "FULL")
        finally:
            server.remove()
        return
    for synchronous in ("FULL", "NORMAL"):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            url = f"sqlite+aiosqlite:///{folder}/bench.db"
            trio.run(measure, f"SQLite {synchronous}", url, synchronous)


if __name__ == "__main__":
    main()
