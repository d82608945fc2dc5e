"""Taking a promotion back: its files, its tags, and nothing that is also there otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

import sqlalchemy as sa

from formats.contract import Format, Repository
from formats.releases import Release
from node.promotion import book
from node.promotion.book import Item, Promotion
from store import fold
from store.appending import Check
from store.catalog import Catalog
from store.errors import ConflictError, NotFoundError
from store.facts import Delete, Fact, Point
from store.projection import load_claims


def _records_of(connection: sa.Connection, promotion: Promotion) -> set[bytes]:
    """A unit: every record that carried a promotion out."""
    own: set[bytes] = set()
    for record in promotion.standing:
        own |= book.span(connection, promotion.begun, record)
    return own


def _others(
    connection: sa.Connection, target: str, paths: Sequence[str], own: set[bytes]
) -> set[str]:
    """A unit: the paths that something else than these records publishes too."""
    cells = {fold.file_cell(target, path): path for path in paths}
    about = load_claims(connection, cells)
    return {
        path
        for cell, path in cells.items()
        if any(claim.record not in own for claim in fold.standing(about.get(cell, ())))
    }


async def _restored(
    repository: Repository, promotion: Promotion, own: set[bytes]
) -> AsyncIterator[Point]:
    """Put the pointers back that nobody has moved since."""
    for each in promotion.done.before if promotion.done else ():
        held = await repository.pointer(each.package, each.name)
        if held is not None and set(held.records) <= own:
            yield Point(repository.key, each.package, each.name, each.value, held.records)


async def undoing(
    catalog: Catalog, served: Format, repository: Repository, promotion: Promotion
) -> tuple[list[Fact], Check]:
    """The facts that take a promotion back, and the check that they still are the right ones.

    The check raises ConflictError.
    """
    own = await catalog.read(partial(_records_of, promotion=promotion))
    facts: list[Fact] = []
    for item in promotion.asked.items:
        release = await _brought(catalog, served, repository, item, own)
        if release is not None:
            reason = f"rolled back {promotion.id}"
            facts += await served.releases.withdraw(repository, release, reason)
    back = [each async for each in _restored(repository, promotion, own)]
    places = {(each.package, each.name) for each in back}
    facts = [f for f in facts if not isinstance(f, Point) or (f.package, f.name) not in places]
    paths = [fact.path for fact in facts if isinstance(fact, Delete)]

    def check(connection: sa.Connection) -> None:
        if _others(connection, repository.key, paths, own):
            raise ConflictError(f"{repository.key} changed meanwhile: try again")

    return [*facts, *back], check


async def _brought(
    catalog: Catalog, served: Format, repository: Repository, item: Item, own: set[bytes]
) -> Release | None:
    """What is still there of a version that nothing but the promotion publishes."""
    try:
        release = await served.releases.read(repository, item.package, item.resolved)
    except NotFoundError:
        return None  # somebody has deleted it already
    paths = [each.path for each in release.files]
    kept = await catalog.read(partial(_others, target=repository.key, paths=paths, own=own))
    return replace(
        release,
        files=tuple(each for each in release.files if each.path not in kept),
        flags=() if kept else release.flags,
        pointers=tuple(p for p in release.pointers if not kept or set(p.records) <= own),
    )
