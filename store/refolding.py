"""The catalog made again from the ledger, beside the one in use: where do they differ?

Every chain is read, verified as if a peer had sent it, and folded into a scratch database; its
tables must equal the catalog's, row by row.  What differs is put right from the scratch.  What was
written since the chains were read is left alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from store import applying, counting, fold, forks, projection, schema
from store.authority import Authority
from store.projection import Tables, Touched
from store.records import Batch

T = TypeVar("T")
PAGE = 500  # rows compared at once
RANGE_MAX = 512 << 10  # bytes of records folded at once: each transaction touches pages anywhere
CACHE_MAX = 4 << 20  # bytes of the scratch's pages in memory: ids go anywhere, the rest in order
# Indices that folding asks: any other would write to some page anywhere for each row.
ASKED = frozenset({"files_package", "records_scope"})
# Each table of the catalog with the cell of a row, given its primary key.
CELLS: dict[str, Callable[..., str]] = {
    "files": fold.file_cell,
    "burnt": fold.file_cell,
    "pointers": partial(fold.cell_key, fold.POINTER),
    "flags": partial(fold.cell_key, fold.FLAG),
    "settings": partial(fold.cell_key, fold.SETTING),
    "uses": fold.use_cell,
}
TABLES = [schema.facts.tables[name] for name in CELLS]
Row = tuple[Any, ...]
Key = tuple[str, ...]
PackageKey = tuple[str, str]  # repository, package


class Reading(Protocol):
    """What comparing needs: ``store.catalog.Catalog``."""

    async def read(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit that only reads."""
        ...


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not what the ledger says.  ``trouble`` is "missing", "wrong" or "unfounded"."""

    table: str
    key: Key
    trouble: str

    @property
    def cell(self) -> str:
        """The cell that the row shows."""
        return CELLS[self.table](*self.key)


class Scratch:
    """A second catalog, in a file of its own.  Blocks: use it in a thread, one call at a time."""

    def __init__(self, file: Path, authority: Authority, *, now: float) -> None:
        self._file, self._authority, self._now = file, authority, now
        file.unlink(missing_ok=True)
        self._engine = sa.create_engine(
            f"sqlite:///{file}", connect_args={"check_same_thread": False}
        )
        with self._engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA synchronous = OFF")
            connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_MAX >> 10}")  # in KiB
            schema.facts.create_all(connection)
            for table in schema.facts.sorted_tables:
                for index in (each for each in table.indexes if each.name not in ASKED):
                    index.drop(connection)

    def close(self) -> None:
        """Remove it."""
        self._engine.dispose()
        for suffix in ("", "-journal"):
            Path(f"{self._file}{suffix}").unlink(missing_ok=True)

    def add(self, batch: Batch) -> str:
        """Verify and fold records; "" or why they are wrong."""
        with self._engine.begin() as connection:
            outcomes, _ = applying.apply(connection, self._authority, [batch], now=self._now)
        (outcome,) = outcomes
        if outcome.resend_from is not None:
            return f"record {outcome.resend_from} is missing or does not fit"
        return outcome.refused

    def quarantine(self, proofs: Sequence[bytes]) -> None:
        """Let forks count as they do in the catalog."""
        with self._engine.begin() as connection:
            tables = Tables(connection, self._authority)
            for proof in proofs:
                forks.quarantine(tables, forks.place_of(proof), proof, now=self._now)
            tables.finish()

    def page(self, table: sa.Table, after: Key) -> list[Row]:
        """Read the next rows of a table."""
        with self._engine.begin() as connection:
            return page(connection, table, after)

    def knows(self, ids: Sequence[bytes]) -> bool:
        """Tell whether all these records were folded."""
        with self._engine.begin() as connection:
            query = sa.select(sa.func.count()).where(schema.records.c.id.in_(ids))
            return connection.execute(query).scalar() == len(set(ids))

    def claims(self, cell: str) -> list[fold.Claim]:
        """The claims about a cell."""
        with self._engine.begin() as connection:
            return projection.load_claims(connection, [cell]).get(cell, [])


def page(connection: sa.Connection, table: sa.Table, after: Key) -> list[Row]:
    """A unit: the next rows in the order of the primary key."""
    columns = list(table.primary_key)
    query = sa.select(table).order_by(*columns).limit(PAGE)
    if after:
        query = query.where(sa.tuple_(*columns) > sa.tuple_(*after))
    return [tuple(row) for row in connection.execute(query)]


async def differences(
    database: Reading, scratch: Scratch, in_thread: Callable[..., Any]
) -> AsyncGenerator[Difference]:
    """Compare every table, two pages in memory.  ``in_thread`` runs the scratch's blocking calls.

    Rows up to the one that differs may be put right meanwhile.
    """
    for table in TABLES:
        width = len(table.primary_key)
        live, made = Walk(width), Walk(width)
        while True:
            if live.wants:
                live.take(await database.read(partial(page, table=table, after=live.after)))
            if made.wants:
                made.take(await in_thread(scratch.page, table, made.after))
            for found in list(compare(table.name, live, made)):
                yield found
            if live.ended and made.ended:
                break


class Walk:
    """A table's rows in order of their keys, a page at a time."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.rows: list[Row] = []
        self.after: Key = ()
        self.last = False  # no page follows

    @property
    def wants(self) -> bool:
        """Whether the next page is needed."""
        return not self.rows and not self.last

    @property
    def ended(self) -> bool:
        """Whether all rows are used up."""
        return not self.rows and self.last

    def take(self, rows: Sequence[Row]) -> None:
        """Add a page."""
        self.rows += rows
        self.last = len(rows) < PAGE
        if rows:
            self.after = self.key(rows[-1])

    def key(self, row: Row) -> Key:
        """A row's primary key: its first columns."""
        return row[: self._width]


