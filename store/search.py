"""The full-text index of one node: SQLite's FTS5 or PostgreSQL's, over ``search_documents``.

Words come prepared (``node.search.words``), so that both databases cut text alike, and a query is
built of nothing but letters and digits: nobody's input reaches the query languages.  Everything
here can be made again from the catalog.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
import trio

from store import bulk
from store.database import Database
from store.errors import UnavailableError
from store.paging import grouped, storable
from store.schema_followers import search_digests, search_documents
from store.search_query import FILENAMES, NAMES, WORDS, Query
from store.search_text import MATCH_MAX, Match, matches, prepare, reset

SECONDS_MAX = 10.0  # that one query may take: it looks at too much, or the machine is too busy
DIGESTS = ("sha1", "md5")  # those of a file that the catalog has no index of

d = search_documents.c
COLUMNS = [column.key for column in search_documents.columns]
# Built once: SQLAlchemy then only looks up what it compiled.
MINE = (d.repository == sa.bindparam("repository"), d.package == sa.bindparam("package"))
LASTS: sa.BindParameter[list[str]] = sa.bindparam("lasts", expanding=True)
STORED = sa.select(d.id, d.gone, d.repository, d.package, d.version, d.path).where(*MINE)
BY_PATHS = STORED.where(d.version == sa.bindparam("equal"), d.path.in_(LASTS))
BY_VERSIONS = STORED.where(d.path == sa.bindparam("equal"), d.version.in_(LASTS))
VERSIONS = (*MINE, d.path == "", d.gone.is_(sa.false()))
NEWEST = (
    sa.select(d.id).where(*VERSIONS).order_by(d.updated.desc(), d.version.desc(), d.id).limit(1)
)
WAS_NEWEST = sa.select(d.id).where(
    *VERSIONS, d.latest.is_(sa.true()), d.id != sa.bindparam("newest")
)
CHOOSE = (
    sa.update(search_documents)
    .where(d.id == sa.bindparam("number"), d.latest.is_(sa.false()))
    .values(latest=True, stamp=sa.bindparam("now"))
)


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
        await prepare(self._database)

    async def reset(self) -> None:
        """Throw everything away, and make it anew, empty: for an index that is damaged."""
        await reset(self._database)
        await prepare(self._database)

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
        """Find documents, best first.  Raises UnavailableError after SECONDS_MAX."""
        texts = (query.package, query.version, query.tag, *query.formats, *query.licenses)
        if not query.repositories or not storable(*texts):
            return Found()
        rows: list[Match] | None = None
        with trio.move_on_after(SECONDS_MAX):
            rows = await self._database.read(partial(matches, query=query))
        if rows is None:
            raise UnavailableError("the search took too long: more words would narrow it")
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
    """Replace documents, a few statements for all of them."""
    stamp = connection.execute(sa.select(sa.func.max(d.stamp))).scalar() or 0
    newest = {document.key: document for document in documents}
    there = _drop(connection, [*newest, *gone])
    rows: list[dict[str, Any]] = []
    for document in newest.values():
        stamp += 1
        rows.append(_values(document) | {"turn": turn, "stamp": stamp})
    empty = dict.fromkeys((NAMES, WORDS, FILENAMES), "")
    for key in gone if keep_gone else ():
        if key in there and key not in newest:
            stamp += 1
            marked = _values(Document(key, "")) | empty
            rows.append(marked | {"turn": turn, "stamp": stamp, "gone": True, "latest": False})
    if rows:
        connection.execute(sa.insert(search_documents), rows)
    _put_digests(connection, newest.values())
    for repository, package in dict.fromkeys(key[:2] for key in (*newest, *gone) if not key.path):
        stamp = _choose_latest(connection, repository, package, stamp)


def _put_digests(connection: sa.Connection, documents: Iterable[Document]) -> None:
    """Store the digests of documents that have just been stored."""
    told = {document.key: document.digests for document in documents if document.digests}
    rows = []
    for number, _, key in _stored(connection, told):
        rows += [(digest, number, path) for digest, path in dict.fromkeys(told[key])]
    bulk.insert(connection, search_digests, rows)


def _stored(
    connection: sa.Connection, keys: Iterable[DocumentKey]
) -> Iterator[tuple[int, bool, DocumentKey]]:
    """The documents of keys: their ids, whether they are marks of dropped ones."""
    for part in bulk.chunks(keys):  # those of one package are asked for together
        single: list[tuple[str, str, str, str]] = [key for key in part if key.path]
        turned = [(key.repository, key.package, "", key.version) for key in part if not key.path]
        for query, wanted in ((BY_PATHS, single), (BY_VERSIONS, turned)):
            for (repository, package, equal), lasts in grouped(wanted).items():
                values = {"repository": repository, "package": package, "equal": equal}
                for row in connection.execute(query, {**values, "lasts": lasts}):
                    yield row[0], row[1], DocumentKey(*row[2:])


def _values(document: Document) -> dict[str, Any]:
    key = document.key
    return {
        **{name: getattr(document, name) for name in COLUMNS if hasattr(document, name)},
        **key._asdict(),
        "latest": not key.version or bool(key.path),
        "gone": False,
    }


def _drop(connection: sa.Connection, keys: Iterable[DocumentKey]) -> set[DocumentKey]:
    """Drop documents; return the keys of those that were there, marks not counted."""
    found = list(_stored(connection, dict.fromkeys(keys)))
    for numbers in bulk.chunks(number for number, _, _ in found):
        old = sa.delete(search_digests).where(search_digests.c.document.in_(numbers))
        connection.execute(old)
        connection.execute(sa.delete(search_documents).where(d.id.in_(numbers)))
    return {key for _, gone, key in found if not gone}


def _choose_latest(connection: sa.Connection, repository: str, package: str, stamp: int) -> int:
    """Mark the version that was changed last, and no other; return the last stamp used."""
    package_key = {"repository": repository, "package": package}
    newest = connection.execute(NEWEST, package_key).scalar()
    if newest is None:
        return stamp
    was = connection.execute(WAS_NEWEST, {**package_key, "newest": newest}).scalars().all()
    for number in was:
        stamp += 1
        older = sa.update(search_documents).where(d.id == number)
        connection.execute(older.values(latest=False, stamp=stamp))
    stamp += 1
    connection.execute(CHOOSE, {"number": newest, "now": stamp})
    return stamp
