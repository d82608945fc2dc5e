"""The catalog: what is in every repository, as folded from the ledger.  Reads only.

Point reads are index searches that run inline on SQLite (``hot``); whatever may be long is paged by
key, so that no page costs more for coming late and memory holds one page at a time.  Writes belong
to the ledger, which calls ``touched`` after each commit.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import sqlalchemy as sa

from store import catalog_rows, fold
from store.database import Database
from store.digest import Digest
from store.lookups import ROWS_MAX, Lookups, weight
from store.paging import Paged, like, prefix_end, storable
from store.records import USAGE
from store.revisions import Revisions
from store.rows import Artifact, FlagRow, PackageRow, Pointer, RepositoryStatistics, SettingRow
from store.schema import claims, files, flags, former, packages, pointers, records, settings, totals

T = TypeVar("T")

PAGE = 500  # rows read at once when something long is walked
HOT_MAX = 200  # rows that may be read inline, while everything else waits
UNLIMITED = 1 << 31  # rows
SEARCH_MAX = 1000  # results of one search

# Built once: SQLAlchemy then only looks up what it compiled.  No ORDER BY where that would lure
# SQLite into reading a whole repository by the index that happens to be in the right order.
REPOSITORY: sa.BindParameter[str] = sa.bindparam("repository")
PACKAGE: sa.BindParameter[str] = sa.bindparam("package")
LIMIT: sa.BindParameter[int] = sa.bindparam("limit")
FILE = sa.select(files).where(
    files.c.repository == REPOSITORY, files.c.path == sa.bindparam("path")
)
FILES = (
    sa.select(files)
    .where(files.c.repository == REPOSITORY, files.c.package == PACKAGE)
    .limit(LIMIT)
)
VERSION_FILES = FILES.where(files.c.version == sa.bindparam("version"))
DIGEST: sa.BindParameter[str] = sa.bindparam("digest")
BY_DIGEST = sa.select(files).where(files.c.digest == DIGEST).limit(LIMIT)
# The first condition repeats the partial index's own, or it would not be used.
BY_SHA512 = sa.select(files).where(files.c.sha512 != "", files.c.sha512 == DIGEST).limit(LIMIT)
WITHIN = {query: query.where(files.c.repository == REPOSITORY) for query in (BY_DIGEST, BY_SHA512)}
POINTERS = (
    sa.select(pointers)
    .where(pointers.c.repository == REPOSITORY, pointers.c.package == PACKAGE)
    .order_by(pointers.c.name)
    .limit(LIMIT)
)
POINTER = sa.select(pointers).where(
    pointers.c.repository == REPOSITORY,
    pointers.c.package == PACKAGE,
    pointers.c.name == sa.bindparam("name"),
)
FLAGS = (
    sa.select(flags)
    .where(flags.c.repository == REPOSITORY, flags.c.package == PACKAGE)
    .order_by(flags.c.version, flags.c.path, flags.c.name)
    .limit(LIMIT)
)
SETTINGS = sa.select(settings).where(settings.c.kind == sa.bindparam("kind"))
SETTING = SETTINGS.where(settings.c.key == sa.bindparam("key"))
TOTAL = sa.select(totals).where(totals.c.repository == REPOSITORY)
PACKAGE_ROW = sa.select(packages).where(
    packages.c.repository == REPOSITORY, packages.c.package == PACKAGE
)

FORMER = sa.select(former).where(former.c.repository == REPOSITORY, former.c.package == PACKAGE)
CLAIMED = sa.select(claims.c.cell).where(claims.c.cell == sa.bindparam("cell")).limit(1)


class Catalog:
    """Ask the facts database.  ``load`` it once before use; ``clock`` is seconds since 1970."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._revisions = Revisions(clock)
        # A shared database changes without telling us until the next ``load``.
        self.lookups = Lookups() if database.dialect == "sqlite" else None

    # --- revisions -------------------------------------------------------------------------------
    async def load(self) -> None:
        """Learn each repository's newest ledger time.  May be repeated, to see others' writes."""
        newest: dict[str, int] = {}
        scope: str | None = ""
        while scope is not None:
            scope, latest = await self._database.read(newest_after(scope))
            if scope is not None:
                newest[scope] = latest
        self._revisions.load(newest)

    def touched(self, changes: Iterable[tuple[str, str]], hlc: int, *, named: bool = False) -> None:
        """Note that (repository, package) pairs changed; package "" stands for all of them.

        ``named``: packages came or went.  Called after each commit with the newest ledger time in
        it, on the trio thread.
        """
        self._revisions.touched(changes, hlc, named=named)

    def revision(self, repository: str, package: str | None = None) -> int:
        """A number that grows with every change of the repository, or of one of its packages."""
        return self._revisions.revision(repository, package)

    def names_revision(self, repository: str) -> int:
        """A number that grows with every change of which packages a repository has."""
        return self._revisions.names(repository)

    def modified(self, repository: str) -> float:
        """Ledger time of the newest change, seconds since 1970; 0.0 if there never was one."""
        return self._revisions.modified(repository)

    # --- files -----------------------------------------------------------------------------------
    async def find(self, repository: str, path: str) -> Artifact | None:
        """The file at a coordinate, or None."""
        return await self._one(FILE, catalog_rows.artifact, repository=repository, path=path)

    async def artifacts(
        self, repository: str, package: str, version: str | None = None
    ) -> Sequence[Artifact]:
        """Files of a package, or of one version, in path order."""
        query, values = FILES, {"repository": repository, "package": package}
        if version is not None:
            query, values = VERSION_FILES, {**values, "version": version}
        found = await self._some(query, catalog_rows.artifact, **values)
        return sorted(found, key=attrgetter("path"))

    async def by_digest(self, repository: str | None, digest: Digest) -> Sequence[Artifact]:
        """Files with these bytes in one repository, or in all (None), in path order."""
        query, values = BY_DIGEST, {"digest": str(digest)}
        if digest.algorithm == "sha512":
            query, values = BY_SHA512, {"digest": digest.hex}
        if repository is not None:
            query = WITHIN[query]
            values["repository"] = repository
        found = await self._some(query, catalog_rows.artifact, **values)
        return sorted(found, key=attrgetter("repository", "path"))

    def all_artifacts(self, repository: str, prefix: str = "") -> AsyncIterator[Artifact]:
        """Every file whose path starts with ``prefix``, in path order."""

        async def load(last: Artifact | None) -> Sequence[Artifact]:
            after = last.path if last else ""
            return await self.files(repository, prefix=prefix, after=after, limit=PAGE)

        return Paged(load)

    async def files(
        self, repository: str, *, prefix: str = "", after: str = "", limit: int = PAGE
    ) -> Sequence[Artifact]:
        """A page of a repository's files, in path order."""
        query = sa.select(files).where(files.c.repository == repository)
        query = query.where(*between(files.c.path, prefix, after))
        query = query.order_by(files.c.path).limit(limit)
        return await self._page(query, catalog_rows.artifact, repository, prefix, after)

    # --- packages --------------------------------------------------------------------------------
    async def packages(
        self,
        repository: str,
        *,
        prefix: str = "",
        after: str = "",
        limit: int = 1000,
        holding: Sequence[str] = (),
    ) -> Sequence[str]:
        """A page of package names, in byte order.

        ``holding`` are texts that a name must hold, in any case; then every name is looked at.
        """
        if not storable(repository, prefix, after, *holding):
            return []
        query = sa.select(packages.c.package).where(packages.c.repository == repository)
        query = query.where(*between(packages.c.package, prefix, after))
        for text in holding:
            found = sa.func.lower(packages.c.package).like(like(text.lower()), escape="\\")
            query = query.where(found)
        query = query.order_by(packages.c.package).limit(limit)
        return await self._database.read(lambda c: c.execute(query).scalars().all())

    async def package_rows(
        self, repository: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[PackageRow]:
        """A page of packages with their sizes, in byte order."""
        query = sa.select(packages).where(packages.c.repository == repository)
        query = query.where(*between(packages.c.package, prefix, after))
        query = query.order_by(packages.c.package).limit(limit)
        return await self._page(query, catalog_rows.package, repository, prefix, after)

    async def package(self, repository: str, package: str) -> PackageRow | None:
        """How much a package holds, or None if it holds nothing."""
        return await self._one(
            PACKAGE_ROW, catalog_rows.package, repository=repository, package=package
        )

    async def former(self, repository: str, package: str) -> bool:
        """Whether a file of a package was ever deleted: its name was taken here, if it is not."""
        return await self._one(FORMER, tuple, repository=repository, package=package) is not None

    async def former_packages(
        self, repository: str, *, after: str = "", limit: int = 1000
    ) -> Sequence[str]:
        """A page of packages that files were deleted of, in byte order; some have others."""
        query = sa.select(former.c.package).where(former.c.repository == repository)
        query = query.where(*between(former.c.package, "", after))
        query = query.order_by(former.c.package).limit(limit)
        return await self._page(query, lambda row: str(row[0]), repository, after)

    async def deleted(self, repository: str, path: str) -> bool:
        """Whether a coordinate that has no file had one: its claims are never all forgotten."""
        if not storable(repository, path):
            return False
        cell = {"cell": fold.file_cell(repository, path)}
        query = CLAIMED
        found = await self._database.read(lambda c: c.execute(query, cell).first(), hot=True)
        return found is not None

    async def statistics(self, repository: str) -> RepositoryStatistics:
        """How much a repository holds, counted as it came."""
        found = await self._one(TOTAL, tuple, repository=repository)
        number, size = found[1:] if found else (0, 0)
        return RepositoryStatistics(number, size, self.modified(repository))

    async def search(
        self, text: str, *, repositories: Sequence[str] | None = None, limit: int = 100
    ) -> Sequence[PackageRow]:
        """Packages whose name, or a file's path, contains ``text`` in any case.

        Looks at every name: ``store.search`` is for large catalogs.
        """
        if not storable(text, *(repositories or ())):
            return []
        matching = sa.or_(
            sa.func.lower(packages.c.package).like(like(text.lower()), escape="\\"),
            sa.exists().where(
                files.c.repository == packages.c.repository,
                files.c.package == packages.c.package,
                sa.func.lower(files.c.path).like(like(text.lower()), escape="\\"),
            ),
        )
        query = sa.select(packages).where(matching)
        if repositories is not None:
            query = query.where(packages.c.repository.in_(repositories))
        query = query.order_by(packages.c.repository, packages.c.package)
        query = query.limit(min(limit, SEARCH_MAX))
        found = await self._database.read(lambda c: c.execute(query).all())
        return [catalog_rows.package(row) for row in found]

    # --- pointers, flags, settings ---------------------------------------------------------------
    async def pointer(self, repository: str, package: str, name: str) -> Pointer | None:
        """One pointer of a package, or None."""
        return await self._one(
            POINTER, catalog_rows.pointer, repository=repository, package=package, name=name
        )

    async def pointers(self, repository: str, package: str) -> Sequence[Pointer]:
        """Pointers of a package, in name order."""
        return await self._some(
            POINTERS, catalog_rows.pointer, repository=repository, package=package
        )

    async def pointer_names(
        self, repository: str, package: str, *, after: str = "", limit: int = 1000
    ) -> Sequence[str]:
        """A page of the names of a package's pointers, in byte order."""
        if not storable(repository, package, after):
            return []
        c = pointers.c
        query = sa.select(c.name).where(c.repository == repository, c.package == package)
        query = query.where(c.name > after).order_by(c.name).limit(limit)
        return await self._database.read(lambda found: found.execute(query).scalars().all())

    def all_pointers(self, repository: str, prefix: str = "") -> AsyncIterator[Pointer]:
        """Pointers of every package whose name starts with ``prefix``, in (package, name) order."""

        async def load(last: Pointer | None) -> Sequence[Pointer]:
            start, *end = between(pointers.c.package, prefix, "")
            if last:  # in place of the prefix: SQLite searches by the first lower bound it sees
                key = sa.tuple_(pointers.c.package, pointers.c.name)
                start = key > sa.tuple_(last.package, last.name)
            query = sa.select(pointers).where(pointers.c.repository == repository, start, *end)
            query = query.order_by(pointers.c.package, pointers.c.name).limit(PAGE)
            return await self._page(query, catalog_rows.pointer, repository, prefix)

        return Paged(load)

    async def flags(self, repository: str, package: str) -> Sequence[FlagRow]:
        """Marks on a package's versions and files."""
        return await self._some(FLAGS, catalog_rows.flag, repository=repository, package=package)

    async def settings(self, kind: str) -> Sequence[SettingRow]:
        """Every setting of a kind, in key order."""
        return await self._page(SETTINGS.order_by(settings.c.key), catalog_rows.setting, kind=kind)

    async def setting(self, kind: str, key: str) -> SettingRow | None:
        """One setting, or None."""
        return await self._one(SETTING, catalog_rows.setting, kind=kind, key=key)

    async def read(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit of one's own that only reads."""
        return await self._database.read(unit)

    # --- how -------------------------------------------------------------------------------------
    async def _one(
        self, query: sa.Select[Any], make: Callable[[sa.Row[Any]], T], **values: str
    ) -> T | None:
        """At most one row, by its key."""
        found = await self._known(query, make, values, 1)
        return found[0] if found else None

    async def _some(
        self, query: sa.Select[Any], make: Callable[[sa.Row[Any]], T], **values: str
    ) -> Sequence[T]:
        """Usually few rows: read inline, and again through the port if there are many."""
        return await self._known(query, make, values, HOT_MAX)

    async def _known(
        self,
        query: sa.Select[Any],
        make: Callable[[sa.Row[Any]], T],
        values: Mapping[str, str],
        hot_max: int,
    ) -> Sequence[T]:
        """The rows, from memory if their repository has not changed since they were read."""
        repository = values.get("repository")
        if self.lookups is None or repository is None:
            return [make(row) for row in await self._asked(query, values, hot_max)]
        texts = tuple(values.values())
        question, revision = (query, *texts), self._revisions.revision(repository)
        known = self.lookups.get(question, revision)
        if known is not None:
            return list[T](known[0])
        rows = await self._asked(query, values, hot_max)
        made = tuple(make(row) for row in rows)
        if len(rows) <= ROWS_MAX:
            self.lookups.keep(question, revision, made, weight(texts, rows))
        return list(made)

    async def _asked(
        self, query: sa.Select[Any], values: Mapping[str, str], hot_max: int
    ) -> list[sa.Row[Any]]:
        """Ask the database."""
        if not storable(*values.values()):
            return []
        few, many = {**values, "limit": hot_max + 1}, {**values, "limit": UNLIMITED}
        found = await self._database.read(lambda c: list(c.execute(query, few)), hot=True)
        if len(found) > hot_max:
            found = await self._database.read(lambda c: list(c.execute(query, many)))
        return found

    async def _page(
        self,
        query: sa.Select[Any],
        make: Callable[[sa.Row[Any]], T],
        *texts: str,
        **values: str,
    ) -> Sequence[T]:
        """Many rows.  ``texts`` are already part of the query."""
        if not storable(*texts, *values.values()):
            return []
        found = await self._database.read(lambda c: c.execute(query, values).all())
        return [make(row) for row in found]


def between(column: sa.Column[str], prefix: str, after: str) -> list[sa.ColumnElement[bool]]:
    """Conditions for what starts with ``prefix`` and lies after ``after``: one index range."""
    start = column > after if after >= prefix and after else column >= prefix
    end = prefix_end(prefix)
    return [start] if end is None else [start, column < end]


def newest_after(scope: str) -> Callable[[sa.Connection], tuple[str | None, int]]:
    """A unit that finds the next scope and the newest valid change of it: two index searches.

    That something was downloaded changes nothing that anybody serves.
    """

    def unit(connection: sa.Connection) -> tuple[str | None, int]:
        query = sa.select(sa.func.min(records.c.scope)).where(records.c.scope > scope)
        found: str | None = connection.execute(query).scalar()
        if found is None:
            return None, 0
        latest = sa.select(records.c.hlc).where(
            records.c.scope == found, records.c.status == "valid", records.c.kind != USAGE
        )
        newest = connection.execute(latest.order_by(records.c.hlc.desc()).limit(1)).scalar()
        return found, newest or 0

    return unit
