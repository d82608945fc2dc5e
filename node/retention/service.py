"""Carrying retention policies out: a plan, and tombstones in the ledger.

Whoever removes looks again inside the transaction: what was published, promoted or tagged
meanwhile stays.  What went can be restored as long as its bytes are kept.

Docs: docs/retention.md.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from formats.contract import Format, Repository
from formats.releases import Release
from node.directory import PinEntry, PlacementEntry, RepositoryEntry, RetentionEntry, kind_of
from node.retention.planning import LastUsed, Node, Planned, Planner, Savers, Told
from store import packaged, schema
from store.appending import Appended, Check
from store.bulk import chunks
from store.catalog_rows import ids
from store.errors import ConflictError, NotFoundError
from store.facts import Fact
from store.foreseeing import foreseen
from store.packaged import Pointed

BATCH = 50  # versions that leave in one transaction: others want to write too
FILES_MAX = 500  # of them together, but of the first
JUDGES = (PinEntry, PlacementEntry, RetentionEntry)  # settings that a removal is judged by


class Ledger(Protocol):
    """Where facts go."""

    async def append(
        self, facts: Sequence[Fact], *, actor: str, check: Check | None = None
    ) -> Appended: ...


@dataclass(slots=True)
class Done:
    """What a run did.  ``missed`` changed between the look and the removal, and stay."""

    removed: int = 0
    bytes: int = 0
    kept: int = 0
    missed: int = 0
    by_policy: dict[str, int] = field(default_factory=dict[str, int])


class Leaving(NamedTuple):
    """A version that is about to go: what was planned, what there is of it, and what to say."""

    planned: Planned
    release: Release
    facts: Sequence[Fact]


class Retention:
    """The retention of one node."""

    def __init__(
        self,
        node: Node,
        ledger: Ledger,
        last_used: LastUsed,
        *,
        told: Told | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node, self._ledger, self._clock = node, ledger, clock
        self._planner = Planner(node, last_used, told, self._now)
        text = "Versions that retention removed"
        self._versions = node.metrics.counter("retention_removed_versions", text)
        self._bytes = node.metrics.counter("retention_removed_bytes", "Bytes of those")

    def plan(self, *, only: str = "", keys: Sequence[str] | None = None) -> AsyncGenerator[Planned]:
        """Find what would go, and what something saves; a page of packages in memory at a time.

        ``only`` is the id of a policy whose removals alone are wanted, ``keys`` are repositories.
        """
        return self._planner.plan(only=only, keys=keys)

    def _now(self) -> float:
        return self._clock()

    # --- applying --------------------------------------------------------------------------------
    async def apply(self, actor: str, *, only: str = "", keys: Sequence[str] | None = None) -> Done:
        """Remove what the plan says."""
        done = Done()
        async with aclosing(self.applying(actor, only=only, keys=keys)) as steps:
            async for each in steps:
                done = each
        return done

    async def applying(
        self, actor: str, *, only: str = "", keys: Sequence[str] | None = None
    ) -> AsyncGenerator[Done]:
        """Remove what the plan says, a bounded number of versions in each transaction.

        Tells after each what was done so far.  Stopped half-way, it has removed a part.
        """
        done = Done()
        batch: list[Planned] = []
        async with aclosing(self.plan(only=only, keys=keys)) as planned:
            async for each in planned:
                if each.verdict.kept:
                    done.kept += 1
                    continue
                if not self._joins(batch, each):
                    await self._settle(batch, actor, done)
                    yield done
                    batch = []
                batch.append(each)
        await self._settle(batch, actor, done)
        yield done

    def _joins(self, batch: Sequence[Planned], planned: Planned) -> bool:
        """Whether a version may go in one transaction with others."""
        if not batch:
            return True
        entry = self._node.directory.get(RepositoryEntry, planned.repository)
        served = self._node.format_of(entry.format) if entry is not None else None
        if served is None or batch[0].repository != planned.repository or len(batch) >= BATCH:
            return False
        if served.releases.alone and any(each.package == planned.package for each in batch):
            return False
        files = sum(len(each.verdict.edition.files) for each in (*batch, planned))
        return files <= FILES_MAX

    async def _settle(self, batch: Sequence[Planned], actor: str, done: Done) -> None:
        """Remove a batch and count it."""
        removed = await self._remove_all(batch, actor)
        for planned in removed:
            done.removed += 1
            done.bytes += planned.verdict.edition.size
            policy = planned.verdict.policy
            done.by_policy[policy] = done.by_policy.get(policy, 0) + 1
        done.missed += len(batch) - len(removed)
        self._versions.inc(len(removed))
        self._bytes.inc(sum(each.verdict.edition.size for each in removed))

    async def _remove(self, planned: Planned, actor: str) -> bool:
        """Remove one version unless it has changed; tell whether it went."""
        return bool(await self._remove_all([planned], actor))

    async def _remove_all(self, batch: Sequence[Planned], actor: str) -> list[Planned]:
        """Remove versions of one repository, those that have not changed; return which went.

        In one transaction; if anything came between, each in its own.
        """
        entry = self._node.directory.get(RepositoryEntry, batch[0].repository) if batch else None
        served = self._node.format_of(entry.format) if entry is not None else None
        if entry is None or served is None:
            return []
        names = sorted({each.package for each in batch})
        seen = await self._node.catalog.read(
            partial(packaged.pointers_of, repository=entry.key, packages=names)
        )
        judged = self._node.directory.standing(*JUDGES)  # before anything is judged by them
        pending = await self._planner.awaited.look()
        left = [each for each in batch if each.wanted not in pending.versions]
        leaving = await self._leaving(entry, served, left, seen)

        def check(connection: sa.Connection) -> None:
            if packaged.pointers_of(connection, entry.key, names) != seen:
                raise ConflictError("a tag changed meanwhile")
            if not _same(connection, entry.key, leaving):
                raise ConflictError("a version changed meanwhile")
            if _standing(connection) != judged:
                raise ConflictError("a pin, rule or policy came, changed or went meanwhile")
            if not pending.since(connection).isdisjoint(each.planned.wanted for each in leaving):
                raise ConflictError("a promotion was asked for meanwhile")

        if not leaving:
            return []
        try:
            facts = [fact for each in leaving for fact in each.facts]
            await self._ledger.append(facts, actor=actor, check=check)
        except ConflictError:
            if len(batch) == 1:
                return []
            return [each for each in batch if await self._remove(each, actor)]
        return [each.planned for each in leaving]

    async def _leaving(
        self, entry: RepositoryEntry, served: Format, batch: Sequence[Planned], seen: Pointed
    ) -> list[Leaving]:
        """What of a batch still is to go, and how."""
        policies, repository = self._planner.policies(entry), self._node.open(entry)
        found: list[Leaving] = []
        versions = [(each.package, each.verdict.edition.version) for each in batch]
        async with foreseen(self._node.catalog, entry.key, versions):
            for planned in batch:
                moved = seen.get(planned.package, {}) != planned.pointed
                moved = moved or policies != list(planned.policies)
                # A large package is not read again for each of its versions: they wait.
                if moved and planned.large:
                    continue
                if moved and not await self._planner.stands(entry, served, planned):
                    continue
                leaving = await _withdrawn(repository, served, planned)
                if leaving is not None:
                    found.append(leaving)
        savers = Savers(self._node.directory, entry, policies, self._clock())
        return [  # but what was pinned, or placed by a rule, since it was planned
            each for each in found if not savers.saved(each.planned.package, each.planned.verdict)
        ]


async def _withdrawn(repository: Repository, served: Format, planned: Planned) -> Leaving | None:
    """What to say so that a version goes; None if it has gone."""
    verdict = planned.verdict
    try:
        release = await served.releases.read(repository, planned.package, verdict.edition.version)
        reason = f"retention {verdict.policy}: {verdict.why}"
        facts = await served.releases.withdraw(repository, release, reason)
    except NotFoundError:
        return None
    return Leaving(planned, release, facts) if facts else None


def _standing(connection: sa.Connection) -> Mapping[tuple[str, str], tuple[bytes, ...]]:
    """A unit: the records of all settings that a removal is judged by."""
    table = schema.settings.c
    query = sa.select(table.kind, table.key, table.records).where(
        table.kind.in_([kind_of(each) for each in JUDGES])
    )
    return {(row.kind, row.key): ids(row.records) for row in connection.execute(query)}


def _same(connection: sa.Connection, repository: str, leaving: Sequence[Leaving]) -> bool:
    """Whether the files that were judged are still there, by the same publishes."""
    table = schema.files.c
    judged = {
        file.path: file.record
        for each in leaving
        for file in (*each.planned.verdict.edition.files, *each.release.files)
    }
    for part in chunks(sorted(judged)):
        query = sa.select(table.path, table.record).where(
            table.repository == repository, table.path.in_(part)
        )
        there = {row.path: bytes(row.record) for row in connection.execute(query)}
        if any(there.get(path) != judged[path] for path in part):
            return False
    return True