def compare(name: str, live: Walk, made: Walk) -> Iterator[Difference]:
    """Use up rows of both walks as far as they can be compared."""
    if live.rows == made.rows and live.last == made.last:  # nearly always, and told at once
        live.rows, made.rows = [], []
        return
    while (live.rows or live.last) and (made.rows or made.last):
        ours = live.key(live.rows[0]) if live.rows else None
        theirs = made.key(made.rows[0]) if made.rows else None
        if ours is None and theirs is None:
            return
        if theirs is None or (ours is not None and ours < theirs):
            live.rows.pop(0)
            yield Difference(name, ours or (), "unfounded")
        elif ours is None or theirs < ours:
            made.rows.pop(0)
            yield Difference(name, theirs, "missing")
        elif live.rows.pop(0) != made.rows.pop(0):
            yield Difference(name, ours, "wrong")


def heal(
    connection: sa.Connection, authority: Authority, found: Difference, scratch: Scratch
) -> tuple[bool, list[Touched]]:
    """A unit: make a row what the ledger says; False if it was written since, and is right."""
    cell = found.cell
    known = projection.load_claims(connection, [cell]).get(cell, [])
    if not scratch.knows([claim.record for claim in known]):
        return False, []
    made = scratch.claims(cell)
    connection.execute(sa.delete(schema.claims).where(schema.claims.c.cell == cell))
    projection.insert_claims(connection, [(cell, claim) for claim in made])
    for table in TABLES:
        if table.name in ("files", "burnt") and found.table not in ("files", "burnt"):
            continue
        if table.name in (found.table, "files", "burnt"):
            columns = zip(table.primary_key, found.key, strict=True)
            connection.execute(sa.delete(table).where(*(c == value for c, value in columns)))
    tables = Tables(connection, authority)
    if made:
        tables.fold({}, {cell: made})
    touched = tables.finish()
    recount(connection, *packages_of(connection, found, made))
    return True, touched


def packages_of(
    connection: sa.Connection, found: Difference, made: Sequence[fold.Claim]
) -> list[tuple[str, str]]:
    """The packages that a row counts for, by anybody's word."""
    if found.table == "pointers":
        return [found.key[:2]]  # type: ignore[list-item]  # (repository, package, name)
    if found.table in ("files", "burnt"):
        names = {getattr(claim.fact, "package", "") for claim in made} - {""}
        return [(found.key[0], name) for name in sorted(names)]
    return []


def recount(connection: sa.Connection, *keys: tuple[str, str]) -> int:
    """Count packages again from their files and pointers; how many counts were wrong."""
    wrong = 0
    files, pointers, packages = schema.files, schema.pointers, schema.packages
    for repository, package in keys:
        about = [
            connection.execute(
                sa.select(
                    sa.func.count(),
                    sa.func.coalesce(size, 0),
                    sa.func.coalesce(sa.func.max(table.c.hlc), 0),
                ).where(table.c.repository == repository, table.c.package == package)
            ).one()
            for table, size in ((files, sa.func.sum(files.c.size)), (pointers, sa.literal(0)))
        ]
        (number, size, newest), (tags, _, moved) = about
        right = (repository, package, number, int(size), max(newest, moved))
        mine = sa.and_(packages.c.repository == repository, packages.c.package == package)
        stored = connection.execute(sa.select(packages).where(mine)).first()
        if (tuple(stored) if stored else None) == (right if number or tags else None):
            continue
        wrong += 1
        connection.execute(sa.delete(packages).where(mine))
        held = (stored.files, stored.size) if stored else (0, 0)
        counting.add(connection, [(repository, number - held[0], int(size) - held[1])])
        if number or tags:
            connection.execute(sa.insert(packages).values(right))
    return wrong


def counted(connection: sa.Connection, after: Key) -> tuple[list[PackageKey], list[PackageKey]]:
    """A unit that only reads: the next packages by name, and those that are counted wrongly.

    All of a page by one query a table; also finds packages that have files but no row.
    """
    stored = page(connection, schema.packages, after)
    keys = [(row[0], row[1]) for row in stored]
    last = keys[-1] if len(keys) == PAGE else ()
    right: dict[PackageKey, tuple[int, int, int]] = {}
    for table, size in ((schema.files, schema.files.c.size), (schema.pointers, None)):
        place = (table.c.repository, table.c.package)
        number = sa.func.count() if size is not None else sa.literal(0)
        total = sa.func.sum(size) if size is not None else sa.literal(0)
        query = sa.select(*place, number, total, sa.func.max(table.c.hlc)).group_by(*place)
        if after:
            query = query.where(sa.tuple_(*place) > sa.tuple_(*after))
        if last:
            query = query.where(sa.tuple_(*place) <= sa.tuple_(*last))
        for repository, package, some, bytes_, newest in connection.execute(query):
            held = right.get((repository, package), (0, 0, 0))
            more = (held[0] + some, held[1] + int(bytes_), max(held[2], newest))
            right[repository, package] = more
    told = {(row[0], row[1]): row[2:] for row in stored}
    wrong = [key for key in told.keys() | right.keys() if told.get(key) != right.get(key)]
    return keys, sorted(wrong)


def recounted(
    connection: sa.Connection, _: Authority, keys: Sequence[PackageKey]
) -> tuple[int, list[Touched]]:
    """A unit: count packages again; how many were wrong.

    Counted in the transaction that puts them right: no publish comes between.
    """
    return recount(connection, *keys), []


def totalled(connection: sa.Connection, _: Authority) -> tuple[int, list[Touched]]:
    """A unit: add repositories up again; how many were wrong.

    Before packages are counted again, which changes totals by differences.
    """
    return counting.total_again(connection), []
