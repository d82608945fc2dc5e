"""How often versions were downloaded, and when last: counted by each node, added up over all.

Each node keeps its own totals in its local database and says them in the ledger now and then.  A
total said twice counts once, so a crash between the two loses nothing and doubles nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import bulk
from store.database import Database
from store.facts import Use, Used
from store.paging import storable
from store.schema import uses
from store.schema_followers import own_uses

FACT_MAX = 32 << 10  # bytes of names in one fact: several make a record
PAGE = 2000  # versions said at once

o, u = own_uses.c, uses.c


class VersionKey(NamedTuple):
    """A version of a package.  ``version`` is "" for what has none."""

    repository: str
    package: str
    version: str


class Usage(NamedTuple):
    """Downloads, on all nodes together, and the last one in seconds since 1970 (0.0: never)."""

    downloads: int
    last: float


class UsageLog:
    """Reads what all nodes say, and keeps what this one has counted itself.

    ``node`` is this node.  Only one task writes.
    """

    def __init__(self, facts: Database, local: Database, node: str) -> None:
        self._facts, self._local, self._node = facts, local, node

    # --- reading ---------------------------------------------------------------------------------
    async def usage(self, repository: str, package: str, version: str | None = None) -> Usage:
        """How a version was used, or with None a whole package.  For retention, and for people.

        Knows what this node has counted within the last minute or so, and what others have said.
        """
        if not storable(repository, package, version or ""):
            return Usage(0, 0.0)
        said = [u.repository == repository, u.package == package]
        mine = [o.repository == repository, o.package == package, o.told.is_(sa.false())]
        if version is not None:
            said.append(u.version == version)
            mine.append(o.version == version)
        total = sa.select(
            sa.func.coalesce(sa.func.sum(u.downloads), 0), sa.func.coalesce(sa.func.max(u.last), 0)
        ).where(*said)
        query = sa.select(o.repository, o.package, o.version, o.downloads, o.last).where(*mine)
        rows = await self._local.read(lambda connection: connection.execute(query).all())
        own = {VersionKey(*row[:3]): (row[3], row[4]) for row in rows}
        known = await self._facts.read(partial(_said, keys=own, node=self._node))
        downloads, last = (await self._facts.read(lambda c: c.execute(total).all()))[0]
        untold = sum(max(0, own[key][0] - known.get(key, (0, 0))[0]) for key in own)
        return Usage(int(downloads) + untold, max([last, *(own[k][1] for k in own)]) / 1000)

    async def versions(
        self, repository: str, package: str, versions: Sequence[str]
    ) -> dict[str, Usage]:
        """How each of a page of versions was used, by two queries."""
        if not storable(repository, package, *versions):
            return {}
        said = sa.select(u.version, u.node, u.downloads, u.last).where(
            u.repository == repository, u.package == package, u.version.in_(list(versions))
        )
        mine = sa.select(o.version, sa.literal(self._node), o.downloads, o.last).where(
            o.repository == repository, o.package == package, o.version.in_(list(versions))
        )
        rows = list(await self._facts.read(lambda connection: connection.execute(said).all()))
        rows += await self._local.read(lambda connection: connection.execute(mine).all())
        totals: dict[tuple[str, str], int] = {}
        last: dict[str, int] = {}
        for version, node, downloads, at in rows:
            totals[version, node] = max(downloads, totals.get((version, node), 0))
            last[version] = max(at, last.get(version, 0))
        found = dict.fromkeys(last, 0)
        for (version, _), downloads in totals.items():
            found[version] += downloads
        return {version: Usage(found[version], at / 1000) for version, at in last.items()}

    async def totals(
        self, repository: str, packages: Sequence[str], versions: Sequence[str] = ()
    ) -> dict[tuple[str, str], Usage]:
        """How each (package, version) was used on all nodes, as far as is known; few queries.

        What never was is left out.  ``versions`` are the only ones wanted.
        """
        counted: dict[tuple[str, str, str], int] = {}
        last: dict[tuple[str, str], int] = {}
        mine = sa.literal(self._node)
        for part in bulk.chunks(packages):
            for some in bulk.chunks(versions) if versions else [[]]:
                for table, node, port in ((u, u.node, self._facts), (o, mine, self._local)):
                    query = sa.select(table.package, table.version, node, table.downloads)
                    query = query.add_columns(table.last)
                    query = query.where(table.repository == repository, table.package.in_(part))
                    query = query.where(table.version.in_(some)) if some else query
                    rows = await port.read(partial(_all, query=query))
                    for package, version, name, number, at in rows:
                        key = (package, version, name)
                        counted[key] = max(number, counted.get(key, 0))
                        last[key[:2]] = max(at, last.get(key[:2], 0))
        sums = dict.fromkeys(last, 0)
        for (package, version, _), number in counted.items():
            sums[package, version] += number
        return {key: Usage(sums[key], at / 1000) for key, at in last.items()}

    async def most(self, repositories: Sequence[str], limit: int) -> list[tuple[str, str, Usage]]:
        """(repository, package, usage) of the packages downloaded most."""
        total = sa.func.sum(u.downloads)
        query = sa.select(u.repository, u.package, total, sa.func.max(u.last))
        query = query.where(u.repository.in_(list(repositories)))
        query = query.group_by(u.repository, u.package)
        query = query.order_by(total.desc(), u.repository, u.package).limit(limit)
        rows = await self._facts.read(lambda connection: connection.execute(query).all())
        return [(r, p, Usage(int(count), last / 1000)) for r, p, count, last in rows if count]

    # --- counting --------------------------------------------------------------------------------
    async def add(self, counted: Mapping[VersionKey, tuple[int, int]]) -> None:
        """Add what was counted: version → (downloads, last in milliseconds)."""
        for part in bulk.chunks(counted.items(), 200):
            said = await self._facts.read(
                partial(_said, keys=[k for k, _ in part], node=self._node)
            )
            await self._local.write(partial(_add, counted=part, said=said))

    async def untold(self, limit: int = PAGE) -> list[tuple[VersionKey, int, int]]:
        """What the ledger does not say yet, used longest ago first: (version, downloads, last)."""
        query = sa.select(o.repository, o.package, o.version, o.downloads, o.last)
        query = query.where(o.told.is_(sa.false()))
        query = query.order_by(o.last, o.repository, o.package, o.version).limit(limit)
        rows = await self._local.read(lambda connection: connection.execute(query).all())
        return [(VersionKey(*row[:3]), row[3], row[4]) for row in rows]

    async def tell_done(self, told: Iterable[tuple[VersionKey, int, int]]) -> None:
        """Note what the ledger says now; what was counted meanwhile stays to be said."""

        def unit(connection: sa.Connection) -> None:
            for key, downloads, last in told:
                same = (*_own(key), o.downloads == downloads, o.last == last)
                connection.execute(sa.update(own_uses).where(*same).values(told=True))

        await self._local.write(unit)

    def facts(self, untold: Iterable[tuple[VersionKey, int, int]]) -> list[Used]:
        """What to say, in facts of bounded size."""
        found: list[Used] = []
        gathered: list[Use] = []
        repository, size = "", 0
        for key, downloads, last in sorted(untold):
            length = len(key.package.encode()) + len(key.version.encode()) + 24
            if gathered and (key.repository != repository or size + length > FACT_MAX):
                found.append(Used(repository, self._node, tuple(gathered)))
                gathered, size = [], 0
            repository = key.repository
            gathered.append(Use(key.package, key.version, downloads, last))
            size += length
        if gathered:
            found.append(Used(repository, self._node, tuple(gathered)))
        return found


def _all(connection: sa.Connection, query: sa.Select[Any]) -> Sequence[Any]:
    return connection.execute(query).all()


def _own(key: VersionKey) -> list[sa.ColumnElement[bool]]:
    return [o.repository == key.repository, o.package == key.package, o.version == key.version]


def _said(
    connection: sa.Connection, keys: Iterable[VersionKey], node: str
) -> dict[VersionKey, tuple[int, int]]:
    """What this node has said of versions: its totals go on from there."""
    found: dict[VersionKey, tuple[int, int]] = {}
    for key in keys:
        query = sa.select(u.downloads, u.last).where(
            u.repository == key.repository,
            u.package == key.package,
            u.version == key.version,
            u.node == node,
        )
        row = connection.execute(query).first()
        if row is not None:
            found[key] = (row[0], row[1])
    return found


def _add(
    connection: sa.Connection,
    counted: Iterable[tuple[VersionKey, tuple[int, int]]],
    said: Mapping[VersionKey, tuple[int, int]],
) -> None:
    for key, (downloads, last) in counted:
        held = connection.execute(sa.select(o.downloads, o.last).where(*_own(key))).first()
        before = max(held[0] if held else 0, said.get(key, (0, 0))[0])
        values = {"downloads": before + downloads, "last": max(held[1] if held else 0, last)}
        if held is None:
            connection.execute(sa.insert(own_uses).values(**key._asdict(), **values, told=False))
        else:
            connection.execute(sa.update(own_uses).where(*_own(key)).values(**values, told=False))
