"""What each database makes beside ``search_documents`` to find words, and parts of names, in it.

Words: SQLite's FTS5, PostgreSQL's full text.  Parts of names: an index of all runs of three letters
in the names of the newest version of each package, FTS5's trigram tokenizer or pg_trgm; where
PostgreSQL has no pg_trgm, names are looked at one by one, for as long as a query may take.

Spec: sqlite.org/fts5.html §4.3.4, §4.4.3; PostgreSQL 16 F.35.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog

from store.database import Database
from store.errors import RegistryError
from store.paging import like
from store.schema_followers import search_digests, search_documents
from store.search_query import WEIGHTS, Query, fts5, tsquery

MATCH_MAX = 10_000  # documents that one query looks at; more are said to be "at least" so many
REPOSITORIES_MAX = 20_000
ENOUGH = 100  # documents found by words, from which on nobody looks for parts of names
RUN = 3  # letters
RUNS_MAX = 32  # of one part that are looked up; the whole part is compared in any case
PARTIAL = 1.0  # rank of what only a part of its name finds: behind all others

d = search_documents.c
log = structlog.get_logger(__name__)
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
# Only which documents hold a run is kept, not where: a tenth of the size.
SQLITE_PARTS = """CREATE VIRTUAL TABLE search_parts USING fts5(
    names, content='search_documents', content_rowid='id', tokenize='trigram',
    detail=none, columnsize=0)"""
PARTS_ADD = "INSERT INTO search_parts(rowid, names) VALUES (new.id, new.names); END"
PARTS_DROP = """INSERT INTO search_parts(search_parts, rowid, names)
        VALUES ('delete', old.id, old.names); END"""
PARTS = {  # triggers
    "insert": f"AFTER INSERT ON search_documents WHEN new.latest BEGIN {PARTS_ADD}",
    "delete": f"AFTER DELETE ON search_documents WHEN old.latest BEGIN {PARTS_DROP}",
    "newer": f"""AFTER UPDATE OF latest ON search_documents
        WHEN new.latest AND NOT old.latest BEGIN {PARTS_ADD}""",
    "older": f"""AFTER UPDATE OF latest ON search_documents
        WHEN old.latest AND NOT new.latest BEGIN {PARTS_DROP}""",
}
# While the index is made of documents that an older program left: those up to ``last`` are not in
# it yet, so nothing that happens to them may be noted there.
PARTS_REST = "CREATE TABLE search_parts_rest (last INTEGER NOT NULL)"
PARTS_LAST = "SELECT last FROM search_parts_rest"
PARTS_RANGE = 2000  # documents of one transaction: others write there too
SQLITE_GONE = (
    *(f"DROP TRIGGER IF EXISTS search_text_{name}" for name in ("insert", "delete")),
    *(f"DROP TRIGGER IF EXISTS search_parts_{name}" for name in PARTS),
    "DROP TABLE IF EXISTS search_text",
    "DROP TABLE IF EXISTS search_parts",
    "DROP TABLE IF EXISTS search_parts_rest",
)
POSTGRESQL = (f"CREATE INDEX IF NOT EXISTS search_text ON search_documents USING gin (({VECTOR}))",)
POSTGRESQL_PARTS = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    """CREATE INDEX IF NOT EXISTS search_parts ON search_documents
        USING gin (names gin_trgm_ops) WHERE latest""",
)
POSTGRESQL_GONE = ("DROP INDEX IF EXISTS search_text", "DROP INDEX IF EXISTS search_parts")


class Match(NamedTuple):
    """One document that matches, before it is loaded."""

    id: int
    rank: float
    repository: str
    format: str
    license: str
    package: str
    updated: int


# --- making -------------------------------------------------------------------------------------
async def prepare(database: Database) -> bool:
    """Make the indices that are not there; whether documents lack parts of names still.

    On SQLite those come by and by (``fill_parts``).
    """
    if database.dialect == "sqlite":
        return await database.write(_prepare_sqlite)
    await database.write(lambda connection: _run(connection, POSTGRESQL))
    try:
        await database.write(lambda connection: _run(connection, POSTGRESQL_PARTS))
    except (sa.exc.DBAPIError, RegistryError) as error:  # the extension is not for us to make
        log.warning("search.no_trigrams", why=str(error).partition("\n")[0][:200])
    return False


def _prepare_sqlite(connection: sa.Connection) -> bool:
    _run(connection, SQLITE)
    if not sa.inspect(connection).has_table("search_parts"):
        last = connection.execute(sa.select(sa.func.max(d.id))).scalar()
        _run(connection, [SQLITE_PARTS])
        if last is not None:
            _run(connection, [PARTS_REST])
            connection.exec_driver_sql("INSERT INTO search_parts_rest VALUES (?)", (last,))
        _make_triggers(connection, rest=last is not None)
    return sa.inspect(connection).has_table("search_parts_rest")


def _make_triggers(connection: sa.Connection, *, rest: bool) -> None:
    for name, body in PARTS.items():
        row = "new" if PARTS_ADD in body else "old"
        told = body.replace("WHEN", f"WHEN {row}.id > ({PARTS_LAST}) AND") if rest else body
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS search_parts_{name}")
        connection.exec_driver_sql(f"CREATE TRIGGER search_parts_{name} {told}")


def fill_parts(connection: sa.Connection) -> bool:
    """A unit: index the next range of documents, from the newest down; False after the last."""
    last = connection.exec_driver_sql(PARTS_LAST).scalar() or 0
    part = sa.select(d.id).where(d.id <= last).order_by(d.id.desc()).limit(PARTS_RANGE)
    first = connection.execute(sa.select(sa.func.min(part.subquery().c.id))).scalar()
    if first is None:
        connection.exec_driver_sql("DROP TABLE search_parts_rest")
        _make_triggers(connection, rest=False)
        return False
    connection.exec_driver_sql(
        "INSERT INTO search_parts(rowid, names) SELECT id, names FROM search_documents"
        " WHERE latest AND id BETWEEN ? AND ?",
        (first, last),
    )
    connection.exec_driver_sql("UPDATE search_parts_rest SET last = ?", (first - 1,))
    return True


async def reset(database: Database) -> None:
    """Drop the indices and all documents."""
    lite = database.dialect == "sqlite"

    def unit(connection: sa.Connection) -> None:
        _run(connection, SQLITE_GONE if lite else POSTGRESQL_GONE)
        connection.execute(sa.delete(search_digests))
        connection.execute(sa.delete(search_documents))

    await database.write(unit)


def _run(connection: sa.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


# --- asking -------------------------------------------------------------------------------------
def matches(connection: sa.Connection, query: Query) -> list[Match]:
    """A unit: what matches; parts of names only where words find little.  In no order."""
    found = _by_words(connection, query)
    parts = query.parts
    if len(found) < ENOUGH and parts:
        known = {each.id for each in found}
        found += [each for each in _by_parts(connection, query, parts) if each.id not in known]
    return found


def _by_words(connection: sa.Connection, query: Query) -> list[Match]:
    lite = connection.dialect.name == "sqlite"
    rank: Any = sa.literal(0.0)
    table: Any = search_documents
    conditions = _filters(query)
    terms = query.bounded
    if terms and lite:
        table = _matching("search_text")
        conditions.append(sa.text("search_text MATCH :match").bindparams(match=fts5(terms)))
        rank = sa.literal_column("bm25(search_text, 10.0, 3.0, 1.0)")
    elif terms:
        asked = sa.func.to_tsquery(sa.text("'simple'::regconfig"), tsquery(terms))
        vector: sa.ColumnElement[Any] = sa.literal_column(f"({VECTOR})")
        conditions.append(vector.op("@@")(asked))
        rank = -sa.func.ts_rank(vector, asked)
    chosen = _selected(rank).select_from(table).where(*conditions)
    if not terms:
        chosen = chosen.order_by(d.updated.desc())
    return [Match(*row) for row in connection.execute(chosen.limit(MATCH_MAX))]


def _by_parts(connection: sa.Connection, query: Query, parts: Sequence[str]) -> list[Match]:
    table: Any = search_documents
    conditions = [*_filters(query), *(d.names.like(like(part), escape="\\") for part in parts)]
    if connection.dialect.name == "sqlite":
        table = _matching("search_parts")
        asked = " AND ".join(f'"{run}"' for part in parts for run in runs(part))
        conditions.append(sa.text("search_parts MATCH :match").bindparams(match=asked))
    chosen = _selected(sa.literal(PARTIAL)).select_from(table).where(*conditions)
    return [Match(*row) for row in connection.execute(chosen.limit(MATCH_MAX))]


def _matching(index: str) -> sa.FromClause:
    """Documents that an FTS5 index names.

    The plus keeps SQLite from going through the documents and asking the index about each, which
    it would where it overrates a filter: the whole match is made again for every document.
    """
    rowid: sa.ColumnElement[int] = sa.literal_column(f"+{index}.rowid")
    return sa.table(index).join(search_documents, d.id == rowid)


def runs(part: str) -> list[str]:
    """The runs of three letters in a part of a name, each once."""
    every = (part[at : at + RUN] for at in range(len(part) - RUN + 1))
    return list(dict.fromkeys(every))[:RUNS_MAX]


def _selected(rank: sa.ColumnElement[Any]) -> sa.Select[Any]:
    names = (d.repository, d.format, d.license, d.package, d.updated)
    return sa.select(d.id, rank.label("rank"), *names)


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
