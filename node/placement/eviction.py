"""Eviction: under a size budget, what is not needed here goes, least recently read first.

First surplus, which rules place elsewhere, then what was only fetched on demand.  Never what a
rule or a pin places here; never what is being read, staged, cached or fetched by a member; never a
copy that no reachable member has promised to keep (mesh.custody).  Docs: docs/mesh.md §13.4.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

import structlog
import trio

from node.blobs import Blobs
from node.placement.follower import Follower
from store.digest import Digest
from store.errors import RegistryError
from store.holders import Holders
from store.inventory import Row

LOW = 0.95  # of the budget: eviction stops there, so that it does not begin again at once
LOOK = 10.0  # seconds between looks at the budget
YOUNG = 60.0  # seconds that a blob stays after it came, or was pushed again
PAGE = 200  # blobs considered at a time
ASKED_MAX = 4  # holders asked for their promise
REFUSED = 300.0  # seconds until a blob that had to stay is considered again
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What this needs of the mesh: who is linked, promises, and whom a blob is being sent to."""

    linked: Callable[[], Sequence[str]]
    release: Callable[[bytes, Sequence[bytes]], Awaitable[bool]]
    done: Callable[[bytes, bool], None]
    wanted: Callable[[Digest], bool]


class Evictor:
    """Keeps the blob store under ``budget`` bytes.  ``in_use`` names blobs that must stay."""

    def __init__(
        self,
        follower: Follower,
        holders: Holders,
        blobs: Blobs,
        neighbours: Neighbours,
        *,
        budget: int,
        in_use: Callable[[Sequence[Digest]], Awaitable[Collection[Digest]]],
    ) -> None:
        self._follower, self._holders, self._blobs = follower, holders, blobs
        self._neighbours, self._in_use = neighbours, in_use
        self.budget = budget
        self.evicted = 0  # blobs since the start
        self.freed = 0  # bytes
        self._refused: dict[bytes, float] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self.collect()
            except (RegistryError, OSError) as error:
                log.warning("eviction failed", error=str(error))
            await trio.sleep(LOOK)

    @property
    def excess(self) -> int:
        """Bytes beyond the budget."""
        return max(0, self._follower.inventory.tally.stored - self.budget)

    async def collect(self) -> int:
        """Evict until the budget is kept, or nothing more may go; return the bytes freed."""
        if not self.budget or not self.excess:
            return 0
        await self._follower.flush()  # who has been read of late stays longest
        now = trio.current_time()
        self._refused = {blob: at for blob, at in self._refused.items() if at > now}
        before, low = self.freed, int(self.budget * LOW)
        for surplus in (True, False):
            after = -1.0
            while self._follower.inventory.tally.stored > low:
                page = await self._follower.inventory.spare(
                    surplus=surplus, after=after, limit=PAGE
                )
                fresh = [row for row in page if row.blob not in self._refused]
                for row in fresh:
                    if self._follower.inventory.tally.stored <= low:
                        break
                    if not await self.let_go(row):
                        self._refused[row.blob] = now + REFUSED
                if len(page) < PAGE or (not fresh and page[-1].used <= after):
                    break
                after = page[-1].used
        if self.freed > before:
            log.info("evicted", bytes=self.freed - before, stored=self.excess + self.budget)
        return self.freed - before

    async def let_go(self, row: Row) -> bool:
        """Let one blob go if that is safe, whatever the budget; tell whether it is gone."""
        digest = Digest("sha256", row.blob.hex())
        if await self._needed(digest):
            return False
        holders = await self._likely(digest)
        if not await self._neighbours.release(row.blob, holders):
            return False
        gone = False
        try:
            if not await self._needed(digest):
                await self._blobs.index.forget(digest)
                gone = await self._blobs.store.expire(digest, time.time() - YOUNG)
        finally:
            self._neighbours.done(row.blob, gone)
        if gone:
            await self._follower.inventory.hold({row.blob: 0}, held=False)
            self.evicted += 1
            self.freed += row.size
        return gone

    async def _needed(self, digest: Digest) -> bool:
        """Look again: rules, pins, readers, uploads and members may have come meanwhile."""
        if digest in self._blobs.store.pinned() or self._neighbours.wanted(digest):
            return True
        if await self._in_use([digest]):
            return True
        await self._follower.judge([digest.raw])
        row = (await self._follower.inventory.rows([digest.raw])).get(digest.raw)
        return row is None or row.wanted or not row.turn or not row.held

    async def _likely(self, digest: Digest) -> list[bytes]:
        """Return linked members that say they hold it, those who should first."""
        holding = (await self._holders.of([digest.raw]))[digest.raw]
        linked = [node for node in self._neighbours.linked() if node in holding]
        uses = (await self._follower.uses.of([str(digest)]))[str(digest)]
        placed = self._follower.place(digest.raw, uses, now=time.time()).holders
        linked.sort(key=lambda node: (node not in placed, node))
        return [bytes.fromhex(node) for node in linked[:ASKED_MAX]]
