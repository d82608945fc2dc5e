"""From the catalog to what search keeps: one document a version, or a file that has none.

Descriptions are read where the format says they are, and only if their bytes are on this node:
search never fetches anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from formats.contract import Format
from formats.describing import CONTENT_MAX, Description
from node.blobs import Blobs
from node.search.words import joined, name_words, words
from store import catalog_rows
from store.catalog import Catalog
from store.digest import Digest
from store.errors import RegistryError
from store.paging import grouped
from store.rows import Artifact
from store.schema import files
from store.search import DIGESTS, Document, DocumentKey

FILES_MAX = 1000  # of one version that are looked at; names of more are not found
TAGS_MAX = 1000  # of one package that are looked at
PAGE = 200  # keys of a walk that are read at once
# Built once: SQLAlchemy then only looks up what it compiled.
HERE = files.c.repository == sa.bindparam("repository")
MINE = files.c.package == sa.bindparam("package")
LASTS: sa.BindParameter[list[str]] = sa.bindparam("lasts", expanding=True)
BY_PATHS = sa.select(files).where(HERE, files.c.path.in_(LASTS))
BY_VERSIONS = sa.select(files).where(HERE, MINE, files.c.version.in_(LASTS)).limit(FILES_MAX + 1)
UNVERSIONED = (
    sa.select(files.c.path)
    .where(HERE, MINE, files.c.version == "")
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


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
            format=name,
            description=described.summary,
            keywords=" ".join(described.keywords),
            license=described.license,
            tags=" ".join(tags),
            files=len(found),
            size=sum(each.size for each in found),
            updated=max(round(each.published * 1000) for each in found),
            names=joined([*name_words(shown), *name_words(key.package)]),
            words=joined([*text, *words(described.license), *words(" ".join(tags))]),
            filenames=joined(word for each in found for word in name_words(each.path)),
            digests=tuple(digests),
        )

    async def _tags(self, key: DocumentKey) -> list[str]:
        """Pointers of the package that name this version."""
        value = key.version.encode()
        found = await self.catalog.pointers(key.repository, key.package)
        return [
            each.name for each in found[:TAGS_MAX] if each.value == value and " " not in each.name
        ]

    async def _description(self, form: Format, found: Sequence[Artifact]) -> Description:
        describe = form.describe
        if describe is None:
            return Description()
        for role in describe.roles:
            for each in found:
                if each.role != role:
                    continue
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

    async def after(self, last: DocumentKey | None) -> list[DocumentKey]:
        """The keys that follow one, in order: a page of a walk over everything there is."""
        return await self.catalog.read(lambda connection: _page(connection, last))


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


def _page(connection: sa.Connection, last: DocumentKey | None) -> list[DocumentKey]:
    """Versions by their index; below a package without versions, its files one by one."""
    c = files.c
    key = sa.tuple_(c.repository, c.package, c.version)
    found: list[DocumentKey] = []
    query = sa.select(c.repository, c.package, c.version).distinct()
    if last is not None:
        if not last.version:
            found = _unversioned(connection, last)
            if len(found) >= PAGE:
                return found
        query = query.where(key > sa.tuple_(last.repository, last.package, last.version))
    query = query.order_by(c.repository, c.package, c.version).limit(PAGE)
    for row in connection.execute(query).all():
        each = DocumentKey(*row)
        if each.version:
            found.append(each)
            continue
        found += _unversioned(connection, each)
        if found and not found[-1].version and len(found) >= PAGE:
            break  # the next page goes on with the rest of this package
    return found


def _unversioned(connection: sa.Connection, last: DocumentKey) -> list[DocumentKey]:
    """Files after one, in the same package without versions.

    Without an order the package's index finds the few that most have; asked for in order, SQLite
    would read a whole repository by paths, for each of its packages.
    """
    place = {"repository": last.repository, "package": last.package}
    paths = connection.execute(UNVERSIONED, {**place, "limit": PAGE + 1}).scalars().all()
    if len(paths) <= PAGE:
        paths = sorted((each for each in paths if each > last.path), key=str.encode)
    else:
        query = UNVERSIONED.where(files.c.path > last.path).order_by(files.c.path)
        paths = connection.execute(query, {**place, "limit": PAGE}).scalars().all()
    return [DocumentKey(last.repository, last.package, "", path) for path in paths]
