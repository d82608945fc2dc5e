"""Garbage: blobs that nothing refers to any more, once they are old enough.

Mark: the caller knows what is referred to (catalog, staged uploads, pushes, peers' pending pulls).
Sweep: shard by shard, so that it can stop and go on, and holds 1/256 of the names at most.

A blob survives if it is marked, pinned, or younger than the grace period, which covers the time
between ingesting a blob and committing what refers to it.  The mark is asked for the whole shard
and again before each deletion, and ingesting a blob again makes it young: what is published
meanwhile survives.  Whoever is about to refer to an *old* blob without ingesting it pins it first
and then asks whether it is here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from store.digest import Digest
from store.holdings import PREFIXES, Holding

GRACE = 24 * 3600.0  # seconds
Marked = Callable[[Sequence[Digest]], Awaitable[Collection[Digest]]]


class Sweepable(Protocol):
    """What a store must offer to be swept.  Every back end does."""

    async def shard(self, prefix: str) -> list[Holding]:
        """Return the blobs whose hex begins with ``prefix``, two characters."""
        ...

    def pin(self, digest: Digest) -> AbstractContextManager[None]:
        """Keep a blob, here or not yet, from being removed for the length of the block."""
        ...

    def pinned(self) -> frozenset[Digest]:
        """Return the blobs that are in use now."""
        ...

    async def expire(self, digest: Digest, published: float) -> bool:
        """Remove a blob unless it is pinned or was published after ``published``.

        Atomic: nobody can pin or publish it between the check and the removal.
        """
        ...


@dataclass(slots=True)
class Swept:
    """What a sweep did.  ``next`` is the prefix to go on from; None once all are done."""

    seen: int = 0
    seen_size: int = 0
    deleted: list[Digest] = field(default_factory=list)  # by the last step
    freed: int = 0  # bytes
    kept_young: int = 0
    kept_in_use: int = 0  # pinned, or published again during the sweep
    next: str | None = PREFIXES[0]


class Sweep(AsyncIterator[Swept]):
    """Delete what is not ``marked``: iterate; each step sweeps a shard and gives the report so far.

    ``marked`` gets digests and returns those of them that must stay.  ``forget`` is told before a
    blob goes, so that no index outlives it.  ``now`` is in seconds since 1970, like the ages of
    blobs.  Stop iterating at any time; ``start`` continues from a report's ``next``.  With
    ``dry_run`` nothing goes, and the report says what would.
    """

    def __init__(
        self,
        store: Sweepable,
        marked: Marked,
        *,
        now: float,
        grace: float = GRACE,
        start: str = PREFIXES[0],
        forget: Callable[[Digest], Awaitable[None]] | None = None,
        dry_run: bool = False,
    ) -> None:
        self._store, self._marked, self._forget = store, marked, forget
        self._dry_run = dry_run
        self._youngest = now - grace
        self._report = Swept(next=start)

    async def __anext__(self) -> Swept:
        report = self._report
        if report.next is None:
            raise StopAsyncIteration
        position = PREFIXES.index(report.next)
        report.deleted = []
        await self._sweep(report, await self._store.shard(report.next))
        report.next = PREFIXES[position + 1] if position + 1 < len(PREFIXES) else None
        return report

    async def _sweep(self, report: Swept, holdings: Sequence[Holding]) -> None:
        report.seen += len(holdings)
        report.seen_size += sum(holding.size for holding in holdings)
        old = [holding for holding in holdings if holding.modified <= self._youngest]
        report.kept_young += len(holdings) - len(old)
        if not old:
            return
        kept = set(await self._marked([holding.digest for holding in old]))
        for holding in old:
            if holding.digest in kept:
                continue
            if await self._delete(holding.digest):
                report.deleted.append(holding.digest)
                report.freed += holding.size
            else:
                report.kept_in_use += 1

    async def _delete(self, digest: Digest) -> bool:
        """Look again, then delete; tell whether the blob is gone."""
        if digest in self._store.pinned() or await self._marked([digest]):
            return False
        if self._dry_run:
            return True
        if self._forget is not None:
            await self._forget(digest)
        return await self._store.expire(digest, self._youngest)
