"""Which blobs the catalog still needs: the mark half of collecting garbage.

Needed is what a visible file, its metadata or a pointer names, every rival of a conflicted
coordinate (an operator may yet choose it), and what a deleted coordinate may get back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import fold, hlc, records
from store.database import Database
from store.digest import Digest
from store.errors import DigestInvalidError
from store.facts import Cached, Publish
from store.paging import Paged
from store.schema import burnt, claims, files, pointed

PAGE = 1000  # values read at once
CELLS = 200  # coordinates whose claims are read at once
ASKED_MAX = 500  # digests in one question


class Coordinate(NamedTuple):
    """A repository and a path in it."""

    repository: str
    path: str


class References:
    """Ask the facts database which blobs are needed.

    ``deleted_since`` is seconds since 1970: what was deleted later may still be restored.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, *, deleted_since: float) -> AsyncIterator[Digest]:
        """Every needed digest, some more than once, a page in memory at a time."""
        for values in (self._digests, self._metadata, self._pointed):
            async for digest in self._walk(values):
                yield digest
        async for digest in self._rivals(deleted_since):
            yield digest

    async def among(self, digests: Iterable[Digest], *, deleted_since: float) -> set[Digest]:
        """Those of at most ASKED_MAX digests that are needed."""
        asked = {str(digest): digest for digest in digests}
        if len(asked) > ASKED_MAX:
            raise ValueError(f"more than {ASKED_MAX} digests at once")
        names, values = list(asked), [name.encode() for name in asked]

        def unit(connection: sa.Connection) -> set[str]:
            found: set[str] = set()
            for column in (files.c.digest, files.c.metadata_digest):
                query = sa.select(column).where(column != "", column.in_(names))
                found |= set(connection.execute(query.distinct()).scalars())
            query = sa.select(pointed).where(pointed.in_(values))
            return found | {bytes(value).decode() for value in connection.execute(query).scalars()}

        needed = {asked[name] for name in await self._database.read(unit)}
        async for digest in self._rivals(deleted_since):
            if str(digest) in asked:
                needed.add(digest)
        return needed

    # --- what the tables say, in index order ------------------------------------------------------
    def _digests(self, after: Any) -> sa.Select[Any]:
        return ordered(files.c.digest, after or "")

    def _metadata(self, after: Any) -> sa.Select[Any]:
        column = files.c.metadata_digest
        return ordered(column, after or "").where(column != "")  # the partial index's condition

    def _pointed(self, after: Any) -> sa.Select[Any]:
        return ordered(pointed, after or b"")

    async def _walk(self, values: Callable[[Any], sa.Select[Any]]) -> AsyncIterator[Digest]:
        async def load(last: Any) -> Sequence[Any]:
            return await self._database.read(lambda c: c.execute(values(last)).scalars().all())

        async for value in Paged(load):
            digest = parse(value)
            if digest is not None:
                yield digest

    # --- what the claims say ----------------------------------------------------------------------
    async def _rivals(self, deleted_since: float) -> AsyncIterator[Digest]:
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
        cells = [fold.file_cell(*coordinate) for coordinate in coordinates]
        facts = connection.execute(sa.select(claims.c.fact).where(claims.c.cell.in_(cells)))
        return coordinates[-1], [d for fact in facts.scalars() for d in published(fact)]

    return unit


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
