"""What concurrent writes left to be decided: rival bytes, tags with siblings, pending files.

Reads only.  An operator decides with a ``Resolve`` fact (docs/ledger.md, section 5); every page is
read by a partial index, so that looking costs nothing where there is no conflict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from store import catalog_rows, fold, hlc
from store.database import Database
from store.digest import Digest
from store.facts import Delete, Publish, Restore
from store.fold import Claim
from store.paging import storable
from store.projection import load_claims
from store.rows import Artifact, Pointer
from store.schema import burnt, files, has_siblings, is_pending, pointers


@dataclass(frozen=True, slots=True)
class Rival:
    """One of the contents that were published at a coordinate."""

    digest: Digest
    size: int
    manifest_id: bytes
    author: str  # node id
    record: bytes
    published: float  # ledger time, seconds since 1970
    deleted: bool  # hidden by a tombstone; listed because the coordinate is burnt to it


@dataclass(frozen=True, slots=True)
class Disputed:
    """A coordinate, the artifact that clients get there now, and all that was published at it."""

    winner: Artifact
    rivals: Sequence[Rival]


@dataclass(frozen=True, slots=True)
class Count:
    """How much of a repository waits for a decision."""

    repository: str
    files: int = 0
    pointers: int = 0
    pending: int = 0


class Conflicts:
    """Ask the facts database what is disputed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self) -> Sequence[Count]:
        """Every repository in which something is disputed or pending, in key order."""

        def unit(connection: sa.Connection) -> list[Count]:
            found: dict[str, dict[str, int]] = {}
            for name, column, condition in (
                ("files", files.c.repository, files.c.conflicted),
                ("pointers", pointers.c.repository, has_siblings),
                ("pending", files.c.repository, is_pending),
            ):
                query = sa.select(column, sa.func.count()).where(condition).group_by(column)
                for key, number in connection.execute(query):
                    found.setdefault(key, {})[name] = number
            return [Count(key, **found[key]) for key in sorted(found)]

        return await self._database.read(unit)

    async def files(
        self, repository: str, *, after: str = "", limit: int = 100
    ) -> Sequence[Disputed]:
        """A page of the coordinates with rival bytes, in path order."""
        if not storable(repository, after):
            return []
        query = sa.select(files).where(
            files.c.conflicted, files.c.repository == repository, files.c.path > after
        )
        query = query.order_by(files.c.path).limit(limit)

        def unit(connection: sa.Connection) -> list[Disputed]:
            artifacts = [catalog_rows.artifact(row) for row in connection.execute(query).all()]
            cells = {each.path: fold.file_cell(repository, each.path) for each in artifacts}
            about = load_claims(connection, cells.values())
            return [Disputed(each, rivals(about.get(cells[each.path], ()))) for each in artifacts]

        return await self._database.read(unit)

    async def pointers(
        self, repository: str, *, after: tuple[str, str] = ("", ""), limit: int = 100
    ) -> Sequence[Pointer]:
        """A page of the tags that were moved concurrently, in (package, name) order."""
        if not storable(repository, *after):
            return []
        key = sa.tuple_(pointers.c.package, pointers.c.name)
        query = sa.select(pointers).where(
            has_siblings,
            pointers.c.repository == repository,
            key > sa.tuple_(*after),
        )
        query = query.order_by(pointers.c.package, pointers.c.name).limit(limit)
        found = await self._database.read(lambda c: c.execute(query).all())
        return [catalog_rows.pointer(row) for row in found]

    async def pending(
        self, repository: str, *, after: str = "", limit: int = 100
    ) -> Sequence[Artifact]:
        """A page of what was published away from the repository's home and waits for its word."""
        if not storable(repository, after):
            return []
        query = sa.select(files).where(
            is_pending, files.c.repository == repository, files.c.path > after
        )
        query = query.order_by(files.c.path).limit(limit)
        found = await self._database.read(lambda c: c.execute(query).all())
        return [catalog_rows.artifact(row) for row in found]

    async def deleted(self, repository: str, path: str) -> int | None:
        """Ledger time of the tombstone on a coordinate where nothing is visible, or None."""
        if not storable(repository, path):
            return None
        here = burnt.c.repository == repository, burnt.c.path == path
        there = files.c.repository == repository, files.c.path == path
        query = sa.select(burnt.c.hlc).where(*here, ~sa.exists().where(*there))
        return await self._database.read(lambda c: c.execute(query).scalar(), hot=True)

    async def rivals(self, repository: str, path: str) -> Sequence[Rival]:
        """All that was published at a coordinate, disputed or not, the first one first."""
        if not storable(repository, path):
            return []
        cell = fold.file_cell(repository, path)
        return await self._database.read(
            lambda c: rivals(load_claims(c, [cell]).get(cell, ())), hot=True
        )


def rivals(about: Sequence[Claim]) -> list[Rival]:
    """The distinct contents among the immutable publishes of a cell, each with its first record."""
    restored = {id_ for c in about if isinstance(c.fact, Restore) for id_ in c.fact.seen}
    hidden = {
        id_
        for c in about
        if isinstance(c.fact, Delete) and c.record not in restored
        for id_ in c.fact.seen
    }
    found: dict[str, Rival] = {}
    for claim in sorted(about, key=lambda c: (c.hlc, c.record)):
        if not isinstance(claim.fact, Publish) or claim.fact.mutable:
            continue
        file, deleted = fold.file_of(claim), claim.record in hidden
        known = found.get(file.digest)
        if known is None or (known.deleted and not deleted):
            found[file.digest] = Rival(
                Digest.parse(file.digest),
                file.size,
                file.manifest_id,
                claim.author,
                claim.record,
                hlc.seconds(claim.hlc),
                deleted,
            )
    return list(found.values())
