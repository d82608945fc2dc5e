"""Versions that somebody has asked to promote: they stay until that is decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import sqlalchemy as sa

from node.promotion import book
from node.promotion.book import Promotion
from store.catalog import Catalog


class Wanted(NamedTuple):
    """A version, where it would be promoted from."""

    source: str
    package: str
    version: str


class Pending:
    """What was pending at one moment, by target and id."""

    def __init__(self, asked: Mapping[tuple[str, str], frozenset[Wanted]]) -> None:
        self.asked = asked
        self.versions = frozenset[Wanted]().union(*asked.values())

    def since(self, connection: sa.Connection) -> set[Wanted]:
        """A unit: what was asked for since."""
        _, new = book.undecided(connection, self.asked)
        return {each for promotion in new for each in _wanted(promotion)}


class Awaited:
    """What pending promotions ask for.  Looking again reads only those that are new."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._seen = Pending({})

    async def look(self) -> Pending:
        """Ask what is pending now."""
        before = self._seen.asked
        ids, new = await self._catalog.read(lambda c: book.undecided(c, before))
        asked = {key: versions for key, versions in before.items() if key in ids}
        asked |= {(each.target, each.id): frozenset(_wanted(each)) for each in new}
        if asked != before:
            self._seen = Pending(asked)
        return self._seen


def _wanted(promotion: Promotion) -> Iterator[Wanted]:
    for item in promotion.asked.items:
        yield Wanted(promotion.asked.source, item.package, item.resolved)
