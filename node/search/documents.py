"""From the catalog to what search keeps: one document a version, or a file that has none.

Descriptions are read where the format says they are, and only if their bytes are on this node:
search never fetches anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
import trio

from formats.contract import Format
from formats.describing import CONTENT_MAX, Describe, Description
from node.blobs import Blobs
from node.search.words import joined, name_words, words
from store import catalog_rows
from store.catalog import Catalog
from store.digest import Digest
from store.errors import RegistryError
from store.files import FileStore
from store.paging import grouped
from store.rows import Artifact
from store.schema import files, pointers
from store.search import DIGESTS
from store.search_writing import Document, DocumentKey

FILES_MAX = 1000  # of one version that are looked at; names of more are not found
TAGS_MAX = 1000  # of one package that are looked at
PAGE = 1000  # files of a walk that are read at once
# Built once: SQLAlchemy then only looks up what it compiled.
HERE = files.c.repository == sa.bindparam("repository")
MINE = files.c.package == sa.bindparam("package")
LASTS: sa.BindParameter[list[str]] = sa.bindparam("lasts", expanding=True)
BY_PATHS = sa.select(files).where(HERE, files.c.path.in_(LASTS))
BY_VERSIONS = sa.select(files).where(HERE, MINE, files.c.version.in_(LASTS)).limit(FILES_MAX + 1)
UNVERSIONED = (
    sa.select(files)
    .where(HERE, MINE, files.c.version == "")
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


class Page(NamedTuple):
    """A page of documents, and where the next one begins."""

    documents: Sequence[Document]
    last: DocumentKey


class Walked(NamedTuple):
    """What a page of documents is made of: the files of each, and pointers by package."""

    groups: Sequence[tuple[DocumentKey, Sequence[Artifact]]]
    pointers: Mapping[tuple[str, str], Sequence[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class Source:
    """Makes documents.  ``form`` gives the format key of a repository and its format."""

    catalog: Catalog
    blobs: Blobs
    form: Callable[[str], tuple[str, Format | None]]

    async def make(self, key: DocumentKey) -> Document | None:
        """The document of a key; None if nothing of it is visible."""
        (made,) = await self.make_all([key])
        return made

    async def make_all(self, keys: Sequence[DocumentKey]) -> list[Document | None]:
        """The documents of keys, in that order; their files are read together."""
        found = await self.catalog.read(partial(_files, keys=keys))
        return [await self._make(key, found.get(key, ())) for key in keys]

    async def _make(self, key: DocumentKey, found: Sequence[Artifact]) -> Document | None:
        if not found:
            return None
        name, form = self.form(key.repository)
        described = await self._description(form, found) if form else Description()
        tags = await self._tags(key) if key.version else []
        return document(key, found, name, described, tags)

    async def _tags(self, key: DocumentKey) -> list[str]:
        """Pointers of the package that name this version."""
        found = await self.catalog.pointers(key.repository, key.package)
        told = [(each.name, each.value) for each in found[:TAGS_MAX]]
        return _naming(told, key.version)

    async def _description(self, form: Format, found: Sequence[Artifact]) -> Description:
        describe = form.describe
        if describe is None:
            return Description()
        for each in _telling(describe, found):
            told = describe.describe(await self._data(each, content=describe.content))
            if told != Description():
                return told
        return Description()

    async def _data(self, artifact: Artifact, *, content: bool) -> bytes:
        """The bytes to read, b"" if they are not here."""
        digest: Digest | None = artifact.digest if content else artifact.metadata_digest
        if digest is None:
            return artifact.metadata
        try:
            if not await self.blobs.store.has(digest):
                return b""
            return await self.blobs.load(digest, limit=CONTENT_MAX)
        except RegistryError:  # too large, or collected just now
            return b""

    async def page(self, last: DocumentKey | None) -> Page | None:
        """The documents that follow a key, in order: a page of a walk over everything there is.

        Whole packages, or a part of a single one.  None at the end.
        """
        walked = await self.catalog.read(lambda connection: _walk(connection, last))
        if not walked.groups:
            return None
        forms = {key.repository: self.form(key.repository) for key, _ in walked.groups}
        described: dict[DocumentKey, Description] = {}
        if not isinstance(self.blobs.store, FileStore):
            for key, found in walked.groups:
                form = forms[key.repository][1]
                described[key] = await self._description(form, found) if form else Description()
        made = await trio.to_thread.run_sync(self._made, walked, forms, described)
        return Page(made, walked.groups[-1][0])

    def _made(
        self,
        walked: Walked,
        forms: Mapping[str, tuple[str, Format | None]],
        described: Mapping[DocumentKey, Description],
    ) -> list[Document]:
        """Make a page's documents, reading blobs that are files: on a thread, all in one go."""
        made = []
        for key, found in walked.groups:
            name, form = forms[key.repository]
            told = described.get(key)
            if told is None:
                told = self._read_description(form, found) if form else Description()
            tags = _naming(walked.pointers.get(key[:2], ()), key.version)
            made.append(document(key, found, name, told, tags))
        return made

    def _read_description(self, form: Format, found: Sequence[Artifact]) -> Description:
        describe = form.describe
        if describe is None:
            return Description()
        for each in _telling(describe, found):
            told = describe.describe(self._read_data(each, content=describe.content))
            if told != Description():
                return told
        return Description()

    def _read_data(self, artifact: Artifact, *, content: bool) -> bytes:
        """As ``_data``, of a file, on a thread."""
        digest = artifact.digest if content else artifact.metadata_digest
        if digest is None:
            return artifact.metadata
        number = self.blobs.descriptor(digest)
        if number is None:
            return b""
        with os.fdopen(number, "rb") as file:
            data = file.read(CONTENT_MAX + 1)
        return data if len(data) <= CONTENT_MAX else b""


