"""Garbage collection over everything that can name a blob on this node.

One collection at a time.  It goes on where the last one was cut off, by a stop or a crash, and
holds 1/256 of the names at most.  What it did last, and in all, is told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from node.blobs import Blobs
from node.config import Config
from node.metrics import Metrics
from node.repositories.local import Services
from store.digest import Digest
from store.errors import ConflictError
from store.gc import Sweep
from store.holdings import PREFIXES
from store.references import References
from store.staging import Staging

RESTORABLE = 30 * 86400.0  # seconds a deleted coordinate's bytes are kept for a restore
PLACE = "collecting"  # the file that says where a collection has got


class Freed(msgspec.Struct):
    """What a collection did, or with ``dry_run`` would do.  Sizes are in bytes."""

    blobs: int = 0
    bytes: int = 0
    seen: int = 0
    seen_bytes: int = 0
    kept_young: int = 0
    kept_in_use: int = 0
    began_at: float = 0.0
    ended_at: float = 0.0
    resumed: bool = False  # it went on from where another had been cut off
    dry_run: bool = False


class Node(Protocol):
    """What collecting needs of the node."""

    @property
    def config(self) -> Config: ...

    @property
    def references(self) -> References: ...

    @property
    def blobs(self) -> Blobs: ...

    @property
    def staging(self) -> Staging: ...

    @property
    def services(self) -> Services: ...

    @property
    def metrics(self) -> Metrics: ...


async def in_use(node: Node, digests: Sequence[Digest]) -> set[Digest]:
    """Those of the digests that an upload has staged, or a rendered document set names."""
    staged = await node.staging.referenced(digests)
    return staged | (node.services.cache.referenced() & set(digests))


class Collector:
    """Collects the garbage of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._place: Path = node.config.path / PLACE
        self._blobs = node.metrics.counter("gc_blobs", "Blobs that garbage collection removed")
        self._bytes = node.metrics.counter("gc_bytes", "Bytes that garbage collection freed")
        self.last = Freed()
        self.running = False

    async def collect(self, *, dry_run: bool = False) -> Freed:
        """Remove blobs that no file, metadata, pointer, staged upload or cached document names.

        Younger blobs than the grace period stay: a push may be about to name them.  Raises
        ConflictError while another collection is under way.
        """
        if self.running:
            raise ConflictError("a collection is under way")
        self.running = True
        try:
            return await self._collect(dry_run=dry_run)
        finally:
            self.running = False

    async def _collect(self, *, dry_run: bool) -> Freed:
        now, node = time.time(), self._node
        start = PREFIXES[0] if dry_run else await trio.to_thread.run_sync(self._start)

        async def marked(digests: Sequence[Digest]) -> Collection[Digest]:
            kept = await node.references.among(digests, deleted_since=now - RESTORABLE)
            return kept | await in_use(node, digests)

        sweep = Sweep(
            node.blobs.store,
            marked,
            now=now,
            grace=node.config.blobs.gc_grace,
            start=start,
            forget=node.blobs.index.forget,
            dry_run=dry_run,
        )
        freed = Freed(began_at=now, resumed=start != PREFIXES[0], dry_run=dry_run)
        async for report in sweep:
            if not dry_run:
                self._blobs.inc(len(report.deleted))
                self._bytes.inc(report.freed - freed.bytes)
                await trio.to_thread.run_sync(self._note, report.next)
            freed.blobs += len(report.deleted)
            freed.bytes, freed.seen, freed.seen_bytes = report.freed, report.seen, report.seen_size
            freed.kept_young, freed.kept_in_use = report.kept_young, report.kept_in_use
        freed.ended_at = time.time()
        if not dry_run:
            self.last = freed
        return freed

    def _start(self) -> str:
        """Where the last collection was cut off, else the beginning."""
        try:
            found = json.loads(self._place.read_text())
        except (OSError, ValueError):
            return PREFIXES[0]
        return found if found in PREFIXES else PREFIXES[0]

    def _note(self, following: str | None) -> None:
        """Write down where to go on.  Lost, it costs a look at what was looked at."""
        if following is None:
            self._place.unlink(missing_ok=True)
        else:
            self._place.write_text(json.dumps(following))
