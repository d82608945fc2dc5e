"""Promotions: asked for, judged, carried out and rolled back, each step a record in the ledger.

Docs: docs/promotion.md.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Protocol

import sqlalchemy as sa

from formats.contract import Principal, Repository, Response
from formats.contract import Publish as Wish
from node.directory import RepositoryEntry
from node.promotion import book
from node.promotion.book import Asked, Before, Done, Item, Promotion, Said
from node.promotion.judging import Judge, Judged, Node
from node.promotion.undoing import undoing
from store.appending import Appended, Check
from store.bulk import chunks
from store.digest import Digest
from store.errors import ConflictError, DeniedError, NotFoundError, PendingError, RejectedError
from store.facts import Fact, Flag, Point
from store.schema import files

ITEMS_MAX = 100  # versions in one promotion
CHECK_MAX = 100  # characters of a check's name
PAGE = 100  # promotions read at once
BEFORE_MAX = 1024  # bytes of a pointer's value that a rollback can put back


class Ledger(Protocol):
    """Where facts go."""

    async def append(
        self, facts: Sequence[Fact], *, actor: str, check: Check | None = None
    ) -> Appended: ...


class Promotions:
    """The promotions of one node.  Callers are judged here, at the repositories concerned."""

    def __init__(
        self, node: Node, ledger: Ledger, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._node, self._ledger, self._clock = node, ledger, clock
        self._judge = Judge(node, clock)
        self._counter = node.metrics.counter(
            "promotions", "Promotions by what became of them", ("state",)
        )

    # --- asking ----------------------------------------------------------------------------------
    async def ask(
        self,
        caller: Principal,
        source: RepositoryEntry,
        target: RepositoryEntry,
        wanted: Sequence[tuple[str, str]],
        *,
        notes: str = "",
    ) -> Judged:
        """Ask for versions, all or none of them; what lacks nothing is carried out at once.

        Raises DeniedError, NotFoundError, RejectedError, and what publishing them there raises.
        """
        self._may_ask(caller, source, target)
        served = self._judge.format(source, target)
        if not 0 < len(wanted) <= ITEMS_MAX or len(set(wanted)) < len(wanted):
            raise RejectedError(
                f"between 1 and {ITEMS_MAX} different versions are promoted at once"
            )
        repository = self._node.open(source)
        items: list[Item] = []
        for package, version in wanted:
            release = await served.releases.read(repository, package, version)
            items.append(Item(release.package, version, release.version, release.content))
        now = self._clock()
        asked = Asked(source.key, tuple(items), caller.name, now, notes[: book.NOTES_MAX])
        id_ = f"{int(now * 1000):012x}-{secrets.token_hex(4)}"
        promotion = Promotion(id_, target.key, asked)
        judged = await self._judge.judge(promotion)
        request = book.note(target.key, id_, book.ASKED, asked)
        if judged.unmet:
            await self._ledger.append([request], actor=caller.name)
            return judged
        return await self._carry_out(judged, target, caller.name, [request])

    def _may_ask(self, caller: Principal, source: RepositoryEntry, target: RepositoryEntry) -> None:
        """Who may publish to either side may ask; reading the source is needed in any case."""
        self._node.gate.require_action(caller, "read", source)
        if not self._node.gate.may(caller, "write", source):
            self._node.gate.require_action(caller, "write", target)
        else:
            self._node.gate.require_action(caller, "read", target)
        if not caller.name:
            raise DeniedError("promotions need a name")

    # --- reviewing -------------------------------------------------------------------------------
    async def approve(self, caller: Principal, id_: str, *, notes: str = "") -> Judged:
        """Agree; what then lacks nothing is carried out.  Raises DeniedError, ConflictError."""
        promotion, target = await self.reviewed(caller, id_)
        judged = await self._judge.judge(promotion)
        brought = {each.record for release in judged.releases for each in release.files}
        publishers = await self._node.catalog.read(partial(book.actors, ids=brought))
        if caller.name in {*publishers, promotion.asked.by}:
            raise DeniedError("who published or asked for it cannot approve it")
        said = Said(caller.name, self._clock(), notes[: book.NOTES_MAX])
        fact = book.note(target.key, id_, book.APPROVED, said, path=caller.name)
        promotion.approvals[caller.name] = said
        judged = await self._judge.judge(promotion)
        if not judged.unmet:
            return await self._carry_out(judged, target, caller.name, [fact])
        await self._ledger.append([fact], actor=caller.name, check=_open(promotion))
        # Somebody else may have approved since this one was read: then both were not the last.
        judged = await self._judge.judge(await self.show(caller, id_))
        if judged.unmet or judged.promotion.state != "pending":
            return judged
        return await self._carry_out(judged, target, caller.name, [])

    async def reject(self, caller: Principal, id_: str, *, notes: str = "") -> Promotion:
        """Refuse a request, or take one's own back.  Raises DeniedError, ConflictError."""
        promotion, target = await self._found(caller, id_)
        if caller.name != promotion.asked.by:
            self._node.gate.require_action(caller, "write", target)
        said = Said(caller.name, self._clock(), notes[: book.NOTES_MAX])
        fact = book.note(target.key, id_, book.REJECTED, said)
        await self._ledger.append([fact], actor=caller.name, check=_open(promotion))
        return await self.show(caller, id_)

    async def run(self, caller: Principal, id_: str) -> Judged:
        """Carry a request out whose rules now hold.  Raises PendingError if they do not."""
        promotion, target = await self.reviewed(caller, id_)
        judged = await self._judge.judge(promotion)
        if judged.unmet:
            raise PendingError("; ".join(each.message for each in judged.unmet))
        return await self._carry_out(judged, target, caller.name, [])

    async def reviewed(self, caller: Principal, id_: str) -> tuple[Promotion, RepositoryEntry]:
        """A promotion that the caller may decide on.  Raises DeniedError, NotFoundError."""
        promotion, target = await self._found(caller, id_)
        self._node.gate.require_action(caller, "write", target)
        return promotion, target

    async def _found(self, caller: Principal, id_: str) -> tuple[Promotion, RepositoryEntry]:
        readable = {
            entry.key: entry
            for entry in self._node.directory.all(RepositoryEntry)
            if self._node.gate.may(caller, "read", entry)
        }
        for part in chunks(sorted(readable)):
            found = await self._node.catalog.read(partial(book.find, targets=part, id_=id_))
            if found is not None:
                return found, readable[found.target]
        raise NotFoundError(f"no promotion {id_[:80]!r}")

    async def show(self, caller: Principal, id_: str) -> Promotion:
        """A promotion into a repository that the caller may read.  Raises NotFoundError."""
        return (await self._found(caller, id_))[0]

    async def page(
        self,
        target: str,
        *,
        before: str = "",
        limit: int = 100,
        status: str = "",
        concerned: str = "",
    ) -> list[Promotion]:
        """Promotions into a repository, the newest first.

        ``concerned`` leaves those whose source or target it is, ``status`` those in that state.
        """
        found: list[Promotion] = []
        while len(found) < limit:
            read = book.waiting if status == "pending" else book.page
            part = await self._node.catalog.read(
                partial(read, target=target, before=before, limit=PAGE)
            )
            found += [
                each
                for each in part
                if concerned in {"", each.target, each.asked.source} and status in {"", each.state}
            ]
            if len(part) < PAGE:
                break
            before = part[-1].id
        return found[:limit]

    def count(self, state: str) -> None:
        """Count a decision in the metrics."""
        self._counter.labels(state).inc()

    # --- checks ----------------------------------------------------------------------------------
    async def report(
        self,
        caller: Principal,
        source: RepositoryEntry,
        place: tuple[str, str],
        check: str,
        *,
        passed: bool,
        notes: str = "",
    ) -> str:
        """Note that a version passed a check, or failed it; return the content that was judged."""
        served = self._node.format_of(source.format)
        if served is None or not 0 < len(check) <= CHECK_MAX or not check.isprintable():
            raise RejectedError("not a name of a check")
        release = await served.releases.read(self._node.open(source), *place)
        here = source.key, book.CHECKS, release.content, check
        won, lost = (book.PASSED, book.FAILED) if passed else (book.FAILED, book.PASSED)
        said = Said(caller.name, self._clock(), notes[: book.NOTES_MAX])
        value = book.note("", "", "", said).value
        facts = [
            Flag(*here, f"{won}{caller.name}", value),
            Flag(*here, f"{lost}{caller.name}", None),
        ]
        await self._ledger.append(facts, actor=caller.name)
        return release.content

    # --- doing -----------------------------------------------------------------------------------
    async def _carry_out(
        self, judged: Judged, target: RepositoryEntry, actor: str, first: Sequence[Fact]
    ) -> Judged:
        """Publish everything in one transaction, between two notes that tell its records."""
        promotion, repository = judged.promotion, self._node.open(target)
        served = self._judge.format(self._judge.entry(promotion.asked.source), target)
        facts: list[Fact] = []
        for release in judged.releases:
            facts += await served.releases.adopt(repository, release)
        before = [each async for each in _moved(repository, facts)]
        now = self._clock()
        begun = book.note(target.key, promotion.id, book.BEGUN, Said(actor, now))
        done = book.note(target.key, promotion.id, book.DONE, Done(actor, now, tuple(before)))
        wish = Wish((*first, begun, *facts, done), Response())

        def check(connection: sa.Connection) -> None:
            _open(promotion)(connection)
            _unchanged(connection, judged)

        await self._node.publisher.commit(wish, target, actor=actor, promoting=check)
        found = await self._node.catalog.read(
            partial(book.find, targets=[target.key], id_=promotion.id)
        )
        return replace(judged, promotion=found or promotion)

    # --- undoing ---------------------------------------------------------------------------------
    async def roll_back(self, caller: Principal, id_: str, *, notes: str = "") -> Promotion:
        """Take out what a promotion brought; put back what it replaced, and tags that it moved.

        What was also published otherwise stays.  Raises DeniedError, ConflictError.
        """
        promotion, target = await self._found(caller, id_)
        self._node.gate.require_action(caller, "delete", target)
        if not promotion.standing:
            raise ConflictError(f"{id_} is {promotion.state}")
        served = self._node.format_of(target.format)
        if served is None:
            raise RejectedError(f"no format serves {target.format}")
        repository = self._node.open(target)
        store = self._node.publisher.blobs.store
        with ExitStack() as kept:

            async def here(digest: Digest) -> bool:
                kept.enter_context(store.pin(digest))  # so that no collection comes between
                return await store.has(digest)

            facts, check = await undoing(self._node.catalog, here, served, repository, promotion)
            said = Said(caller.name, self._clock(), notes[: book.NOTES_MAX])
            facts += [
                book.note(target.key, id_, book.UNDONE, said, path=record.hex())
                for record in promotion.standing
            ]
            await self._ledger.append(facts, actor=caller.name, check=check)
        return await self.show(caller, id_)

    async def judge(self, promotion: Promotion) -> Judged:
        """Say what a promotion lacks.  Raises NotFoundError when a repository is gone."""
        return await self._judge.judge(promotion)