def document(
    key: DocumentKey,
    found: Sequence[Artifact],
    form: str,
    described: Description,
    tags: Sequence[str],
) -> Document:
    """The document of a key's files, in path order.  Pure."""
    digests = [
        (f"{algorithm}:{value}", each.path)
        for each in found
        for algorithm, value in each.checksums.items()
        if algorithm in DIGESTS
    ]
    shown = key.path.rpartition("/")[2] if key.path else key.package
    text = [
        *words(described.summary),
        *words(" ".join(described.keywords)),
        *words(key.version),
    ]
    return Document(
        key=key,
        format=form,
        description=described.summary,
        keywords=" ".join(described.keywords),
        license=described.license,
        tags=" ".join(tags),
        files=len(found),
        size=sum(each.size for each in found),
        updated=max(round(each.published * 1000) for each in found),
        names=shown_words(shown, key.package),
        words=joined([*text, *words(described.license), *words(" ".join(tags))]),
        filenames=joined(word for each in found for word in name_words(each.path)),
        digests=tuple(digests),
    )


@lru_cache(maxsize=256)  # the versions of a package follow each other
def shown_words(shown: str, package: str) -> str:
    """The words of a document's names."""
    return joined([*name_words(shown), *name_words(package)])


def _files(
    connection: sa.Connection, keys: Sequence[DocumentKey]
) -> dict[DocumentKey, list[Artifact]]:
    """A unit: the files of keys in path order, FILES_MAX of each; one query a package."""
    wanted = set(keys)
    found: dict[DocumentKey, list[Artifact]] = {}
    for leading, paths in grouped([(k.repository, k.path) for k in keys if k.path]).items():
        for row in connection.execute(BY_PATHS, {"repository": leading[0], "lasts": paths}):
            each = catalog_rows.artifact(row)
            key = DocumentKey(each.repository, each.package, each.version, each.path)
            if key in wanted:
                found[key] = [each]
    for (repository, package), versions in grouped([k[:3] for k in keys if not k.path]).items():
        place = {"repository": repository, "package": package}
        for row in _bounded(connection, place, versions):
            each = catalog_rows.artifact(row)
            key = DocumentKey(each.repository, each.package, each.version)
            found.setdefault(key, []).append(each)
    return {key: sorted(held, key=attrgetter("path")) for key, held in found.items()}


def _bounded(
    connection: sa.Connection, place: Mapping[str, object], versions: Sequence[object]
) -> Sequence[sa.Row[Any]]:
    """Files of some versions of a package, FILES_MAX of each."""
    rows = connection.execute(BY_VERSIONS, {**place, "lasts": versions}).all()
    if len(rows) <= FILES_MAX:
        return rows
    return [
        row
        for version in dict.fromkeys(versions)
        for row in connection.execute(BY_VERSIONS, {**place, "lasts": [version]}).all()[:FILES_MAX]
    ]


