"""Couriers on this node: what is lacked is told to them; as one of them, it carries for others.

Every node tells the couriers that it meets what nobody else within reach has for it.  A courier
fetches that where it is, behind everything else, under a budget of its own; brings it where it is
lacked; and lets go of it once a holder has promised to keep it.  Docs: docs/mesh.md §13.7.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
import trio
import trio.lowlevel

from mesh.cargo import Lack
from mesh.couriers import HOPS_MAX, LIFE, TOLD_MAX
from mesh.messages import COURIER, REPAIR
from mesh.placement import score
from mesh.shell.couriers import Couriers
from node.placement.follower import Follower
from node.placement.guessing import Guesses, facts
from node.placement.repair import Fetch
from store.digest import Digest
from store.errors import NoHolderError, RegistryError
from store.holders import Holders
from store.inventory import Inventory, Row
from store.uses import Uses

LOOK = 5.0  # seconds between looks at what there is to do
GATHER = 0.05  # seconds over which news is gathered
PAUSE = 5.0  # times as long as a look took, until the next
REST = 60.0  # seconds between looks when nothing has changed
LIVELY = 60.0  # seconds after links have changed in which every look is a close one
GUESS = 60.0  # seconds between looks at what members that are away should hold
SOON = 10.0  # the same, after links have changed
SAVE = 10.0  # seconds between saves, if anything has changed
PAGE = 400  # blobs looked at together
OPEN_MAX = 2048  # wishes looked at in one go
AT_ONCE = 2  # blobs fetched at a time to be carried
TAKEN_AT_ONCE = 4  # blobs fetched at a time that a courier has brought
PARTING = 16  # blobs that holders are asked at a time to keep
PART_WAIT = 15.0  # seconds that this may take
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What this needs of the rest of the node.  ``carries`` judges a repository."""

    linked: Callable[[], Sequence[str]]
    fetch: Fetch
    let_go: Callable[[Row], Awaitable[bool]]
    carries: Callable[[str], bool]
    size: Callable[[Digest], Awaitable[int]]


