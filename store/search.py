"""The full-text index of one node: SQLite's FTS5 or PostgreSQL's, over ``search_documents``.

Words come prepared (``node.search.words``), so that both databases cut text alike, and a query is
built of nothing but letters and digits: nobody's input reaches the query languages.  Everything
here can be made again from the catalog.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import bulk
from store.database import Database
from store.paging import like, storable
from store.schema_followers import search_digests, search_documents
from store.search_query import FILENAMES, NAMES, WEIGHTS, WORDS, Query, fts5, tsquery

MATCH_MAX = 10_000  # documents that one query looks at; more are said to be "at least" so many
REPOSITORIES_MAX = 20_000
DIGESTS = ("sha1", "md5")  # those of a file that the catalog has no index of

d = search_documents.c
COLUMNS = [column.key for column in search_documents.columns]
VECTOR = " || ".join(
    f"setweight(to_tsvector('simple'::regconfig, {name}), '{weight}')"
    for name, weight in WEIGHTS.items()
)
SQLITE = (
    """CREATE VIRTUAL TABLE IF NOT EXISTS search_text USING fts5(
        names, words, filenames, content='search_documents', content_rowid='id',
        tokenize='unicode61 remove_diacritics 0')""",
    """CREATE TRIGGER IF NOT EXISTS search_text_insert AFTER INSERT ON search_documents BEGIN
        INSERT INTO search_text(rowid, names, words, filenames)
        VALUES (new.id, new.names, new.words, new.filenames); END""",
    """CREATE TRIGGER IF NOT EXISTS search_text_delete AFTER DELETE ON search_documents BEGIN
        INSERT INTO search_text(search_text, rowid, names, words, filenames)
        VALUES ('delete', old.id, old.names, old.words, old.filenames); END""",
)
SQLITE_GONE = (
    "DROP TRIGGER IF EXISTS search_text_insert",
    "DROP TRIGGER IF EXISTS search_text_delete",
    "DROP TABLE IF EXISTS search_text",
)
POSTGRESQL = (f"CREATE INDEX IF NOT EXISTS search_text ON search_documents USING gin (({VECTOR}))",)


class DocumentKey(NamedTuple):
    """What a document stands for: a version, or with a path a file that belongs to none."""

    repository: str
    package: str
    version: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What the index keeps of a version.  ``updated`` is ledger time, milliseconds since 1970."""

    key: DocumentKey
    format: str
    description: str = ""
    keywords: str = ""
    license: str = ""
    tags: str = ""
    files: int = 0
    size: int = 0
    updated: int = 0
    names: str = ""
    words: str = ""
    filenames: str = ""
    digests: tuple[tuple[str, str], ...] = ()  # ("md5:…", path)


class Match(NamedTuple):
    """One document that matches, before it is loaded."""

    id: int
    rank: float
    repository: str
    format: str
    license: str
    package: str
    updated: int


@dataclass(frozen=True, slots=True)
class Found:
    """The matches in order, and whether there may be more of them."""

    matches: Sequence[Match] = field(default_factory=list[Match])
    more: bool = False


