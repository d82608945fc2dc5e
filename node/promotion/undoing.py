"""Taking a promotion back: its files, its tags, and nothing that is also there otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import sqlalchemy as sa

from formats.contract import Format, Repository
from formats.releases import Release
from node.promotion import book
from node.promotion.book import Promotion
from store import fold
from store.appending import Check
from store.catalog import Catalog
from store.digest import Digest
from store.errors import ConflictError, NotFoundError
from store.facts import Delete, Fact, Flag, Point, Publish
from store.fold import Claim
from store.projection import load_claims


def _records_of(connection: sa.Connection, promotion: Promotion) -> set[bytes]:
    """A unit: every record that carried a promotion out."""
    own: set[bytes] = set()
    for record in promotion.standing:
        own |= book.span(connection, promotion.begun, record)
    return own


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is at some paths besides a promotion: others publish these, or had those before.

    ``before`` are mutable files that the promotion replaced, as they were published.
    """

    kept: frozenset[str]
    before: Mapping[str, Publish]


def _standing(
    connection: sa.Connection, target: str, paths: Sequence[str], own: set[bytes]
) -> Standing:
    """A unit: what would be there without these records."""
    cells = {fold.file_cell(target, path): path for path in paths}
    about = load_claims(connection, cells)
    kept, before = set[str](), dict[str, Publish]()
    for cell, path in cells.items():
        alive = fold.standing(about.get(cell, ()))
        if not alive or not all(_mutable(each) for each in alive):
            if any(claim.record not in own for claim in alive):
                kept.add(path)
            continue
        revisions = sorted(filter(_mutable, about[cell]), key=lambda claim: claim.recency)
        void = _void(connection, target, {each.record for each in revisions} - own)
        counting = [each for each in revisions if each.record not in void]
        if not counting or counting[-1].record not in own:
            kept.add(path)  # somebody has replaced it since
            continue
        others = [each for each in counting if each.record not in own]
        if others and others[-1] in alive:  # what was deleted before stays so
            before[path] = others[-1].fact
    return Standing(frozenset(kept), before)


def _mutable(claim: Claim) -> bool:
    return isinstance(claim.fact, Publish) and claim.fact.mutable


def _void(connection: sa.Connection, target: str, ids: Collection[bytes]) -> set[bytes]:
    """Those of some records that brought something in a promotion which was taken back, or back.

    What was there before all that is what they leave.
    """
    found: set[bytes] = set()
    for record, body in book.bodies(connection, ids):
        for fact in body.facts:
            if not isinstance(fact, Flag) or fact.package != book.BOOK:
                continue
            other = book.find(connection, [target], fact.version)
            if other is None:
                continue
            undone = [each for each in other.done_in if each not in other.standing]
            if fact.name == book.UNDONE or any(
                record in book.span(connection, other.begun, each) for each in undone
            ):
                found.add(record)
    return found


async def _restored(
    repository: Repository, promotion: Promotion, own: set[bytes]
) -> AsyncIterator[Point]:
    """Put the pointers back that nobody has moved since."""
    for each in promotion.done.before if promotion.done else ():
        held = await repository.pointer(each.package, each.name)
        if held is not None and set(held.records) <= own:
            yield Point(repository.key, each.package, each.name, each.value, held.records)


async def undoing(
    catalog: Catalog,
    here: Callable[[Digest], Awaitable[bool]],
    served: Format,
    repository: Repository,
    promotion: Promotion,
) -> tuple[list[Fact], Check]:
    """The facts that take a promotion back, and the check that they still are the right ones.

    ``here`` tells whether bytes are on this node, and keeps them: those of a replaced file may have
    been collected, and then it does not come back.  The check raises ConflictError.
    """
    own = await catalog.read(partial(_records_of, promotion=promotion))
    facts: list[Fact] = []
    seen: list[tuple[list[str], Standing]] = []
    reason = f"rolled back {promotion.id}"
    for item in promotion.asked.items:
        try:
            release = await served.releases.read(repository, item.package, item.resolved)
        except NotFoundError:
            continue  # somebody has deleted it already
        paths = [each.path for each in release.files]
        unit = partial(_standing, target=repository.key, paths=paths, own=own)
        standing = await catalog.read(unit)
        seen.append((paths, standing))
        alone = _alone(release, standing, own)
        facts += await served.releases.withdraw(repository, alone, reason)
        facts += [f async for f in _former(here, repository.key, release, standing, reason)]
    back = [each async for each in _restored(repository, promotion, own)]
    places = {(each.package, each.name) for each in back}
    facts = [f for f in facts if not isinstance(f, Point) or (f.package, f.name) not in places]

    def check(connection: sa.Connection) -> None:
        for paths, standing in seen:
            if _standing(connection, repository.key, paths, own) != standing:
                raise ConflictError(f"{repository.key} changed meanwhile: try again")

    return [*facts, *back], check


async def _former(
    here: Callable[[Digest], Awaitable[bool]],
    target: str,
    release: Release,
    standing: Standing,
    reason: str,
) -> AsyncIterator[Fact]:
    """Put the files back that a promotion replaced, or delete theirs where the bytes are gone."""
    for each in release.files:
        before = standing.before.get(each.path)
        if before is not None:
            gone = Delete(target, each.path, (each.record,), reason)
            yield before if await _has(here, before) else gone


async def _has(here: Callable[[Digest], Awaitable[bool]], publish: Publish) -> bool:
    """Whether everything that a file names is here."""
    named = [each for file in publish.files for each in (file.digest, file.metadata_digest) if each]
    return all([await here(Digest.parse(each)) for each in named])


def _alone(release: Release, standing: Standing, own: set[bytes]) -> Release:
    """What of a version nothing but the promotion publishes, or ever did."""
    others = standing.kept | standing.before.keys()
    return replace(
        release,
        files=tuple(each for each in release.files if each.path not in others),
        flags=() if others else release.flags,
        pointers=tuple(p for p in release.pointers if not others or set(p.records) <= own),
    )
