"""What policies say of everything a node has: a walk that holds a page of packages in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from formats.contract import Format, Repository
from formats.releases import Edition
from mesh.placement import Pin, Rule, Use
from node.directory import Directory, PinEntry, RepositoryEntry, RetentionEntry
from node.metrics import Metrics
from node.placement.policy import rules_of, traits_of
from node.retention.awaited import Awaited, Wanted
from node.retention.policy import Judge, Policy, Used, Verdict
from node.retention.reading import Reading, read
from store.catalog import Catalog
from store.digest import Digest
from store.usage import Usage

ON_DEMAND = "on-demand"
LastUsed = Callable[[Sequence[Digest]], Awaitable[Mapping[Digest, float]]]
# Of a repository, packages, and (none: all) versions: how each (package, version) was used.
Told = Callable[[str, Sequence[str], Sequence[str]], Awaitable[Mapping[tuple[str, str], Usage]]]


class Node(Protocol):
    """What retention needs of the node."""

    @property
    def directory(self) -> Directory: ...

    @property
    def catalog(self) -> Catalog: ...

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
    large: bool = False  # its package is not to be judged again for it alone

    @property
    def wanted(self) -> Wanted:
        """What a promotion that asks for it names."""
        return Wanted(self.repository, self.package, self.verdict.edition.version)


class Planner:
    """Judges versions.  ``clock`` is seconds since 1970."""

    def __init__(
        self, node: Node, last_used: LastUsed, told: Told | None, clock: Callable[[], float]
    ) -> None:
        self._node, self._last_used, self._told, self.clock = node, last_used, told, clock
        self.awaited = Awaited(node.catalog)

    async def plan(
        self, *, only: str = "", keys: Sequence[str] | None = None
    ) -> AsyncGenerator[Planned]:
        """Find what would go, and what something saves.

        ``only`` is the id of a policy whose removals alone are wanted, ``keys`` are repositories.
        """
        for entry in self._node.directory.all(RepositoryEntry):
            policies, served = self.policies(entry), self._node.format_of(entry.format)
            wanted = keys is None or entry.key in keys
            removing = any(not each.keep and only in {"", each.id} for each in policies)
            if not wanted or not removing or served is None:
                continue
            if entry.repo_type not in {"local", "staging"}:
                continue
            async with aclosing(self._judged(entry, served, policies)) as pages:
                async for page in pages:
                    pending = (await self.awaited.look()).versions
                    savers = Savers(self._node.directory, entry, policies, self.clock())
                    for each in page:
                        if only in {"", each.verdict.policy}:
                            yield savers.weigh(each, pending)

    async def stands(self, entry: RepositoryEntry, served: Format, planned: Planned) -> bool:
        """Judge a package anew whose tags or policies are others now: either may keep it."""
        wanted = (planned.verdict.policy, planned.verdict.edition.version)
        policies, names = self.policies(entry), [planned.package]
        async with aclosing(self._judged(entry, served, policies, names)) as pages:
            async for page in pages:
                for verdict in (each.verdict for each in page):
                    if (verdict.policy, verdict.edition.version) == wanted:
                        return not verdict.kept
        return False

    def policies(self, entry: RepositoryEntry) -> list[Policy]:
        """The policies of a repository that are in force."""
        return [
            each.policy
            for each in self._node.directory.all(RetentionEntry)
            if not each.disabled
            and any(fnmatchcase(entry.key, pattern) for pattern in each.policy.repositories)
        ]

    async def _judged(
        self,
        entry: RepositoryEntry,
        served: Format,
        policies: Sequence[Policy],
        names: Sequence[str] = (),
    ) -> AsyncGenerator[list[Planned]]:
        """The verdicts on what was read at once; a package's oldest first, unless it is large."""
        repository, judging = self._node.open(entry), Judge(policies, "", self.clock())
        reading = read(self._node.catalog, repository, served, only=names)
        async with aclosing(reading) as readings:
            async for each in readings:
                used = await self._used(entry.key, each, policies)
                page = list[Planned]()
                for held in each.held:
                    if held.package != judging.package:
                        judging = Judge(policies, held.package, self.clock())
                    pointed = each.pointed.get(held.package, {})
                    found = [
                        Planned(entry.key, held.package, verdict, pointed, policies, held.large)
                        for edition in held.editions
                        if (verdict := judging.judge(edition, used(held.package, edition)))
                    ]
                    page += found if held.large else found[::-1]
                if page:  # whoever asks looks for what saves them: once for all
                    yield page

    async def _used(
        self, key: str, reading: Reading, policies: Sequence[Policy]
    ) -> Callable[[str, Edition], Used]:
        """How versions were used, here or anywhere, if any policy asks for that."""
        if not any(policy.unused_for or policy.downloads_below for policy in policies):
            return lambda *_: Used()
        editions = [edition for held in reading.held for edition in held.editions]
        here = await self._last_used([file.digest for each in editions for file in each.files])
        told: Mapping[tuple[str, str], Usage] = {}
        if self._told is not None:
            large = any(held.large for held in reading.held)
            versions = {file.version for each in editions for file in each.files} if large else ()
            names = [held.package for held in reading.held]
            told = await self._told(key, names, sorted(versions))

        def used(package: str, edition: Edition) -> Used:
            known = [here.get(file.digest, 0.0) for file in edition.files]
            versions = {file.version for file in edition.files}
            said = [told[package, each] for each in versions if (package, each) in told]
            last = max([*known, *(each.last for each in said)], default=0.0)
            return Used(last, sum(each.downloads for each in said))

        return used


class Savers:
    """What keeps versions of a repository whatever the policies say, as of now."""

    def __init__(
        self, directory: Directory, entry: RepositoryEntry, policies: Sequence[Policy], now: float
    ) -> None:
        self._key, self._now = entry.key, now
        self._rules: Sequence[Rule] = rules_of(directory)
        self._traits = traits_of(entry)
        self._placed = {each.id for each in policies if each.placed}
        self._pins = [
            Pin(each.id, each.repository, each.path, each.digest)
            for each in directory.all(PinEntry)
            if each.repository == entry.key
        ]

    def weigh(self, planned: Planned, pending: Collection[Wanted]) -> Planned:
        """The verdict with what saves the version, if anything does."""
        verdict = planned.verdict
        kept = verdict.kept or ("a promotion waits for it" if planned.wanted in pending else "")
        kept = kept or self.saved(planned.package, verdict)
        if not kept:
            return planned
        return Planned(planned.repository, planned.package, verdict._replace(kept=kept))

    def saved(self, package: str, verdict: Verdict) -> str:
        """What keeps a version; "" for nothing."""
        edition = verdict.edition
        if any(each.conflicted or each.pending for each in edition.files):
            return "it is conflicted, or not confirmed yet"
        rules = () if verdict.policy in self._placed else self._rules
        if not rules and not self._pins:
            return ""
        for file in edition.files:
            use = Use(self._key, package, file.path, file.size, file.published)
            for pin in self._pins:
                if pin.covers(use, str(file.digest)):
                    return f"pin {pin.id[:8]}"
            for rule in rules:
                if rule.matches(use, self._traits, now=self._now, reads=0):
                    if rule.target.kind != ON_DEMAND:
                        return f"placement rule {rule.id}"
                    break
        return ""
