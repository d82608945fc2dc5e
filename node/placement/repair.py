"""Repair: what should be here and is not is fetched, in the background and a few at a time.

Pull only: no node is ever sent what it did not ask for.  What a commit has just placed here goes
first, as policy replication; what has been missing for longer is repair.  Both are behind every
waiting client in the queues of those who serve (docs/mesh.md §9).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
import trio

from mesh.messages import POLICY, REPAIR
from node.placement.follower import Follower
from store.digest import Digest
from store.errors import NoHolderError, RegistryError
from store.inventory import Row
from store.uses import Uses

SLOTS = 64  # blobs fetched at a time, if they are small: what they cost is round trips
LARGE, LARGE_SLOTS = 256 << 10, 16  # bytes from which on a blob takes so many slots
PAGE = 100  # missing blobs looked at in one go
RETRY, RETRY_MAX = 2.0, 300.0  # seconds before what could not be had is tried again
FAILED_MAX = 20_000  # failures remembered
LOOK = 60.0  # seconds between looks while nothing happens
RATE_HALF_LIFE = 60.0  # seconds of work in which what was measured counts half
log = structlog.get_logger(__name__)


class Fetch(Protocol):
    """What this needs of the mesh."""

    async def __call__(
        self, digest: Digest, *, size: int | None, manifest_id: bytes, priority: int
    ) -> None:
        """Bring a whole blob here.  Raises NoHolderError."""
        ...


class Repair:
    """Fetches what the inventory lacks.  ``met`` waits until another member is linked.

    ``rate`` is bytes per second over all fetches of this kind, 0 for no cap.
    """

    def __init__(
        self,
        follower: Follower,
        uses: Uses,
        fetch: Fetch,
        met: Callable[[], Awaitable[None]],
        *,
        rate: float = 0.0,
    ) -> None:
        self._follower, self._uses, self._fetch, self._met = follower, uses, fetch, met
        self._rate, self._free_at = rate, -math.inf
        self._failed: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # retry at, pause
        self._busy: set[bytes] = set()
        self._looked = -math.inf
        self._free, self._freed = SLOTS, trio.Event()
        self.fetched = 0  # bytes, since the start
        self.missed: Callable[[bytes], None] = lambda _: None  # a blob that nobody gave
        self._bytes = self._seconds = self._marked = 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._forgive)
            while True:
                changed = self._follower.changed
                worked = await self._round(nursery)
                if not worked:
                    with trio.move_on_after(self._patience()):
                        await changed.wait()

    def _patience(self) -> float:
        """Return how long nothing may happen until we look again."""
        later = (at for at, _ in self._failed.values() if at > self._looked)
        return max(0.0, min(LOOK, min(later, default=math.inf) - trio.current_time()))

    async def _forgive(self) -> None:
        """Somebody new may have what nobody had."""
        while True:
            await self._met()
            for blob, (_, pause) in self._failed.items():
                self._failed[blob] = (0.0, pause)
            self._follower.wake()

    async def _round(self, nursery: trio.Nursery) -> bool:
        """Start what can be started; tell whether there was anything."""
        self._looked = trio.current_time()  # what was due by now is not waited for
        inventory, fresh = self._follower.inventory, self._follower.fresh
        worked = False
        while fresh:
            blobs = [fresh.popleft() for _ in range(min(PAGE, len(fresh)))]
            rows = (await inventory.rows(blobs)).values()
            wanted = [row for row in rows if row.wanted and not row.held]
            worked |= await self._start(nursery, wanted, POLICY)
        after = b""
        while page := await inventory.missing(after, PAGE):
            after = page[-1].blob
            worked |= await self._start(nursery, page, REPAIR)
            if fresh:
                return True
        return worked

    async def _start(self, nursery: trio.Nursery, rows: list[Row], priority: int) -> bool:
        now = trio.current_time()
        due = [row for row in rows if self._failed.get(row.blob, (0.0, 0.0))[0] <= now]
        due = [row for row in due if not self._coming(row.blob)]
        if not due:
            return False
        await self._follower.judge([row.blob for row in due])  # rules and files may have gone
        still = await self._follower.inventory.rows([row.blob for row in due])
        named = await self._uses.of([f"sha256:{blob.hex()}" for blob in still])
        for row in still.values():
            if row.wanted and not row.held and not self._coming(row.blob):
                digest = Digest("sha256", row.blob.hex())
                ids = [use.manifest_id for use in named[str(digest)] if use.manifest_id]
                await self._acquire(slots(row.size))
                if not self._busy:
                    self._marked = trio.current_time()
                self._busy.add(row.blob)
                nursery.start_soon(self._one, digest, row.size, ids[0] if ids else b"", priority)
        return True

    async def _one(self, digest: Digest, size: int, manifest_id: bytes, priority: int) -> None:
        try:
            await self._turn(size)
            await self._fetch(digest, size=size or None, manifest_id=manifest_id, priority=priority)
            self._failed.pop(digest.raw, None)
            if not self._follower.noting(digest.raw):  # else with all that came at the time
                await self._follower.inventory.hold({digest.raw: size})
            self._count(size)
        except RegistryError as error:
            self._fail(digest.raw)
            if isinstance(error, NoHolderError):
                self.missed(digest.raw)
            log.info("placement.not_fetched", blob=str(digest), why=str(error))
        finally:
            self._busy.discard(digest.raw)
            self._free += slots(size)
            self._freed.set()

    def _coming(self, blob: bytes) -> bool:
        """Tell whether a blob is on its way here, or has just come."""
        return blob in self._busy or self._follower.noting(blob)

    async def _acquire(self, count: int) -> None:
        """Wait for room for one blob more.  Only one task may."""
        await trio.lowlevel.checkpoint()
        while self._free < count:
            self._freed = trio.Event()
            await self._freed.wait()
        self._free -= count

    async def _turn(self, size: int) -> None:
        """Wait for the cap to allow this much more."""
        if self._rate > 0:
            now = trio.current_time()
            begin = max(self._free_at, now)
            self._free_at = begin + size / self._rate
            await trio.sleep(begin - now)

    def _count(self, size: int) -> None:
        """Average over the time in which there was work."""
        now = trio.current_time()
        passed = max(now - self._marked, 1e-3)
        fade = 0.5 ** (passed / RATE_HALF_LIFE)
        self._bytes, self._seconds = self._bytes * fade + size, self._seconds * fade + passed
        self._marked = now
        self.fetched += size

    @property
    def speed(self) -> float:
        """Bytes per second while there was work, of late; 0.0 if there never was any."""
        return self._bytes / self._seconds if self._seconds else 0.0

    def _fail(self, blob: bytes) -> None:
        _, pause = self._failed.pop(blob, (0.0, RETRY / 2))
        pause = min(RETRY_MAX, pause * 2)
        self._failed[blob] = (trio.current_time() + pause, pause)
        while len(self._failed) > FAILED_MAX:
            self._failed.popitem(last=False)


def slots(size: int) -> int:
    """Return how many slots a blob takes; one of unknown size may be large."""
    return 1 if 0 < size <= LARGE else LARGE_SLOTS
