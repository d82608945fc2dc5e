"""What each database makes beside ``search_documents`` to find words, and parts of names, in it.

Words: SQLite's FTS5, PostgreSQL's full text.  Parts of names: an index of all runs of three letters
in the names of the newest version of each package, FTS5's trigram tokenizer or pg_trgm; where
PostgreSQL has no pg_trgm, names are looked at one by one, for as long as a query may take.

Spec: sqlite.org/fts5.html §4.3.4, §4.4.3; PostgreSQL 16 F.35.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
import structlog

from store.database import Database
from store.errors import RegistryError
from store.schema_followers import search_digests, search_documents
from store.search_query import WEIGHTS

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
# A view of the words in it, in their order: it tells how often they are there.
SQLITE_WORDS = """CREATE VIRTUAL TABLE IF NOT EXISTS search_words
    USING fts5vocab(search_text, 'instance')"""
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
    "DROP TABLE IF EXISTS search_words",
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
    _run(connection, (*SQLITE, SQLITE_WORDS))
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
