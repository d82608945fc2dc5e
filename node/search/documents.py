"""From the catalog to what search keeps: one document a version, or a file that has none.

Descriptions are read where the format says they are, and only if their bytes are on this node:
search never fetches anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import sqlalchemy as sa

from formats.contract import Format
from formats.describing import CONTENT_MAX, Description
from node.blobs import Blobs
from node.search.words import joined, name_words, words
from store import catalog_rows
from store.catalog import Catalog
from store.digest import Digest
from store.errors import RegistryError
from store.rows import Artifact
from store.schema import files
from store.search import DIGESTS, Document, DocumentKey

FILES_MAX = 1000  # of one version that are looked at; names of more are not found
TAGS_MAX = 1000  # of one package that are looked at
PAGE = 200  # keys of a walk that are read at once


@dataclass(frozen=True, slots=True)
class Source:
    """Makes documents.  ``form`` gives the format key of a repository and its format."""

    catalog: Catalog
    blobs: Blobs
    form: Callable[[str], tuple[str, Format | None]]

    async def make(self, key: DocumentKey) -> Document | None:
        """The document of a key; None if nothing of it is visible."""
        found = await self._files(key)
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

    async def _files(self, key: DocumentKey) -> Sequence[Artifact]:
        if key.path:
            one = await self.catalog.find(key.repository, key.path)
            return [one] if one and (one.package, one.version) == key[1:3] else []
        query = sa.select(files).where(
            files.c.repository == key.repository,
            files.c.package == key.package,
            files.c.version == key.version,
        )

        def unit(connection: sa.Connection) -> list[Artifact]:
            return [
                catalog_rows.artifact(row) for row in connection.execute(query.limit(FILES_MAX))
            ]

        return sorted(await self.catalog.read(unit), key=attrgetter("path"))

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
    """Files after one, in the same package without versions."""
    query = sa.select(files.c.path).where(
        files.c.repository == last.repository,
        files.c.package == last.package,
        files.c.version == "",
        files.c.path > last.path,
    )
    rows = connection.execute(query.order_by(files.c.path).limit(PAGE))
    return [DocumentKey(last.repository, last.package, "", path) for (path,) in rows]
