"""Which blobs the catalog still needs: the mark half of collecting garbage.

Needed is what a visible file, its metadata or a pointer names, every rival of a conflicted
coordinate (an operator may yet choose it), and what a deleted coordinate may get back.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import fold, hlc, records
from store.database import Database
from store.digest import Digest
from store.errors import DigestInvalidError
from store.facts import Cached, Publish
from store.journal import Journal
from store.paging import Paged, batched
from store.schema import burnt, claims, files, pointed

PAGE = 1000  # values read at once
CELLS = 200  # coordinates whose claims are read at once
ASKED_MAX = 500  # digests in one statement
RIVALS_MAX = 100_000  # digests that are remembered
RIVALS_FRESH = 30.0  # seconds for which they are: a sweep asks before each blob it deletes
CHANGES_MAX = 2000  # changes since they were read that are followed; after more, all are read anew


class Coordinate(NamedTuple):
    """A repository and a path in it."""

    repository: str
    path: str


class References:
    """Ask the facts database which blobs are needed.

    ``deleted_since`` is seconds since 1970: what was deleted later may still be restored.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._journal = Journal(database)
        self._clock = clock
        self._rivals: set[str] | None = None
        self._rivals_of = (math.nan, -math.inf)  # deleted_since, and when they were read
        self._position = 0  # of the journal, up to which they are known

    async def all(self, *, deleted_since: float) -> AsyncIterator[Digest]:
        """Every needed digest, some more than once, a page in memory at a time."""
        for values in (digests_after, metadata_after, pointed_after):
            async for digest in self._walk(values):
                yield digest
        async for digest in self._disputed(deleted_since):
            yield digest

    async def among(self, digests: Iterable[Digest], *, deleted_since: float) -> set[Digest]:
        """Those of the digests that are needed.

        What was visible and has been deleted meanwhile is among them: a sweep goes on for minutes.
        A rival that was never visible may be missing for RIVALS_FRESH seconds: the grace period
        covers those.
        """
        asked = {str(digest): digest for digest in digests}
        needed: set[str] = set()
        for names in batched(asked, ASKED_MAX):
            needed |= await self._database.read(partial(named, names=names))
        if rest := asked.keys() - needed:
            needed |= await self._rivals_among(rest, deleted_since)
        return {asked[name] for name in needed}

    async def _walk(self, values: Callable[[Any], sa.Select[Any]]) -> AsyncIterator[Digest]:
        async def load(last: Any) -> Sequence[Any]:
            return await self._database.read(lambda c: c.execute(values(last)).scalars().all())

        async for value in Paged(load):
            digest = parse(value)
            if digest is not None:
                yield digest

    async def _rivals_among(self, names: AbstractSet[str], deleted_since: float) -> set[str]:
        now = self._clock()
        since, read = self._rivals_of
        fresh = since == deleted_since and now - read < RIVALS_FRESH
        if fresh and self._rivals is not None and await self._follow(self._rivals):
            return {name for name in names if name in self._rivals}
        found: set[str] = set()
        rivals: set[str] = set()
        position = await self._journal.newest()  # first: what changes meanwhile is followed later
        async for digest in self._disputed(deleted_since):
            name = str(digest)
            if name in names:
                found.add(name)
            if len(rivals) <= RIVALS_MAX:
                rivals.add(name)
        self._rivals = rivals if len(rivals) <= RIVALS_MAX else None
        self._rivals_of, self._position = (deleted_since, now), position
        return found

    async def _follow(self, rivals: set[str]) -> bool:
        """Add what files named that changed since; tell whether that was few enough to follow."""
        changes = await self._journal.after(self._position, CHANGES_MAX)
        if len(changes) >= CHANGES_MAX:
            return False
        paths = {(e.repository, e.name) for _, e in changes if e.kind == fold.FILE}
        for part in batched(paths, CELLS):
            rivals |= {
                str(each) for each in await self._database.read(partial(named_at, places=part))
            }
        if changes:
            self._position = max(self._position, changes[-1].position)
        return len(rivals) <= RIVALS_MAX

    async def _disputed(self, deleted_since: float) -> AsyncIterator[Digest]:
        """What was ever published at conflicted, and at lately deleted coordinates."""
        disputed = (
            sa.select(files.c.repository, files.c.path).where(files.c.conflicted),
            sa.select(burnt.c.repository, burnt.c.path).where(
                burnt.c.hlc >= hlc.stamp(deleted_since)
            ),
        )
        for query in disputed:
            after: Coordinate | None = None
            while True:
                after, found = await self._database.read(rivals_after(query, after))
                for digest in found:
                    yield digest
                if after is None:
                    break


def named(connection: sa.Connection, names: Sequence[str]) -> set[str]:
    """A unit: those of the digests that a file, its metadata or a pointer names."""
    found: set[str] = set()
    for column in (files.c.digest, files.c.metadata_digest):
        query = sa.select(column).where(column != "", column.in_(names))
        found |= set(connection.execute(query.distinct()).scalars())
    query = sa.select(pointed).where(pointed.in_([name.encode() for name in names]))
    return found | {bytes(value).decode() for value in connection.execute(query).scalars()}


def digests_after(last: Any) -> sa.Select[Any]:
    """A page of the digests of files."""
    return ordered(files.c.digest, last or "")


def metadata_after(last: Any) -> sa.Select[Any]:
    """A page of the digests of metadata; the second condition is the partial index's own."""
    return ordered(files.c.metadata_digest, last or "").where(files.c.metadata_digest != "")


def pointed_after(last: Any) -> sa.Select[Any]:
    """A page of what pointers say, cut to a digest's length."""
    return ordered(pointed, last or b"")


def ordered(column: sa.ColumnElement[Any], after: Any) -> sa.Select[Any]:
    """The next page of a column's distinct values."""
    return sa.select(column).distinct().where(column > after).order_by(column).limit(PAGE)


def rivals_after(
    query: sa.Select[Any], after: Coordinate | None
) -> Callable[[sa.Connection], tuple[Coordinate | None, list[Digest]]]:
    """A unit that reads all that was ever published at the next few coordinates of ``query``."""
    repository, path = query.selected_columns
    page = query.order_by(repository, path).limit(CELLS)
    if after is not None:
        page = page.where(sa.tuple_(repository, path) > sa.tuple_(*after))

    def unit(connection: sa.Connection) -> tuple[Coordinate | None, list[Digest]]:
        coordinates = [Coordinate(*row) for row in connection.execute(page)]
        if not coordinates:
            return None, []
        return coordinates[-1], named_at(connection, coordinates)

    return unit


def named_at(connection: sa.Connection, places: Iterable[tuple[str, str]]) -> list[Digest]:
    """A unit: the blobs that anybody ever published at these (repository, path)."""
    cells = [fold.file_cell(*place) for place in places]
    facts = connection.execute(sa.select(claims.c.fact).where(claims.c.cell.in_(cells)))
    return [digest for fact in facts.scalars() for digest in published(fact)]


def published(encoded: bytes) -> list[Digest]:
    """The blobs that a stored fact names."""
    fact = records.read_fact(encoded)
    if not isinstance(fact, Publish | Cached):
        return []
    texts = [text for file in fact.files for text in (file.digest, file.metadata_digest)]
    return [digest for text in texts if (digest := parse(text)) is not None]


def parse(value: str | bytes) -> Digest | None:
    """The digest that a text is, if it is one: most pointers' values are something else."""
    try:
        return Digest.parse(value if isinstance(value, str) else bytes(value).decode())
    except (DigestInvalidError, UnicodeDecodeError):
        return None