async def _moved(repository: Repository, facts: Sequence[Fact]) -> AsyncIterator[Before]:
    """Where the pointers lead that are about to move."""
    for fact in facts:
        if isinstance(fact, Point):
            held = await repository.pointer(fact.package, fact.name)
            if held is not None and len(held.value) <= BEFORE_MAX:
                yield Before(fact.package, fact.name, held.value)


# --- units --------------------------------------------------------------------------------------
def _open(promotion: Promotion) -> Check:
    """A check that a promotion is still undecided.  It raises ConflictError."""

    def check(connection: sa.Connection) -> None:
        found = book.find(connection, [promotion.target], promotion.id)
        if found is not None and found.state != "pending":
            raise ConflictError(f"{promotion.id} is {found.state}")

    return check


def _unchanged(connection: sa.Connection, judged: Judged) -> None:
    """Refuse to promote what is no longer there as it was judged.  Raises ConflictError."""
    source = judged.promotion.asked.source
    wanted = {
        each.path: str(each.digest)
        for release in judged.releases
        for each in (*release.files, *release.shared)
    }
    for part in chunks(sorted(wanted)):
        query = sa.select(files.c.path, files.c.digest).where(
            files.c.repository == source, files.c.path.in_(part)
        )
        there = {row.path: row.digest for row in connection.execute(query)}
        for path in part:
            if there.get(path) != wanted[path]:
                raise ConflictError(f"{source} {path} changed meanwhile: ask again")
