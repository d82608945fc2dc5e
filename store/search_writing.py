"""What the index keeps of a version, and writing it: units of work over ``search_documents``.

``put`` takes what has changed; ``fill`` a page of a rebuild, most of which may be there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import bulk
from store.paging import grouped
from store.schema_followers import search_digests, search_documents
from store.search_query import FILENAMES, NAMES, WORDS

d = search_documents.c
COLUMNS = [column.key for column in search_documents.columns if not column.primary_key]
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


# What a rebuild compares; the rest is the index's own.
SAME = [name for name in COLUMNS if name not in {"latest", "turn", "stamp"}]
ASKED = (d.id, d.turn, d.latest, *(search_documents.c[name] for name in SAME))


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


TOLD = [name for name in COLUMNS if name in Document.__slots__]


# --- what has changed ---------------------------------------------------------------------------
def put(
    connection: sa.Connection,
    documents: Sequence[Document],
    gone: Sequence[DocumentKey],
    *,
    turn: int,
    keep_gone: bool,
) -> None:
    """Replace documents, a few statements for all of them."""
    stamp = _last_stamp(connection)
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
    _insert(connection, rows)
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
        **{name: getattr(document, name) for name in TOLD},
        **key._asdict(),
        "latest": not key.version or bool(key.path),
        "gone": False,
    }


def _last_stamp(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.max(d.stamp))).scalar() or 0


def _insert(connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    plain = [tuple([row[name] for name in COLUMNS]) for row in rows]
    bulk.insert_numbered(connection, search_documents, plain)


def _drop(connection: sa.Connection, keys: Iterable[DocumentKey]) -> set[DocumentKey]:
    """Drop documents; return the keys of those that were there, marks not counted."""
    found = list(_stored(connection, dict.fromkeys(keys)))
    _drop_numbers(connection, (number for number, _, _ in found))
    return {key for _, gone, key in found if not gone}


def _drop_numbers(connection: sa.Connection, found: Iterable[int]) -> None:
    for numbers in bulk.chunks(found):
        old = sa.delete(search_digests).where(search_digests.c.document.in_(numbers))
        connection.execute(old)
        connection.execute(sa.delete(search_documents).where(d.id.in_(numbers)))


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


# --- a page of a rebuild ------------------------------------------------------------------------
class Stored(NamedTuple):
    """A document as the index has it: ``values`` are those of SAME."""

    number: int
    turn: int
    latest: bool
    values: tuple[Any, ...]

    def says(self, row: Mapping[str, Any]) -> bool:
        """Whether it is as it should be."""
        return self.values == tuple([row[name] for name in SAME])


@dataclass(slots=True)
class Changes:
    """What a page of a rebuild changes; ``stamp`` is the last one used.

    What is there as it should be is left as it is, but for the mark of this rebuild.
    """

    turn: int
    stamp: int
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    documents: list[Document] = field(default_factory=list[Document])  # of those rows
    replaced: list[int] = field(default_factory=list[int])
    marked: list[int] = field(default_factory=list[int])
    choose: dict[tuple[str, str], None] = field(default_factory=dict[tuple[str, str], None])

    def keep(self, old: Stored) -> None:
        """Leave a document as it is."""
        if old.turn != self.turn:
            self.marked.append(old.number)

    def put(self, document: Document, row: Mapping[str, Any], old: Stored | None) -> None:
        """Write a document, in place of another."""
        self.stamp += 1
        self.rows.append({**row, "turn": self.turn, "stamp": self.stamp})
        self.documents.append(document)
        self.replaced += [old.number] if old is not None else []

    def write(self, connection: sa.Connection) -> None:
        """Make the changes, a few statements for all of them."""
        _drop_numbers(connection, self.replaced)
        _insert(connection, self.rows)
        _put_digests(connection, self.documents)
        for numbers in bulk.chunks(self.marked):
            mine = sa.update(search_documents).where(d.id.in_(numbers))
            connection.execute(mine.values(turn=self.turn))
        for repository, package in self.choose:
            self.stamp = _choose_latest(connection, repository, package, self.stamp)


def fill(connection: sa.Connection, documents: Sequence[Document], turn: int) -> None:
    """Write a page of the catalog's walk: whole packages, or a part of a single one.

    The newest version of a whole package is known here; it is looked for only where the index
    says otherwise.
    """
    if not documents:
        return
    places = frozenset(document.key[:2] for document in documents)
    whole = len(places) > 1
    known = _known(connection, documents, places if whole else frozenset())
    digests = _known_digests(connection, known.values())
    newest = _newest(documents) if whole else {}
    changes = Changes(turn, _last_stamp(connection))
    for document in documents:
        key, place, row = document.key, document.key[:2], _values(document)
        row["latest"] = row["latest"] or newest.get(place) == key
        old = known.pop(key, None)
        told = set(document.digests)
        if old is not None and old.says(row) and digests.get(old.number, set()) == told:
            changes.keep(old)
            unsure = whole and bool(old.latest) != row["latest"]
        else:
            changes.put(document, row, old)
            unsure = not (whole or key.path)
        if unsure:
            changes.choose[place] = None
    changes.choose |= {key[:2]: None for key in known if not key.path}
    changes.write(connection)


def _known(
    connection: sa.Connection, documents: Sequence[Document], places: frozenset[tuple[str, str]]
) -> dict[DocumentKey, Stored]:
    """What the index has of whole packages; without those, of these documents of a single one."""
    query = sa.select(*ASKED)
    asked: list[sa.Select[Any]] = []
    if places:
        place = sa.tuple_(d.repository, d.package)
        first, last = (sa.tuple_(*each.key[:2]) for each in (documents[0], documents[-1]))
        asked = [query.where(place >= first, place <= last)]
    else:
        for paths in (False, True):
            column = d.path if paths else d.version
            found = [each.key for each in documents if bool(each.key.path) == paths]
            lasts = [key.path if paths else key.version for key in found]
            key = documents[0].key
            mine = query.where(d.repository == key.repository, d.package == key.package)
            equal = (d.version if paths else d.path) == ""
            asked += [mine.where(equal, column.in_(part)) for part in bulk.chunks(lasts)]
    known: dict[DocumentKey, Stored] = {}
    for each in asked:
        for number, turn, latest, *values in connection.execute(each):
            told = dict(zip(SAME, values, strict=True))
            key = DocumentKey(*(told[name] for name in DocumentKey._fields))
            if not places or key[:2] in places:  # others are to be dropped: any number of them
                known[key] = Stored(number, turn, latest, tuple(values))
    return known


def _known_digests(
    connection: sa.Connection, stored: Iterable[Stored]
) -> dict[int, set[tuple[str, str]]]:
    found: dict[int, set[tuple[str, str]]] = {}
    c = search_digests.c
    for numbers in bulk.chunks(each.number for each in stored):
        query = sa.select(c.document, c.digest, c.path).where(c.document.in_(numbers))
        for number, digest, path in connection.execute(query):
            found.setdefault(number, set()).add((digest, path))
    return found


def _newest(documents: Iterable[Document]) -> dict[tuple[str, str], DocumentKey]:
    """The version of each package that was changed last, as NEWEST finds it."""
    found: dict[tuple[str, str], Document] = {}
    for each in documents:
        if each.key.path:
            continue
        old = found.get(each.key[:2])
        if old is None or (old.updated, old.key.version) < (each.updated, each.key.version):
            found[each.key[:2]] = each
    return {place: each.key for place, each in found.items()}