# --- the walk over everything -------------------------------------------------------------------
def _walk(connection: sa.Connection, last: DocumentKey | None) -> Walked:
    """A unit: what follows a key: whole packages, or a part of one that is more than a page."""
    if last is not None and not last.version:
        rest = _unversioned(connection, last)
        if rest:
            return _walked(connection, rest)
    c = files.c
    query = sa.select(files)
    if last is not None:
        key = sa.tuple_(c.repository, c.package, c.version)
        query = query.where(key > sa.tuple_(*last[:3]))
    query = query.order_by(c.repository, c.package, c.version).limit(PAGE)
    rows = [catalog_rows.artifact(row) for row in connection.execute(query)]
    if len(rows) >= PAGE:
        rows = _whole(connection, rows)
    if last is not None and rows and _place(rows[0]) == last[:2]:  # the rest of a large package
        rows = [each for each in rows if _place(each) == last[:2]]
    return _walked(connection, rows)


def _place(artifact: Artifact) -> tuple[str, str]:
    return artifact.repository, artifact.package


def _whole(connection: sa.Connection, rows: Sequence[Artifact]) -> list[Artifact]:
    """Leave out what the end of the page has cut, unless that is all there is."""
    first, end = rows[0], rows[-1]
    whole = [each for each in rows if _place(each) != _place(end)]
    if whole:
        return whole
    if not first.version:
        return _unversioned(connection, DocumentKey(first.repository, first.package, ""))
    versions = [each for each in rows if each.version != end.version]
    if versions:
        return versions
    place = {"repository": end.repository, "package": end.package}
    found = connection.execute(BY_VERSIONS, {**place, "lasts": [end.version]})
    return [catalog_rows.artifact(row) for row in found][:FILES_MAX]


def _walked(connection: sa.Connection, rows: Sequence[Artifact]) -> Walked:
    """Files by document, in order, and what points into their packages."""
    groups: dict[DocumentKey, list[Artifact]] = {}
    for each in rows:
        path = "" if each.version else each.path
        key = DocumentKey(each.repository, each.package, each.version, path)
        groups.setdefault(key, []).append(each)
    ordered = sorted(groups.items(), key=lambda group: [part.encode() for part in group[0]])
    held = [(key, sorted(found, key=attrgetter("path"))[:FILES_MAX]) for key, found in ordered]
    return Walked(held, _pointers(connection, held))


def _pointers(
    connection: sa.Connection, groups: Sequence[tuple[DocumentKey, Sequence[Artifact]]]
) -> dict[tuple[str, str], list[tuple[str, bytes]]]:
    """Names and values of what points into the packages of a page, TAGS_MAX of each."""
    found: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
    if not any(key.version for key, _ in groups):
        return found
    c, first, last = pointers.c, groups[0][0][:2], groups[-1][0][:2]
    place = sa.tuple_(c.repository, c.package)
    query = sa.select(c.repository, c.package, c.name, c.value)
    query = query.where(place >= sa.tuple_(*first), place <= sa.tuple_(*last))
    query = query.order_by(c.repository, c.package, c.name)
    if first == last:
        query = query.limit(TAGS_MAX)
    for repository, package, name, value in connection.execute(query):
        told = found.setdefault((repository, package), [])
        if len(told) < TAGS_MAX:
            told.append((name, value))
    return found


def _naming(found: Iterable[tuple[str, bytes]], version: str) -> list[str]:
    """The names of those that point to a version."""
    value = version.encode()
    return [name for name, each in found if version and each == value and " " not in name]


def _telling(describe: Describe, found: Sequence[Artifact]) -> list[Artifact]:
    """The files that may tell what a version is, the best first."""
    return [each for role in describe.roles for each in found if each.role == role]


def _unversioned(connection: sa.Connection, last: DocumentKey) -> list[Artifact]:
    """Files after one, in the same package without versions.

    Without an order the package's index finds the few that most have; asked for in order, SQLite
    would read a whole repository by paths, for each of its packages.
    """
    place = {"repository": last.repository, "package": last.package}
    rows = connection.execute(UNVERSIONED, {**place, "limit": PAGE + 1}).all()
    found = [catalog_rows.artifact(row) for row in rows]
    if len(found) <= PAGE:
        return [each for each in found if each.path > last.path]
    query = UNVERSIONED.where(files.c.path > last.path).order_by(files.c.path)
    rows = connection.execute(query, {**place, "limit": PAGE}).all()
    return [catalog_rows.artifact(row) for row in rows]
