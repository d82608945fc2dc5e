"""Garbage collection over everything that can name a blob on this node."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from node.core import Core
from store.digest import Digest
from store.gc import Sweep

RESTORABLE = 30 * 86400.0  # seconds a deleted coordinate's bytes are kept for a restore


@dataclass(frozen=True, slots=True)
class Freed:
    """What a collection removed."""

    blobs: int
    bytes: int


async def in_use(core: Core, digests: Sequence[Digest]) -> set[Digest]:
    """Those of the digests that an upload has staged, or a rendered document set names."""
    staged = await core.staging.referenced(digests)
    return staged | (core.services.cache.referenced() & set(digests))


async def collect(core: Core) -> Freed:
    """Remove blobs that no file, metadata, pointer, staged upload or cached document names.

    Younger blobs than the grace period stay: a push may be about to name them.
    """
    now = time.time()

    async def marked(digests: Sequence[Digest]) -> Collection[Digest]:
        kept = await core.references.among(digests, deleted_since=now - RESTORABLE)
        return kept | await in_use(core, digests)

    grace = core.config.blobs.gc_grace
    blobs = freed = 0
    sweep = Sweep(core.blobs.store, marked, now=now, grace=grace, forget=core.blobs.index.forget)
    async for report in sweep:
        blobs += len(report.deleted)
        freed = report.freed
    return Freed(blobs, freed)
