"""Names that repositories have, or had: what lists of upstreams are compared with, all at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from node.repositories.rendered import Shelf
from store.catalog import Catalog
from store.digest import Digest

KEPT_MAX = 16 << 20  # bytes of names kept in memory
PAGE = 1000  # names read at once


@dataclass(frozen=True, slots=True)
class Names:
    """Some names, and what tells them from others."""

    held: frozenset[str]
    digest: Digest


@dataclass(slots=True)
class Owned:
    """Knows the names of repositories, read again when one has come or gone."""

    catalog: Catalog
    shelf: Shelf[Names] = field(default_factory=lambda: Shelf(KEPT_MAX, _weigh))

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
            found: set[str] = set()
            for page in pages:
                after = ""
                while names := await page(repository, after=after, limit=PAGE):
                    found.update(names)
                    after = names[-1]
            told = "\n".join(sorted(found)).encode("utf-8", "surrogatepass")
            return Names(frozenset(found), Digest.of(told))

        revision = self.catalog.names_revision
        return await self.shelf.get((repository, kind), lambda: revision(repository), read)


def _weigh(names: Names) -> int:
    return 1024 + sum(len(each) + 100 for each in names.held)