class SearchIndex:
    """Writes and asks the index.  ``prepare`` it once before use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self) -> None:
        """Make what the dialect needs beside the tables; does nothing where it is there."""
        statements = SQLITE if self._database.dialect == "sqlite" else POSTGRESQL

        def unit(connection: sa.Connection) -> None:
            for statement in statements:
                connection.exec_driver_sql(statement)

        await self._database.write(unit)

    async def reset(self) -> None:
        """Throw everything away, and make it anew, empty: for an index that is damaged."""
        lite = self._database.dialect == "sqlite"
        statements = SQLITE_GONE if lite else ("DROP INDEX IF EXISTS search_text",)

        def unit(connection: sa.Connection) -> None:
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.execute(sa.delete(search_digests))
            connection.execute(sa.delete(search_documents))

        await self._database.write(unit)
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
            partial(_put, documents=documents, gone=list(gone), turn=turn, keep_gone=keep_gone)
        )

    async def drop_older(self, turn: int, *, keep_gone: bool = False, limit: int = 400) -> int:
        """Drop documents that a rebuild did not write; how many, at most ``limit``."""

        def unit(connection: sa.Connection) -> int:
            query = sa.select(d.repository, d.package, d.version, d.path).where(
                d.turn < turn, d.gone.is_(sa.false())
            )
            keys = [DocumentKey(*row) for row in connection.execute(query.limit(limit))]
            _put(connection, documents=(), gone=keys, turn=turn, keep_gone=keep_gone)
            return len(keys)

        return await self._database.write(unit)

    async def forget_gone(self, stamp: int) -> None:
        """Forget the marks of dropped documents up to a stamp."""
        gone = sa.delete(search_documents).where(d.gone.is_(sa.true()), d.stamp <= stamp)
        await self._database.write(lambda connection: connection.execute(gone))

    # --- asking ----------------------------------------------------------------------------------
    async def search(self, query: Query) -> Found:
        """Find documents, best first."""
        texts = (query.package, query.version, query.tag, *query.formats, *query.licenses)
        if not query.repositories or not storable(*texts):
            return Found()
        rows = await self._database.read(partial(_search, query=query))
        exact = query.exact or None
        ordered = sorted(rows, key=lambda m: (m.package.lower() != exact, m.rank, -m.updated, m))
        return Found(ordered, len(ordered) >= MATCH_MAX)

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


# --- units: writing -----------------------------------------------------------------------------
def _key(key: DocumentKey) -> list[sa.ColumnElement[bool]]:
    return [
        d.repository == key.repository,
        d.package == key.package,
        d.version == key.version,
        d.path == key.path,
    ]


def _put(
    connection: sa.Connection,
    documents: Sequence[Document],
    gone: Sequence[DocumentKey],
    turn: int,
    *,
    keep_gone: bool,
) -> None:
    stamp = connection.execute(sa.select(sa.func.max(d.stamp))).scalar() or 0
    packages: dict[tuple[str, str], None] = {}
    empty = dict.fromkeys((NAMES, WORDS, FILENAMES), "")
    for document in documents:
        stamp += 1
        if not document.key.path:
            packages[document.key[:2]] = None
        _drop(connection, document.key)
        values = _values(document) | {"turn": turn, "stamp": stamp}
        inserted = connection.execute(sa.insert(search_documents).returning(d.id), values)
        number = inserted.scalar_one()
        digests = [(digest, number, path) for digest, path in dict.fromkeys(document.digests)]
        bulk.insert(connection, search_digests, digests)
    for key in gone:
        if not key.path:
            packages[key[:2]] = None
        if _drop(connection, key) and keep_gone:
            stamp += 1
            values = _values(Document(key, "")) | empty | {"turn": turn, "stamp": stamp}
            connection.execute(sa.insert(search_documents), {**values, "gone": True})
    for repository, package in packages:
        stamp = _choose_latest(connection, repository, package, stamp)


def _values(document: Document) -> dict[str, Any]:
    key = document.key
    return {
        **{name: getattr(document, name) for name in COLUMNS if hasattr(document, name)},
        **key._asdict(),
        "latest": not key.version or bool(key.path),
        "gone": False,
    }


def _drop(connection: sa.Connection, key: DocumentKey) -> bool:
    number = connection.execute(sa.select(d.id, d.gone).where(*_key(key))).first()
    if number is None:
        return False
    connection.execute(sa.delete(search_digests).where(search_digests.c.document == number.id))
    connection.execute(sa.delete(search_documents).where(d.id == number.id))
    return not number.gone


def _choose_latest(connection: sa.Connection, repository: str, package: str, stamp: int) -> int:
    """Mark the version that was changed last, and no other; return the last stamp used."""
    mine = (d.repository == repository, d.package == package)
    versions = (*mine, d.path == "", d.gone.is_(sa.false()))
    query = sa.select(d.id).where(*versions).order_by(d.updated.desc(), d.version.desc(), d.id)
    newest = connection.execute(query.limit(1)).scalar()
    if newest is None:
        return stamp
    before = [*versions, d.latest.is_(sa.true()), d.id != newest]
    was = connection.execute(sa.select(d.id).where(*before)).scalars().all()
    for number in was:
        stamp += 1
        changed = sa.update(search_documents).where(d.id == number)
        connection.execute(changed.values(latest=False, stamp=stamp))
    stamp += 1
    chosen = sa.update(search_documents).where(d.id == newest, d.latest.is_(sa.false()))
    connection.execute(chosen.values(latest=True, stamp=stamp))
    return stamp


# --- units: asking ------------------------------------------------------------------------------
def _search(connection: sa.Connection, query: Query) -> list[Match]:
    lite = connection.dialect.name == "sqlite"
    rank: Any = sa.literal(0.0)
    table: Any = search_documents
    conditions = _filters(query)
    if query.terms and lite:
        matching = sa.table("search_text", sa.column("rowid"))
        table = matching.join(search_documents, d.id == matching.c.rowid)
        conditions.append(sa.text("search_text MATCH :match").bindparams(match=fts5(query.terms)))
        rank = sa.literal_column("bm25(search_text, 10.0, 3.0, 1.0)")
    elif query.terms:
        asked = sa.func.to_tsquery(sa.text("'simple'::regconfig"), tsquery(query.terms))
        vector: sa.ColumnElement[Any] = sa.literal_column(f"({VECTOR})")
        conditions.append(vector.op("@@")(asked))
        rank = -sa.func.ts_rank(vector, asked)
    columns = (d.id, rank.label("rank"), d.repository, d.format, d.license, d.package, d.updated)
    chosen = sa.select(*columns).select_from(table).where(*conditions)
    if not query.terms:
        chosen = chosen.order_by(d.updated.desc())
    return [Match(*row) for row in connection.execute(chosen.limit(MATCH_MAX))]


def _filters(query: Query) -> list[Any]:
    found: list[Any] = [
        d.gone.is_(sa.false()),
        d.repository.in_(list(query.repositories)[:REPOSITORIES_MAX]),
    ]
    if query.latest:
        found.append(d.latest.is_(sa.true()))
    if query.formats:
        found.append(d.format.in_(query.formats))
    if query.licenses:
        found.append(sa.func.lower(d.license).in_([each.lower() for each in query.licenses]))
    if query.package:
        found.append(d.package == query.package)
    if query.version.endswith("*"):
        found.append(d.version.startswith(query.version[:-1], autoescape=True))
    elif query.version:
        found.append(d.version == query.version)
    if query.tag:
        found.append((sa.literal(" ") + d.tags + " ").like(like(f" {query.tag} "), escape="\\"))
    return found