class Courier:
    """Both sides of couriers, at work.  ``run`` it once the follower runs."""

    def __init__(
        self,
        node: str,
        couriers: Couriers,
        parts: tuple[Follower, Holders, Uses],
        around: Surroundings,
        *,
        budget: int,
    ) -> None:
        self.node, self.couriers = node, couriers
        self._follower, self._holders, self._uses = parts
        self._around = around
        couriers.cargo.budget = budget
        self._guesses = Guesses(node, couriers.cargo, self._follower, self._holders, self._uses)
        self._saved = b""
        self._fetches = trio.Semaphore(AT_ONCE)
        self._takes = trio.Semaphore(TAKEN_AT_ONCE)
        self._taking: set[bytes] = set()
        self._parted, self._parted_with = -math.inf, b""
        self._seen: tuple[object, ...] = ()
        self._stepped, self._lively = -math.inf, -math.inf

    @property
    def _inventory(self) -> Inventory:
        return self._follower.inventory

    async def run(self) -> None:
        """Work until cancelled."""
        await self.couriers.load()
        await self._verify()
        await self._follower.settled.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._guess_forever)
            nursery.start_soon(self._save_forever)
            while True:
                news, began = self.couriers.news, trio.current_time()
                if self._due():
                    try:
                        await self.step(nursery)
                    except (RegistryError, OSError) as error:
                        log.warning("couriers.failed", error=str(error))
                with trio.move_on_after(LOOK):
                    spent = trio.current_time() - began  # long, where thousands are missing
                    await news.wait()
                    await trio.sleep(max(GATHER, PAUSE * spent))

    def _due(self) -> bool:
        """Tell whether anything may have changed: looking costs questions to the database."""
        now, linked = trio.current_time(), frozenset(self._around.linked())
        seen = (self.couriers.news, self._follower.changed, linked)
        if not self._seen or linked != self._seen[2]:
            self._lively = now + LIVELY  # what others hold is still being heard of
        due = seen != self._seen or now < self._lively or now >= self._stepped + REST
        if due:
            self._seen, self._stepped = seen, now
        return due

    async def _verify(self) -> None:
        """What was carried in a former life may be gone."""
        cargo = self.couriers.cargo
        rows = await self._inventory.rows(list(cargo.carried))
        for blob in [blob for blob in cargo.carried if blob not in rows or not rows[blob].held]:
            cargo.gone(blob, time.time())

    async def step(self, nursery: trio.Nursery) -> None:
        """Do once what there is to do."""
        self.couriers.tidy(time.time())
        linked = frozenset(self._around.linked())
        if self.couriers.linked():
            await self._tell(linked)
            await self._take(nursery)
        if self.couriers.carrying:
            await self._bring(linked)
            await self._load(nursery, linked)
        await self._part()

    # --- lacking -------------------------------------------------------------------------------
    def missed(self, digest: Digest, size: int) -> None:
        """A client asked for what nobody reachable has: couriers shall hear of it."""
        if digest.algorithm == "sha256":
            self.couriers.waits.note(digest.raw, size, time.time())
            self.not_given(digest.raw)

    def not_given(self, blob: bytes) -> None:
        """A fetch has failed: who is linked now and says that it holds the blob may not."""
        self.couriers.doubts.failed(blob, frozenset(self._around.linked()))

    async def _tell(self, linked: frozenset[str]) -> None:
        """Tell each courier what nobody else within reach has for us, and what others lack."""
        own, now = await self._lacks(), time.time()
        found: dict[bytes, frozenset[str]] = {}
        for start in range(0, len(own), PAGE):
            page = [lack.blob for lack in own[start : start + PAGE]]
            for blob, holders in (await self._holders.of(page)).items():
                found[blob] = self.couriers.doubts.credible(blob, holders, now) & linked
        for courier in self.couriers.linked():
            wished = [lack for lack in own if not found[lack.blob] - {courier.hex()}]
            if self.couriers.carrying:
                named = {lack.blob for lack in wished}
                passed = self.couriers.cargo.passed(courier, now)
                wished += [lack for lack in passed if lack.blob not in named]
            self.couriers.state(courier, wished[:TOLD_MAX])

    async def _lacks(self) -> list[Lack]:
        """Return what should be here, or was asked for here, and is not."""
        now, waits = time.time(), self.couriers.waits.blobs
        rows = await self._inventory.rows(list(waits))
        for blob in [blob for blob, row in rows.items() if row.held]:
            waits.pop(blob, None)  # it may have made room for another meanwhile
        found = {
            blob: _lack(blob, wait.size, wait.until - now, urgent=True)
            for blob, wait in waits.items()
        }
        after = b""
        while len(found) < TOLD_MAX and (page := await self._inventory.missing(after, PAGE)):
            after = page[-1].blob
            for row in page:
                found.setdefault(row.blob, _lack(row.blob, row.size, LIFE, urgent=False))
        return list(found.values())

    async def _take(self, nursery: trio.Nursery) -> None:
        """Fetch what couriers have for us, if we still lack it."""
        waits = self.couriers.waits.blobs
        for peer, blobs in list(self.couriers.brought.items()):
            due = [blob for blob in blobs if blob not in self._taking][:PAGE]
            rows = await self._inventory.rows(due)
            for blob in due:
                row = rows.get(blob)
                lacks = blob in waits or (row is not None and row.wanted)
                if not lacks or (row is not None and row.held):
                    blobs.pop(blob, None)  # or it is to be carried: then it is fetched as such
                else:
                    self._taking.add(blob)
                    nursery.start_soon(self._take_one, peer, blob)

    async def _take_one(self, peer: bytes, blob: bytes) -> None:
        async with self._takes:
            try:
                await self._fetch(blob, REPAIR)
            except RegistryError as error:
                if isinstance(error, NoHolderError):
                    self.not_given(blob)
                log.info("couriers.not_taken", blob=blob.hex(), why=str(error))
                await trio.sleep(LOOK)
            finally:
                self._taking.discard(blob)
        if peer in self.couriers.brought:
            self.couriers.wake()

    async def _fetch(self, blob: bytes, priority: int) -> int:
        """Bring a blob here as the catalog knows it; return its size.  Raises NoHolderError."""
        digest = Digest("sha256", blob.hex())
        size, manifest_id = facts((await self._uses.of([str(digest)]))[str(digest)])
        await self._around.fetch(
            digest, size=size or None, manifest_id=manifest_id, priority=priority
        )
        size = await self._around.size(digest)
        await self._inventory.hold({blob: size})
        return size

    # --- carrying ------------------------------------------------------------------------------
    async def _bring(self, linked: frozenset[str]) -> None:
        """Tell those who lack something what of it is here."""
        for teller, told in list(self.couriers.cargo.wishes.items()):
            if teller.hex() in linked:
                rows = await self._inventory.rows(list(told))
                here = [blob for blob in told if blob in rows and rows[blob].held]
                self.couriers.bring(teller, here)

    async def _load(self, nursery: trio.Nursery, linked: frozenset[str]) -> None:
        """Take on what is wished for and can be had here, as far as the budget and others go."""
        cargo, now = self.couriers.cargo, time.time()
        targets: dict[bytes, bytes] = {}
        for wish in cargo.open(now):
            targets.setdefault(wish.blob, wish.target)
            if len(targets) >= OPEN_MAX:
                break
        sizes, holders = await self._to_be_had(list(targets), linked)
        choice = cargo.choose(sizes, now)
        for blob in choice.displaced:
            cargo.displace(blob)
        asked: dict[str, list[bytes]] = {}
        for blob in choice.fetch:
            # All couriers ask the same one of several holders, so that it knows of the others.
            first = max(holders[blob], key=partial(score, blob=blob))
            asked.setdefault(first, []).append(blob)
        for holder, blobs in asked.items():
            pairs = [(blob, targets[blob]) for blob in blobs]
            granted = await self.couriers.ask(bytes.fromhex(holder), pairs)
            for blob in blobs:
                if blob in granted:
                    cargo.begin(blob, sizes[blob])
                    nursery.start_soon(self._load_one, blob)
                else:
                    cargo.put_off(blob, now)

    async def _to_be_had(
        self, blobs: Sequence[bytes], linked: frozenset[str]
    ) -> tuple[dict[bytes, int], dict[bytes, frozenset[str]]]:
        """Return sizes and linked holders of blobs that are not here, and that records name."""
        sizes: dict[bytes, int] = {}
        holders: dict[bytes, frozenset[str]] = {}
        ordered = sorted(blobs)  # neighbours lie together in what is known of holders
        for start in range(0, len(ordered), PAGE):
            page = ordered[start : start + PAGE]
            known = await self._holders.of(page)
            page = [blob for blob in page if known[blob] & linked]
            rows = await self._inventory.rows(page)
            page = [blob for blob in page if blob not in rows or not rows[blob].held]
            named = await self._uses.of([f"sha256:{blob.hex()}" for blob in page])
            for blob in page:
                uses = named[f"sha256:{blob.hex()}"]
                if any(self._around.carries(use.repository) for use in uses):
                    sizes[blob], _ = facts(uses)
                    holders[blob] = known[blob] & linked
        return sizes, holders

    async def _load_one(self, blob: bytes) -> None:
        cargo = self.couriers.cargo
        try:
            async with self._fetches:
                size = await self._fetch(blob, COURIER)
        except RegistryError as error:
            cargo.put_off(blob, time.time())
            log.info("couriers.not_loaded", blob=blob.hex(), why=str(error))
            return
        except trio.Cancelled:  # it is not coming any more, and room for it need not be kept
            cargo.put_off(blob, time.time())
            raise
        cargo.loaded(blob, size)
        self.couriers.wake()

    async def _part(self) -> None:
        """Let go of what nobody wants any more, where somebody keeps it."""
        cargo, now = self.couriers.cargo, trio.current_time()
        if not cargo.leaving or now < self._parted + LOOK:
            return
        self._parted = now
        with trio.move_on_after(PART_WAIT):  # holders that say nothing hold nothing else up
            await self._let_go()

    async def _let_go(self) -> None:
        cargo = self.couriers.cargo
        rows = await self._inventory.rows(list(cargo.leaving))
        parted, ordered = 0, sorted(cargo.leaving)
        # On from the last: those that nobody in reach would keep must not stand before all others.
        start = bisect_right(ordered, self._parted_with)
        for blob in (*ordered[start:], *ordered[:start]):
            row = rows.get(blob)
            if row is None or not row.held or row.wanted:
                cargo.gone(blob, time.time())  # nothing to let go of, or it belongs here by now
            elif parted < PARTING:
                parted, self._parted_with = parted + 1, blob
                if await self._around.let_go(row):
                    cargo.gone(blob, time.time())

    # --- guessing ------------------------------------------------------------------------------
    async def _guess_forever(self) -> None:
        seen, again, closely = frozenset[str](), -math.inf, -math.inf
        changed = self._follower.changed
        while True:
            linked, now = frozenset(self._around.linked()), trio.current_time()
            if linked != seen:  # what the newcomer holds may not have been heard yet
                seen, again, closely = linked, now, now + LIVELY
            due = now >= again and (now < closely or changed.is_set())
            if due and linked and self.couriers.carrying:
                changed = self._follower.changed
                await self._guess(linked)
                spent = trio.current_time() - now
                again = now + max(SOON if now < closely else GUESS, 5 * spent)
            await trio.sleep(LOOK)

    async def _guess(self, linked: frozenset[str]) -> None:
        try:
            await self._verify()
            await self._guesses.look(linked)
        except (RegistryError, OSError) as error:
            log.warning("couriers.failed", error=str(error))
        self.couriers.wake()

    # --- remembering ---------------------------------------------------------------------------
    async def _save_forever(self) -> None:
        try:
            while True:
                await trio.sleep(SAVE)
                await self._save()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2.0):
                await self._save()

    async def _save(self) -> None:
        data = self.couriers.snapshot()
        if data == self._saved:
            return
        try:
            await self.couriers.save(data)
            self._saved = data
        except (RegistryError, OSError) as error:
            log.warning("couriers.not_saved", error=str(error))


def _lack(blob: bytes, size: int, left: float, *, urgent: bool) -> Lack:
    """Say that we lack a blob."""
    return Lack(blob, b"", size, max(0, int(left)), 0, HOPS_MAX, urgent)
