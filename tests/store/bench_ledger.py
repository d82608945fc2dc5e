"""Ledger catch-up, measured: ``python -m tests.store.bench_ledger [records]``.

Records of four authors are made on one node each and applied to an empty node over the real
database port, as synchronisation does: 60 KiB batches, a few hundred KiB per transaction.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
import trio

from store import chain, rebase, schema
from store.appending import Appender
from store.database import Database, open_database
from store.ledger import Ledger
from store.projection import Tables
from store.records import BATCH_MAX, Batch
from tests.store.ledgers import NOW, Node, identity, mesh, publish

AUTHORS = 4
PER_TRANSACTION = 16  # batches


async def made(node: Node, count: int) -> list[Batch]:
    """One author's chain: one file a record, as single publishes write it."""

    def unit(connection: sa.Connection) -> None:
        anchor = chain.read_anchor(connection, node.ledger.node)
        assert anchor is not None
        appender = Appender(connection, node.identity, anchor, node.ledger.authority)
        tables = Tables(connection, node.ledger.authority)
        for n in range(count):
            path = f"demo{n % 997}/demo{n % 997}-{node.number}.{n}-py3-none-any.whl"
            fact = publish(
                path, path, repository="pypi", package=f"demo{n % 997}", version=f"1.{n}"
            )
            appender.add([fact], "alice", after=0, now=NOW)
        appender.flush({}, tables)
        tables.finish()

    await node.port.write(unit)
    return await node.chain(node.ledger.node, node.ledger.incarnation, max_bytes=BATCH_MAX)


async def main(count: int) -> None:
    """Print one line."""
    nodes = await mesh(AUTHORS)
    batches = [b for node in nodes for b in await made(node, count // AUTHORS)]
    roots = await nodes[0].ledger.roots()
    number = sum(len(batch.records) for batch in batches)
    size = sum(len(h) + len(b or b"") for batch in batches for h, b in batch.records)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'facts.db'}"
        async with open_database(url, schema.facts) as database:
            ledger = Ledger(database, identity(99), clock=nodes[0].clock)
            await ledger.initialise()
            await adopt(database, ledger, roots)
            began, worked = time.perf_counter(), time.process_time()
            for start in range(0, len(batches), PER_TRANSACTION):
                outcomes = await ledger.apply(batches[start : start + PER_TRANSACTION])
                assert not any(o.refused for o in outcomes), outcomes
            spent, worked = time.perf_counter() - began, time.process_time() - worked
    print(
        f"{number} records ({size / number:.0f} bytes each) in {spent:.2f} s: "
        f"{number / spent:.0f} records/s, verified, stored and folded; "
        f"{worked / number * 1e6:.0f} µs of CPU a record"
    )


async def adopt(database: Database, ledger: Ledger, roots: list[bytes]) -> None:
    """Join without being listed: a mirror's view."""
    mesh_id, verified, _ = rebase.verify_history(roots)

    def unit(connection: sa.Connection) -> None:
        for signed, document in verified:
            chain.store_root(connection, mesh_id, signed, document.version)
        anchor = chain.Anchor(ledger.incarnation + 1, mesh_id)
        chain.write_anchor(connection, ledger.node, bytes(32), anchor)

    await database.write(unit)
    await ledger.initialise()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
