"""Names that repositories have, or had: what lists of upstreams are compared with, all at once.

There may be a million.  Whether they are still the same is told by a number, without reading any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import trio

from node.repositories.rendered import Shelf
from store.catalog import Catalog

KEPT_MAX = 16 << 20  # bytes of names kept in memory
PAGE = 1000  # names read at once


@dataclass(frozen=True, slots=True)
class Names:
    """Some names, and about how many bytes of memory they take."""

    held: frozenset[str]
    size: int


@dataclass(slots=True)
class Owned:
    """Knows the names of repositories, read again when one has come or gone."""

    catalog: Catalog
    shelf: Shelf[Names] = field(default_factory=lambda: Shelf(KEPT_MAX, _weigh, huge=False))

    def mark(self, repository: str) -> str:
        """What tells its names, and former ones, from others, for as long as this node runs."""
        return f"{repository}={self.catalog.names_revision(repository)}"

    async def former(self, repository: str) -> Names:
        """Packages that files were deleted of; there may be others of them."""
        return await self._kept(repository, "former", [self.catalog.former_packages])

    async def all(self, repository: str) -> Names:
        """What a repository has, and had."""
        read = [self.catalog.packages, self.catalog.former_packages]
        return await self._kept(repository, "all", read)

    async def _kept(
        self, repository: str, kind: str, pages: Iterable[Callable[..., Awaitable[Sequence[str]]]]
    ) -> Names:
        async def read() -> Names:
            found: list[Sequence[str]] = []
            for page in pages:
                after = ""
                while names := await page(repository, after=after, limit=PAGE):
                    found.append(names)
                    after = names[-1]
            return await trio.to_thread.run_sync(_gather, found)

        revision = self.catalog.names_revision
        return await self.shelf.get((repository, kind), lambda: revision(repository), read)


def _gather(pages: Iterable[Sequence[str]]) -> Names:
    held = frozenset(name for page in pages for name in page)
    return Names(held, 1024 + sum(len(each) + 100 for each in held))


def _weigh(names: Names) -> int:
    return names.size
