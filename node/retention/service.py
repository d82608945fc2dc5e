"""Carrying retention policies out: a walk over packages, and tombstones in the ledger.

Whoever removes looks again inside the transaction: what was published, promoted or tagged
meanwhile stays.  What went can be restored as long as its bytes are kept.

Docs: docs/retention.md.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Protocol

import sqlalchemy as sa
import structlog

from formats.contract import Format, Repository
from formats.releases import Release
from mesh.placement import Pin, Rule, Use
from node.directory import (
    Directory,
    PinEntry,
    PlacementEntry,
    RepositoryEntry,
    RetentionEntry,
    kind_of,
)
from node.metrics import Metrics
from node.placement.policy import rules_of, traits_of
from node.promotion.service import Promotions
from node.retention.policy import Policy, Verdict, judge
from store import schema
from store.appending import Appended, Check
from store.bulk import chunks
from store.catalog import Catalog
from store.catalog_rows import ids
from store.digest import Digest
from store.errors import ConflictError, NotFoundError
from store.facts import Fact

PAGE = 200  # packages read at once
PENDING_SECONDS = 2.0  # that a list of pending promotions counts as new
ON_DEMAND = "on-demand"
JUDGES = (PinEntry, PlacementEntry, RetentionEntry)  # settings that a removal is judged by
LastUsed = Callable[[Sequence[Digest]], Awaitable[Mapping[Digest, float]]]
LastTold = Callable[[str, str, str], Awaitable[float]]  # of a repository, package and version
log = structlog.get_logger(__name__)


class Ledger(Protocol):
    """Where facts go."""

    async def append(
        self, facts: Sequence[Fact], *, actor: str, check: Check | None = None
    ) -> Appended: ...


class Node(Protocol):
    """What retention needs of the node."""

    @property
    def directory(self) -> Directory: ...

    @property
    def catalog(self) -> Catalog: ...

    @property
    def promotions(self) -> Promotions: ...

    @property
    def metrics(self) -> Metrics: ...

    def format_of(self, key: str) -> Format | None: ...

    def open(self, entry: RepositoryEntry) -> Repository: ...


@dataclass(frozen=True, slots=True)
class Planned:
    """A version that some policy would remove."""

    repository: str
    package: str
    verdict: Verdict
    pointed: Mapping[str, bytes] = field(default_factory=dict[str, bytes])  # when it was judged
    policies: Sequence[Policy] = ()  # that it was judged by


@dataclass(slots=True)
class Done:
    """What a run did.  ``missed`` changed between the look and the removal, and stay."""

    removed: int = 0
    bytes: int = 0
    kept: int = 0
    missed: int = 0
    by_policy: dict[str, int] = field(default_factory=dict[str, int])


class Retention:
    """The retention of one node."""

    def __init__(
        self,
        node: Node,
        ledger: Ledger,
        last_used: LastUsed,
        *,
        told: LastTold | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._told = told
        self._node, self._ledger, self._last_used, self._clock = node, ledger, last_used, clock
        text = "Versions that retention removed"
        self._versions = node.metrics.counter("retention_removed_versions", text)
        self._bytes = node.metrics.counter("retention_removed_bytes", "Bytes of those")

    # --- planning --------------------------------------------------------------------------------
    async def plan(
        self, *, only: str = "", keys: Sequence[str] | None = None
    ) -> AsyncGenerator[Planned]:
        """Find what would go, and what something saves; a package in memory at a time.

        ``only`` is the id of a policy whose removals alone are wanted, ``keys`` are repositories.
        """
        pending, asked_at = await self._pending(), time.monotonic()
        for entry in self._node.directory.all(RepositoryEntry):
            policies = self._policies(entry)
            wanted = keys is None or entry.key in keys
            served = self._node.format_of(entry.format)
            removing = any(not each.keep and only in {"", each.id} for each in policies)
            if not wanted or not removing or served is None:
                continue
            if entry.repo_type not in {"local", "staging"}:
                continue
            after = ""
            while packages := await self._node.catalog.packages(entry.key, after=after, limit=PAGE):
                after = packages[-1]
                for package in packages:
                    pointed = await self._pointed(entry.key, package)
                    for verdict in await self._judge(entry, served, package, policies):
                        if only not in {"", verdict.policy}:
                            continue
                        if time.monotonic() > asked_at + PENDING_SECONDS:
                            pending, asked_at = await self._pending(), time.monotonic()
                        asked = (entry.key, package, verdict.edition.version) in pending
                        kept = verdict.kept or ("a promotion waits for it" if asked else "")
                        kept = kept or self._saved(entry, package, verdict, policies)
                        verdict = verdict._replace(kept=kept)
                        yield Planned(entry.key, package, verdict, pointed, policies)

    def _policies(self, entry: RepositoryEntry) -> list[Policy]:
        return [
            each.policy
            for each in self._node.directory.all(RetentionEntry)
            if not each.disabled
            and any(fnmatchcase(entry.key, pattern) for pattern in each.policy.repositories)
        ]

    async def _judge(
        self, entry: RepositoryEntry, served: Format, package: str, policies: Sequence[Policy]
    ) -> list[Verdict]:
        editions = await served.releases.list(self._node.open(entry), package)
        used: dict[str, float] = {}
        if any(policy.unused_for for policy in policies):
            digests = [file.digest for each in editions for file in each.files]
            read = await self._last_used(digests)
            for each in editions:
                last = [read.get(file.digest, 0.0) for file in each.files]
                if self._told is not None:
                    versions = sorted({file.version for file in each.files})
                    last += [await self._told(entry.key, package, v) for v in versions]
                used[each.version] = max(last, default=0.0)
        return judge(policies, package, editions, used, self._clock())

    async def _pending(self) -> set[tuple[str, str, str]]:
        """Versions that somebody has asked to promote: (source, package, version)."""
        found: set[tuple[str, str, str]] = set()
        for entry in self._node.directory.all(RepositoryEntry):
            before = ""
            while page := await self._node.promotions.page(
                entry.key, before=before, status="pending"
            ):
                before = page[-1].id
                for each in page:
                    for item in each.asked.items:
                        found.add((each.asked.source, item.package, item.resolved))
        return found

    def _pins(self, repository: str) -> list[Pin]:
        return [
            Pin(each.id, each.repository, each.path, each.digest)
            for each in self._node.directory.all(PinEntry)
            if each.repository == repository
        ]

    def _saved(
        self,
        entry: RepositoryEntry,
        package: str,
        verdict: Verdict,
        policies: Sequence[Policy],
    ) -> str:
        """What keeps a version whatever the policies say, as of now; "" for nothing."""
        edition = verdict.edition
        placed = any(each.placed for each in policies if each.id == verdict.policy)
        rules: Sequence[Rule] = () if placed else rules_of(self._node.directory)
        if any(each.conflicted or each.pending for each in edition.files):
            return "it is conflicted, or not confirmed yet"
        now, traits, pins = self._clock(), traits_of(entry), self._pins(entry.key)
        for file in edition.files:
            use = Use(entry.key, package, file.path, file.size, file.published)
            for pin in pins:
                if pin.covers(use, str(file.digest)):
                    return f"pin {pin.id[:8]}"
            for rule in rules:
                if rule.matches(use, traits, now=now, reads=0):
                    if rule.target.kind != ON_DEMAND:
                        return f"placement rule {rule.id}"
                    break
        return ""

    # --- applying --------------------------------------------------------------------------------
    async def apply(self, actor: str, *, only: str = "", keys: Sequence[str] | None = None) -> Done:
        """Remove what the plan says; each version in a transaction of its own."""
        done = Done()
        async with aclosing(self.plan(only=only, keys=keys)) as planned:
            async for each in planned:
                if each.verdict.kept:
                    done.kept += 1
                elif await self._remove(each, actor):
                    done.removed += 1
                    done.bytes += each.verdict.edition.size
                    policy = each.verdict.policy
                    done.by_policy[policy] = done.by_policy.get(policy, 0) + 1
                else:
                    done.missed += 1
        self._versions.inc(done.removed)
        self._bytes.inc(done.bytes)
        return done

    async def _pointed(self, repository: str, package: str) -> dict[str, bytes]:
        unit = partial(_pointed, repository=repository, package=package)
        return await self._node.catalog.read(unit)

    async def _stands(self, entry: RepositoryEntry, served: Format, planned: Planned) -> bool:
        """Judge a package anew whose tags or policies are others now: either may keep it."""
        verdicts = await self._judge(entry, served, planned.package, self._policies(entry))
        wanted = planned.verdict
        return any(
            not each.kept
            and (each.policy, each.edition.version) == (wanted.policy, wanted.edition.version)
            for each in verdicts
        )

    async def _remove(self, planned: Planned, actor: str) -> bool:
        """Remove one version unless it has changed; tell whether it went."""
        entry = self._node.directory.get(RepositoryEntry, planned.repository)
        served = self._node.format_of(entry.format) if entry is not None else None
        if entry is None or served is None:
            return False
        repository, verdict = self._node.open(entry), planned.verdict
        seen = await self._pointed(entry.key, planned.package)
        policies = self._policies(entry)
        moved = seen != planned.pointed or policies != list(planned.policies)
        if moved and not await self._stands(entry, served, planned):
            return False
        try:
            release = await served.releases.read(
                repository, planned.package, verdict.edition.version
            )
            reason = f"retention {verdict.policy}: {verdict.why}"
            facts = await served.releases.withdraw(repository, release, reason)
        except NotFoundError:
            return False
        if self._saved(entry, planned.package, verdict, policies):
            return False  # pinned, or placed by a rule, since it was planned
        judged = self._node.directory.standing(*JUDGES)

        def check(connection: sa.Connection) -> None:
            pointed = _pointed(connection, entry.key, planned.package)
            if pointed != seen or not _same(connection, planned, release):
                raise ConflictError("it changed meanwhile")
            if _standing(connection) != judged:
                raise ConflictError("a pin, rule or policy came, changed or went meanwhile")

        try:
            if facts:
                await self._ledger.append(facts, actor=actor, check=check)
        except ConflictError:
            return False
        return bool(facts)


def _pointed(connection: sa.Connection, repository: str, package: str) -> dict[str, bytes]:
    """A unit: the pointers of a package, by the records that set them."""
    table = schema.pointers.c
    query = sa.select(table.name, table.records).where(
        table.repository == repository, table.package == package
    )
    return {row.name: bytes(row.records) for row in connection.execute(query)}


def _standing(connection: sa.Connection) -> dict[tuple[str, str], tuple[bytes, ...]]:
    """A unit: the records of all settings that a removal is judged by."""
    table = schema.settings.c
    query = sa.select(table.kind, table.key, table.records).where(
        table.kind.in_([kind_of(each) for each in JUDGES])
    )
    return {(row.kind, row.key): ids(row.records) for row in connection.execute(query)}


def _same(connection: sa.Connection, planned: Planned, release: Release) -> bool:
    """Whether the files that were judged are still there, by the same publishes."""
    table = schema.files.c
    judged = {each.path: each.record for each in (*planned.verdict.edition.files, *release.files)}
    for part in chunks(sorted(judged)):
        query = sa.select(table.path, table.record).where(
            table.repository == planned.repository, table.path.in_(part)
        )
        there = {row.path: bytes(row.record) for row in connection.execute(query)}
        if any(there.get(path) != judged[path] for path in part):
            return False
    return True
