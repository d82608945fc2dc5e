"""Judging promotions: what the ledger holds about one, against what its target asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from formats.contract import Format, Principal, Repository
from formats.releases import Release
from node.access.gate import Gate
from node.directory import Directory, RepositoryEntry, UserEntry
from node.metrics import Metrics
from node.promotion import book
from node.promotion.book import Promotion
from node.promotion.rules import Evidence, Unmet, unmet
from node.repositories.publishing import Publisher
from store.catalog import Catalog
from store.errors import NotFoundError, RejectedError


class Node(Protocol):
    """What promotions need of the node."""

    @property
    def gate(self) -> Gate: ...

    @property
    def directory(self) -> Directory: ...

    @property
    def catalog(self) -> Catalog: ...

    @property
    def publisher(self) -> Publisher: ...

    @property
    def metrics(self) -> Metrics: ...

    def format_of(self, key: str) -> Format | None: ...

    def open(self, entry: RepositoryEntry) -> Repository: ...

    def entry(self, key: str) -> RepositoryEntry | None: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """A promotion, what it would bring, and what it lacks."""

    promotion: Promotion
    releases: tuple[Release, ...]
    unmet: tuple[Unmet, ...]


class Judge:
    """Says what promotions lack."""

    def __init__(self, node: Node, clock: Callable[[], float] = time.time) -> None:
        self._node, self._clock = node, clock

    async def judge(self, promotion: Promotion) -> Judged:
        """Say what a pending promotion lacks.  Raises NotFoundError when a repository is gone."""
        source = self.entry(promotion.asked.source)
        target = self.entry(promotion.target)
        served = self.format(source, target)
        repository, releases = self._node.open(source), list[Release]()
        lacking: list[Unmet] = []
        for item in promotion.asked.items:
            try:
                release = await served.releases.read(repository, item.package, item.version)
            except NotFoundError as error:
                lacking.append(Unmet("content", str(error)))
                continue
            releases.append(release)
            if release.content != item.content:
                what = f"{item.package} {item.version}"
                lacking.append(Unmet("content", f"{what} changed since it was asked for"))
        lacking += unmet(
            target.promotion, await self._evidence(promotion, source, target, releases)
        )
        return Judged(promotion, tuple(releases), tuple(lacking))

    async def _evidence(
        self,
        promotion: Promotion,
        source: RepositoryEntry,
        target: RepositoryEntry,
        releases: Sequence[Release],
    ) -> Evidence:
        brought = [each for release in releases for each in release.files]
        ids = {each.record for each in brought}
        publishers = await self._node.catalog.read(partial(book.actors, ids=ids))
        checks = {
            name: [
                await self._node.catalog.read(
                    partial(book.verdict, source=source.key, content=item.content, check=name)
                )
                for item in promotion.asked.items
            ]
            for name in target.promotion.checks
        }
        named = {promotion.asked.by, *promotion.approvals}
        named |= {u for each in checks.values() for v in each for u in (*v.passed, *v.failed)}
        return Evidence(
            source=source.key,
            staging=source.repo_type == "staging",
            requester=promotion.asked.by,
            publishers=frozenset(publishers),
            age=self._clock() - max((each.published for each in brought), default=0.0),
            conflicted=[each.path for each in brought if each.conflicted],
            approvers=frozenset(promotion.approvals),
            writers=frozenset(user for user in named if self._writes(user, target)),
            checks=checks,
        )

    def _writes(self, name: str, target: RepositoryEntry) -> bool:
        """Whether a user may publish there today, whatever he could when he said something."""
        user = self._node.directory.get(UserEntry, name)
        if user is None or user.disabled:
            return False
        return self._node.gate.may(Principal(name, "user", user.is_admin), "write", target)

    def entry(self, key: str) -> RepositoryEntry:
        found = self._node.entry(key)
        if found is None:
            raise NotFoundError(f"no repository {key!r}")
        return found

    def format(self, source: RepositoryEntry, target: RepositoryEntry) -> Format:
        """The format that both have.  Raises RejectedError if nothing can be promoted so."""
        served = self._node.format_of(target.format)
        if served is None or self._node.format_of(source.format) is not served:
            raise RejectedError(f"{source.key} and {target.key} are of different formats")
        for entry in (source, target):
            if entry.repo_type not in {"local", "staging"}:
                raise RejectedError(
                    f"{entry.key} is {entry.repo_type}: it holds nothing of its own"
                )
        if source.key == target.key:
            raise RejectedError(f"{source.key} is both source and target")
        return served
