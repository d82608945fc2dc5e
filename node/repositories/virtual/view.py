"""Several repositories as one ``Repository``: what is kept of each, the first that has it gives it.

Reads only.  Every read goes by the members' rules and the guard, whatever a format asks for, so a
name that a member may not be asked for is not seen in it either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from operator import attrgetter
from typing import Any, TypeVar

from formats.contract import Rendered, Staged
from node.repositories.local import LocalRepository, Services
from node.repositories.rendered import render
from node.repositories.virtual.members import Crew, Leaf
from store import packaged
from store.blobs import Ingested
from store.digest import Digest
from store.errors import MethodNotAllowedError
from store.rows import Artifact, FlagRow, Pointer

Row = TypeVar("Row")


class Merged(AsyncIterator[Row]):
    """Rows of all members in order, of equal ones the first member's.

    An object, not a generator: whoever stops half-way leaves nothing open.
    """

    def __init__(
        self,
        leaves: Sequence[Leaf],
        every: Sequence[AsyncIterator[Row]],
        key: Callable[[Row], Any],
        shows: Callable[[Leaf, Row], Awaitable[bool]],
    ) -> None:
        self._leaves, self._every, self._key, self._shows = leaves, every, key, shows
        self._heads: list[tuple[Any, int, Row]] | None = None
        self._last: Any = None

    async def __anext__(self) -> Row:
        if self._heads is None:
            found = [(n, await self._following(n)) for n in range(len(self._every))]
            self._heads = [(self._key(row), n, row) for n, row in found if row is not None]
            heapify(self._heads)  # equal keys in members' order: rows are never compared
        while self._heads:
            at, number, row = self._heads[0]
            following = await self._following(number)
            if following is None:
                heappop(self._heads)
            else:
                heapreplace(self._heads, (self._key(following), number, following))
            if at != self._last:
                self._last = at
                return row
        raise StopAsyncIteration

    async def _following(self, number: int) -> Row | None:
        async for row in self._every[number]:
            if await self._shows(self._leaves[number], row):
                return row
        return None


class VirtualRepository(LocalRepository):
    """The members of a crew, or some of them, under the virtual repository's own key."""

    def __init__(
        self, crew: Crew, leaves: Sequence[Leaf], services: Services, *, by_path: bool
    ) -> None:
        super().__init__(crew.entry, services)
        self._crew, self._leaves, self._by_path = crew, tuple(leaves), by_path
        self._catalog = services.catalog
        part = "" if self._leaves == crew.leaves else ",".join(e.entry.key for e in self._leaves)
        self._mark = f"{crew.mark} {part}"
        self.guarded = False  # whether a name was kept from a remote member

    @property
    def options(self) -> Mapping[str, object]:
        """The virtual repository's own; what only a member has is the member's."""
        sole = self._leaves[0].entry.options if len(self._leaves) == 1 else {}
        return {**sole, **self.entry.options}

    @property
    def modified(self) -> float:
        """Ledger time of the newest change of a member, seconds since 1970."""
        return max((self._catalog.modified(each.entry.key) for each in self._leaves), default=0.0)

    # --- what a member may be asked --------------------------------------------------------------
    async def admits(self, leaf: Leaf, name: str) -> bool:
        """Tell whether a member may be asked for a name: rules, reserved names, owners."""
        if not leaf.admits(name):
            return False
        for key in leaf.owners(name):
            if await self.owns(key, name):
                self.guarded = True
                return False
        return True

    async def owns(self, key: str, name: str) -> bool:
        """Tell whether a repository has a name, or had it: what is deleted is not given away."""
        catalog = self._catalog
        if self._by_path:
            return await catalog.find(key, name) is not None or await catalog.deleted(key, name)
        return await catalog.package(key, name) is not None or await catalog.former(key, name)

    async def _shows(self, leaf: Leaf, row: Artifact) -> bool:
        return await self.admits(leaf, row.path if self._by_path else row.package)

    async def _asked(self, package: str) -> list[Leaf]:
        """Members that may be asked for a package; where names are paths, its files are judged."""
        if self._by_path:
            return list(self._leaves)
        return [leaf for leaf in self._leaves if await self.admits(leaf, package)]

    # --- files -----------------------------------------------------------------------------------
    async def find(self, path: str) -> Artifact | None:
        """The file at a coordinate of the first member that has it, or None."""
        for leaf in self._leaves:
            found = await self._catalog.find(leaf.entry.key, path)
            if found is not None and await self._shows(leaf, found):
                return found
        return None

    async def artifacts(self, package: str, version: str | None = None) -> Sequence[Artifact]:
        """Files of a package in path order, each of the first member that has it."""
        found: dict[str, Artifact] = {}
        for leaf in await self._asked(package):
            for row in await self._catalog.artifacts(leaf.entry.key, package, version):
                if row.path not in found and (not self._by_path or await self._shows(leaf, row)):
                    found[row.path] = row
        return sorted(found.values(), key=attrgetter("path"))

    def each(self, package: str, prefix: str = "") -> AsyncIterator[Artifact]:
        """Files of a package in path order, each of the first member that has it."""
        every = [
            packaged.walk(self._catalog, leaf.entry.key, package, prefix) for leaf in self._leaves
        ]
        return Merged(self._leaves, every, attrgetter("path"), self._shows)

    async def by_digest(self, digest: Digest) -> Sequence[Artifact]:
        """Visible files with these bytes."""
        found: dict[str, Artifact] = {}
        for leaf in self._leaves:
            for row in await self._catalog.by_digest(leaf.entry.key, digest):
                if await self._shows(leaf, row):
                    found.setdefault(row.path, row)
        return sorted(found.values(), key=attrgetter("path"))

    def all_artifacts(self, prefix: str = "") -> AsyncIterator[Artifact]:
        """Every file in path order, paged."""
        every = [self._catalog.all_artifacts(each.entry.key, prefix) for each in self._leaves]
        return Merged(self._leaves, every, attrgetter("path"), self._shows)

    # --- packages, pointers, flags ---------------------------------------------------------------
    async def packages(
        self,
        *,
        prefix: str = "",
        after: str = "",
        limit: int = 1000,
        holding: Sequence[str] = (),
    ) -> Sequence[str]:
        """Package names in byte order, a page at a time."""
        found: set[str] = set()
        for leaf in self._leaves:
            found.update(await self._names(leaf, prefix, after, limit, holding))
        return sorted(found, key=str.encode)[:limit]

    async def _names(
        self, leaf: Leaf, prefix: str, after: str, limit: int, holding: Sequence[str]
    ) -> Sequence[str]:
        """As many names of a member as are asked for, if it has as many that it may show."""
        found: list[str] = []
        while len(found) < limit:
            page = await self._catalog.packages(
                leaf.entry.key, prefix=prefix, after=after, limit=limit, holding=holding
            )
            found += [name for name in page if self._by_path or await self.admits(leaf, name)]
            if len(page) < limit:
                break
            after = page[-1]
        return found

    async def pointer(self, package: str, name: str) -> Pointer | None:
        """The pointer of the first member that has it, or None."""
        for leaf in await self._asked(package):
            found = await self._catalog.pointer(leaf.entry.key, package, name)
            if found is not None:
                return found
        return None

    async def pointers(self, package: str) -> Sequence[Pointer]:
        """Pointers of a package in name order, each of the first member that has it."""
        found: dict[str, Pointer] = {}
        for leaf in await self._asked(package):
            for row in await self._catalog.pointers(leaf.entry.key, package):
                found.setdefault(row.name, row)
        return sorted(found.values(), key=attrgetter("name"))

    async def pointer_names(
        self, package: str, *, after: str = "", limit: int = 1000
    ) -> Sequence[str]:
        """Names of the pointers that any member has of a package."""
        found: set[str] = set()
        for leaf in await self._asked(package):
            key = leaf.entry.key
            found.update(await self._catalog.pointer_names(key, package, after=after, limit=limit))
        return sorted(found, key=str.encode)[:limit]

    def all_pointers(self, prefix: str = "") -> AsyncIterator[Pointer]:
        """Pointers of every package whose name starts with ``prefix``."""

        async def shows(leaf: Leaf, row: Pointer) -> bool:
            return self._by_path or await self.admits(leaf, row.package)

        every = [self._catalog.all_pointers(each.entry.key, prefix) for each in self._leaves]
        return Merged(self._leaves, every, attrgetter("package", "name"), shows)

    async def flags(self, package: str) -> Sequence[FlagRow]:
        """Marks of a package: each version's from the member that gives that version."""
        found: list[FlagRow] = []
        taken: set[str] = set()
        for leaf in await self._asked(package):
            rows = await self._catalog.artifacts(leaf.entry.key, package)
            ours = {each.version for each in rows} - taken
            if rows and not taken:
                ours.add("")  # marks of the package as a whole
            marks = await self._catalog.flags(leaf.entry.key, package)
            found += [each for each in marks if each.version in ours]
            taken |= ours
        return sorted(found, key=attrgetter("version", "path", "name"))

    # --- documents -------------------------------------------------------------------------------
    async def cached(self, key: str, render_document: Callable[[], Awaitable[bytes]]) -> Rendered:
        """A rendered document, kept for those who see the same members until one changes."""

        async def build() -> Rendered:
            return render(await render_document(), self.modified)

        cache = self._services.cache.documents
        return await cache.get((self.key, f"{self._mark} {key}"), self._revision, build)

    async def cached_set(
        self, key: str, build: Callable[[], Awaitable[Mapping[str, Ingested]]]
    ) -> Mapping[str, Ingested]:
        """A set of generated documents, for those who see the same members."""
        place = (self.key, f"{self._mark} {key}")
        return await self._services.cache.document_set(place, self._revision, build)

    async def generations(self, key: str) -> Sequence[Mapping[str, Ingested]]:
        """Sets built for those who see the same members."""
        return self._services.cache.generations((self.key, f"{self._mark} {key}"))

    def _place(self, key: str) -> tuple[str, str]:
        return self.key, f"{self._mark} {key}"

    def _names_revision(self) -> int:
        """A number that grows whenever a name comes to a member, or to an owner, or goes."""
        keys = {*self._crew.keys, *self._crew.guarding}
        return sum(self._catalog.names_revision(each) for each in keys)

    def _revision(self) -> int:
        """A number that grows with every change of a member, or of who else owns names."""
        keys = {*self._crew.keys, *self._crew.guarding}
        return sum(self._catalog.revision(each) for each in keys)

    # --- what only a repository of its own has ---------------------------------------------------
    async def stage(self, package: str, name: str, *_: object, **__: object) -> None:
        """Refuse: what is published goes to the deploy target."""
        raise MethodNotAllowedError(f"{self.key} is virtual")

    async def staged(self, package: str) -> Sequence[Staged]:
        """Nothing: what waits for its commit point is the deploy target's."""
        return ()
