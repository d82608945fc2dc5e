"""Fill the ledger of a node that is not running: ``python -m simulations.lab.seed DATA COUNT``.

Every record publishes one small file of a package of its own into the generic repository, as that
many uploads would have, without the bytes.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterable

import sqlalchemy as sa
import trio

from cli.connection import configuration
from node.core import Core
from node.service import open_core
from store.appending import Appender, newest
from store.facts import File, Publish
from store.projection import Tables

BATCH = 1000  # records of one transaction
SIZE = 20_000  # bytes that each file is said to have


def publishes(repository: str, name: str, numbers: Iterable[int]) -> list[Publish]:
    """Return one publish a package."""
    found = []
    for number in numbers:
        package = f"{name}{number}"
        digest = hashlib.sha256(package.encode()).hexdigest()
        file = File(f"{package}/{package}.bin", "file", f"sha256:{digest}", SIZE)
        found.append(Publish(repository, package, "1.0", (file,)))
    return found


async def fill(core: Core, count: int, name: str) -> None:
    """Append the records, a thousand in each transaction."""
    entries = core.directory_repositories()
    repository = next(each.key for each in entries if each.format == "generic")
    ledger = core.ledger
    for start in range(0, count, BATCH):
        facts = publishes(repository, name, range(start, min(start + BATCH, count)))

        def unit(connection: sa.Connection, facts: list[Publish] = facts) -> None:
            # An append signs once; so that each fact is a record, this goes one layer below.
            anchor, authority = ledger._state(connection)  # noqa: SLF001  fills a ledger faster than its port would
            appender = Appender(connection, ledger.identity, anchor, authority)
            now = time.time()
            after = newest(connection, now)
            for fact in facts:
                appender.add([fact], "seed", after=after, now=now)
            tables = Tables(connection, authority)
            appender.flush({}, tables)
            tables.finish()

        await ledger._database.write(unit)  # noqa: SLF001  fills a ledger faster than its port would


async def main() -> None:
    """Fill one data directory."""
    data, count, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    async with open_core(configuration(data)) as core:
        await fill(core, count, name)


if __name__ == "__main__":
    trio.run(main)
