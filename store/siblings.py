"""Which older blobs a blob is likely to resemble: the same file of earlier versions.

Of one repository, package and role; the name differs only in its numbers, and what is published
last before it comes first.  Where the name is the digest itself, as in an image, size decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from store.digest import Digest
from store.schema import files

T = TypeVar("T")
USES_MAX = 8  # places that name a blob and are looked at
ROWS_MAX = 400  # files of a package looked at, the last ones
RATIO = 2.0  # between the sizes of two blobs that may be versions of one thing, at most
NUMBERS = re.compile(r"\d+")


class Port(Protocol):
    """What this needs of ``store.database.Database``."""

    async def read(self, unit: Callable[[sa.Connection], T]) -> T: ...


class Named(NamedTuple):
    """A file, as far as it matters here.  ``hlc`` is when it was published."""

    path: str
    digest: str
    size: int
    hlc: int


class Siblings:
    """Ask the facts database."""

    def __init__(self, database: Port) -> None:
        self._database = database

    async def of(self, blob: Digest) -> list[Digest]:
        """Return blobs that this one may be a new version of, the most likely first."""
        groups = await self._database.read(partial(_groups, digest=str(blob)))
        found: dict[str, None] = {}
        for own, others in groups:
            found |= dict.fromkeys(ranked(own, others))
        return [Digest.parse(each) for each in found if each.startswith("sha256:")]

    async def family(self, blob: Digest) -> str:
        """Name what a blob is a version of: the same for all that ``of`` may return; "" if none."""
        table = files.c
        query = sa.select(table.repository, table.package, table.role, table.path, table.digest)
        query = query.where(table.digest == str(blob)).order_by(table.repository, table.path)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        if row is None:
            return ""
        name = skeleton(Named(row.path, row.digest, 0, 0))
        return f"{row.repository}\n{row.package}\n{row.role}\n{name}"

    async def at(self, repository: str, path: str) -> Digest | None:
        """Return the blob that a file has."""
        query = sa.select(files.c.digest).where(
            files.c.repository == repository, files.c.path == path
        )
        found = await self._database.read(lambda connection: connection.scalar(query))
        return Digest.parse(found) if found and found.startswith("sha256:") else None


def ranked(own: Named, others: Iterable[Named]) -> list[str]:
    """Return the digests of what may be earlier versions of a file, the most likely first."""
    name = skeleton(own)
    older = [
        each
        for each in others
        if each.digest != own.digest
        and each.hlc <= own.hlc
        and skeleton(each) == name
        and 1 / RATIO <= each.size / own.size <= RATIO
    ]
    if name:
        older.sort(key=lambda each: -each.hlc)
    else:
        older.sort(key=lambda each: (abs(each.size - own.size), -each.hlc))
    return [each.digest for each in older]


def skeleton(file: Named) -> str:
    """Return a file's name without its numbers; empty if the name is the digest."""
    name = file.path.rpartition("/")[2]
    return "" if file.digest.partition(":")[2] in name else NUMBERS.sub("#", name)


def _groups(connection: sa.Connection, digest: str) -> list[tuple[Named, Sequence[Named]]]:
    table = files.c
    columns = (table.path, table.digest, table.size, table.hlc)
    query = sa.select(table.repository, table.package, table.role, *columns).where(
        table.digest == digest, table.size > 0
    )
    found: list[tuple[Named, Sequence[Named]]] = []
    for row in connection.execute(query.limit(USES_MAX)).all():
        repository, package, role, *rest = row
        others = sa.select(*columns).where(
            table.repository == repository, table.package == package, table.role == role
        )
        others = others.where(table.digest != digest, table.size > 0, table.hlc <= row.hlc)
        others = others.order_by(table.hlc.desc()).limit(ROWS_MAX)
        found.append((Named(*rest), [Named(*other) for other in connection.execute(others)]))
    return found
