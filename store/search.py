"""The full-text index of one node: SQLite's FTS5 or PostgreSQL's, over ``search_documents``.

Words come prepared (``node.search.words``), so that both databases cut text alike, and a query is
built of nothing but letters and digits: nobody's input reaches the query languages.  Everything
here can be made again from the catalog.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa
import trio

from store import followers
from store.database import Database
from store.errors import UnavailableError
from store.paging import storable
from store.schema_followers import search_digests, search_documents
from store.search_matching import (
    ENOUGH,
    LOOKED_MAX,
    MATCH_MAX,
    LookedUp,
    Match,
    Place,
    look,
    matches,
)
from store.search_query import Query
from store.search_text import fill_parts, prepare, reset
from store.search_writing import Document, DocumentKey, fill, put

SECONDS_MAX = 10.0  # that one query may take: the machine is too busy
LOOK_SECONDS_MAX = 3.0  # after which documents are looked through no further
DIGESTS = ("sha1", "md5")  # those of a file that the catalog has no index of

d = search_documents.c


@dataclass(frozen=True, slots=True)
class Found:
    """The matches in order, and whether there may be more of them."""

    matches: Sequence[Match] = field(default_factory=list[Match])
    more: bool = False


class SearchIndex:
    """Writes and asks the index.  ``prepare`` it once before use."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.partial = False  # parts of names are not found of all documents yet

    async def prepare(self) -> None:
        """Make what the dialect needs beside the tables; does nothing where it is there."""
        self.partial = await prepare(self._database)

    async def fill_parts(self) -> bool:
        """Index parts of names of the next documents that lack them; False when all have them."""
        if self.partial:
            self.partial = await self._database.write(fill_parts)
        return self.partial

    async def reset(self) -> None:
        """Throw everything away, and make it anew, empty: for an index that is damaged."""
        await reset(self._database)
        await self.prepare()

    # --- writing ---------------------------------------------------------------------------------
    async def put(
        self,
        documents: Sequence[Document],
        gone: Iterable[DocumentKey] = (),
        *,
        turn: int,
        keep_gone: bool = False,
    ) -> None:
        """Replace documents, and drop those of keys that stand for nothing any more.

        ``keep_gone`` leaves a mark of what was dropped for another index to hear of.
        """
        await self._database.write(
            partial(put, documents=documents, gone=list(gone), turn=turn, keep_gone=keep_gone)
        )

    async def fill(
        self, documents: Sequence[Document], *, turn: int, name: str, state: msgspec.Struct
    ) -> None:
        """Write a page of a rebuild's walk, and keep how far it is, in one transaction."""

        def unit(connection: sa.Connection) -> None:
            fill(connection, documents, turn)
            followers.put(connection, name, state)

        await self._database.write(unit)

    async def drop_older(self, turn: int, *, keep_gone: bool = False, limit: int = 400) -> int:
        """Drop documents that a rebuild did not write; how many, at most ``limit``."""

        def unit(connection: sa.Connection) -> int:
            query = sa.select(d.repository, d.package, d.version, d.path).where(
                d.turn < turn, d.gone.is_(sa.false())
            )
            keys = [DocumentKey(*row) for row in connection.execute(query.limit(limit))]
            put(connection, (), keys, turn=turn, keep_gone=keep_gone)
            return len(keys)

        return await self._database.write(unit)

    async def forget_gone(self, stamp: int) -> None:
        """Forget the marks of dropped documents up to a stamp."""
        gone = sa.delete(search_documents).where(d.gone.is_(sa.true()), d.stamp <= stamp)
        await self._database.write(lambda connection: connection.execute(gone))

    # --- asking ----------------------------------------------------------------------------------
    async def search(self, query: Query) -> Found:
        """Find documents, best first.  Raises UnavailableError after SECONDS_MAX."""
        texts = (query.package, query.version, query.tag, *query.formats, *query.licenses)
        if not query.repositories or not storable(*texts):
            return Found()
        looked_up: LookedUp | None = None
        with trio.move_on_after(SECONDS_MAX):
            looked_up = await self._database.read(partial(matches, query=query))
        if looked_up is None:
            raise UnavailableError("the search took too long: more words would narrow it")
        rows, ended = looked_up
        if not ended and len(rows) < ENOUGH:
            rows, ended = await self._look(query, rows)
        fewer = query.bounded != query.terms or (self.partial and bool(query.parts))
        return Found(_ordered(rows, query), not ended or len(rows) >= MATCH_MAX or fewer)

    async def _look(self, query: Query, known: Sequence[Match]) -> tuple[list[Match], bool]:
        """Look through what may be read until that is enough; whether nothing was left out."""
        found = {each.id: each for each in known}
        place, most = Place.first(query), LOOKED_MAX
        with trio.move_on_after(LOOK_SECONDS_MAX):
            while not place.ended and len(found) < ENOUGH:
                unit = partial(look, query=query, place=place, most=most)
                rows, place = await self._database.read(unit)
                found = {each.id: each for each in rows} | found
                most *= 2  # a long way is gone in few steps: each begins by passing what was seen
        return list(found.values())[:MATCH_MAX], place.ended

    async def load(self, ids: Sequence[int]) -> list[Mapping[str, Any]]:
        """Documents by id, in that order."""
        query = sa.select(search_documents).where(d.id.in_(list(ids)))

        def unit(connection: sa.Connection) -> dict[int, dict[str, Any]]:
            return {row["id"]: dict(row) for row in connection.execute(query).mappings()}

        found = await self._database.read(unit)
        return [found[each] for each in ids if each in found]

    async def load_keys(self, keys: Sequence[DocumentKey]) -> list[Mapping[str, Any]]:
        """Documents by key, in that order; those that are not there are left out."""

        def unit(connection: sa.Connection) -> list[Mapping[str, Any]]:
            found: list[Mapping[str, Any]] = []
            for key in keys:
                query = sa.select(search_documents).where(*_key(key), d.gone.is_(sa.false()))
                row = connection.execute(query).mappings().first()
                found += [dict(row)] if row is not None else []
            return found

        return await self._database.read(unit)

    async def by_digest(
        self, digest: str, repositories: Sequence[str], limit: int
    ) -> list[tuple[str, str]]:
        """(repository, path) of files with a digest that is written ``md5:…``."""
        if not storable(digest):
            return []
        joined = search_digests.join(search_documents, d.id == search_digests.c.document)
        query = sa.select(d.repository, search_digests.c.path).select_from(joined)
        query = query.where(search_digests.c.digest == digest, d.repository.in_(repositories))
        query = query.order_by(d.repository, search_digests.c.path).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [(repository, path) for repository, path in rows]

    async def newest(self, repository: str, package: str) -> Mapping[str, Any] | None:
        """The document of a package's newest version."""
        query = sa.select(search_documents).where(
            d.repository == repository,
            d.package == package,
            d.latest.is_(sa.true()),
            d.path == "",
            d.gone.is_(sa.false()),
        )

        def unit(connection: sa.Connection) -> Mapping[str, Any] | None:
            row = connection.execute(query.limit(1)).mappings().first()
            return dict(row) if row is not None else None

        return await self._database.read(unit)

    async def tagged(self, repository: str, package: str, limit: int = 1000) -> list[str]:
        """Versions of a package that carry tags in the index."""
        query = sa.select(d.version).where(
            d.repository == repository, d.package == package, d.tags != "", d.gone.is_(sa.false())
        )
        rows = await self._database.read(lambda c: c.execute(query.limit(limit)).all())
        return [version for (version,) in rows]

    async def count(self) -> int:
        """How many documents there are."""
        query = sa.select(sa.func.count()).where(d.gone.is_(sa.false()))
        return await self._database.read(lambda connection: connection.execute(query).scalar() or 0)

    async def changed(self, stamp: int, limit: int) -> list[Mapping[str, Any]]:
        """Documents changed or dropped after a stamp, in the order of change."""
        query = sa.select(search_documents).where(d.stamp > stamp)
        query = query.order_by(d.stamp, d.id).limit(limit)

        def unit(connection: sa.Connection) -> list[Mapping[str, Any]]:
            return [dict(row) for row in connection.execute(query).mappings()]

        return await self._database.read(unit)


def _key(key: DocumentKey) -> list[sa.ColumnElement[bool]]:
    return [
        d.repository == key.repository,
        d.package == key.package,
        d.version == key.version,
        d.path == key.path,
    ]


def _ordered(found: Sequence[Match], query: Query) -> list[Match]:
    """What matches, best first."""
    exact = query.exact or None
    return sorted(found, key=lambda m: (m.package.lower() != exact, m.rank, -m.updated, m))
