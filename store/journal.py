"""What each commit changed, in the order of commits on this node: what followers read.

Written by the transaction that changes the catalog, so nothing that is committed can be missing
here.  Search, the event stream and webhooks each remember how far they have read; who comes back
later than the journal reaches begins anew from the catalog.  Positions are this node's own: the
same records arrive elsewhere in another order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect

from store import bulk
from store.bulk import chunks
from store.port import Port
from store.schema import journal

ROW_MAX = 500  # changes in one row
KEPT = 200_000  # changes that are kept for whoever comes back
PAGE = 200  # rows read at once, at most
CREATED, UPDATED, REMOVED = "created", "updated", "removed"

NEWEST = sa.select(sa.func.max(journal.c.position))


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One changed cell.

    ``name`` is a path, or the name of a pointer, flag or setting, whose ``repository`` is its kind.
    ``detail`` is a file's digest, a pointer's value, or the path that a flag is about.  ``record``
    and ``author`` are those of the newest word on the cell.  Fields are only ever appended.
    """

    kind: str
    change: str
    repository: str
    package: str
    name: str
    version: str = ""
    detail: str = ""
    size: int = 0
    hlc: int = 0
    record: bytes = b""
    author: str = ""


class Positioned(NamedTuple):
    """An entry and where it stands."""

    position: int
    entry: Entry


_read = msgspec.msgpack.Decoder(list[Entry]).decode
_write = msgspec.msgpack.Encoder().encode


def write(connection: sa.Connection, entries: Sequence[Entry], *, now: float | None = None) -> None:
    """A unit's last step: note what it changed.

    Writers are serial, so the next position is one more than the newest; the row that holds it is
    never trimmed.
    """
    if not entries:
        return
    position = connection.execute(NEWEST).scalar() or 0
    at = time.time() if now is None else now
    rows: list[tuple[Any, ...]] = []
    for part in chunks(entries, ROW_MAX):
        position += len(part)
        rows.append((position, len(part), at, _write(part)))
    connection.exec_driver_sql(_statement(connection.dialect), rows)


@lru_cache(maxsize=4)
def _statement(dialect: Dialect) -> str:
    return bulk.positional(sa.insert(journal), journal, dialect)


class Journal:
    """Reads one node's journal."""

    def __init__(self, database: Port) -> None:
        self._database = database

    async def newest(self) -> int:
        """The position of the last change; 0 before the first."""
        return await self._database.read(lambda c: c.execute(NEWEST).scalar() or 0)

    async def bounds(self) -> tuple[int, int]:
        """How far back it reaches: whoever read up to the first may go on; and the newest."""
        return await self._database.read(_bounds)

    async def after(self, position: int, limit: int = ROW_MAX) -> list[Positioned]:
        """Changes that follow a position, in order; about ``limit`` of them, or none."""
        return await self._database.read(partial(_after, position=position, limit=limit))

    async def trim(self, kept: int = KEPT) -> int:
        """Forget all but the newest ``kept`` changes; returns how many rows went."""

        def unit(connection: sa.Connection) -> int:
            newest = connection.execute(NEWEST).scalar() or 0
            gone = sa.delete(journal).where(
                journal.c.position <= newest - kept, journal.c.position < newest
            )
            return connection.execute(gone).rowcount

        return await self._database.write(unit)


def _bounds(connection: sa.Connection) -> tuple[int, int]:
    first = sa.select(journal.c.position, journal.c.count).order_by(journal.c.position).limit(1)
    row = connection.execute(first).first()
    oldest = row[0] - row[1] if row else 0
    return oldest, connection.execute(NEWEST).scalar() or 0


def _after(connection: sa.Connection, position: int, limit: int) -> list[Positioned]:
    query = sa.select(journal.c.position, journal.c.count, journal.c.data)
    query = query.where(journal.c.position > position).order_by(journal.c.position).limit(PAGE)
    found: list[Positioned] = []
    for last, count, data in connection.execute(query):
        for number, entry in enumerate(_read(bytes(data)), last - count + 1):
            if number > position:
                found.append(Positioned(number, entry))
        if len(found) >= limit:
            break
    return found
