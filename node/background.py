"""What a node does by itself: garbage collection, expiry, sharing of signing keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog
import trio

from node import heap, reserve
from node.core import Core
from node.directory import RepositoryEntry
from node.retention.turn import ours
from store.errors import RegistryError

log = structlog.get_logger(__name__)
RETRY = 30.0  # seconds after a chore that failed
HOUSEKEEPING = 600.0  # seconds between rounds of the small chores
TRIMMING = 10.0  # seconds between two looks at memory that was freed: a millisecond or two each


class Background:
    """The chores of one node."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def run(self) -> None:
        """Work until cancelled; a chore that fails is logged and tried again next time."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._housekeeping)
            nursery.start_soon(self._trim)
            nursery.start_soon(self._ledger)
            nursery.start_soon(self._share_keys)
            nursery.start_soon(self._placement)
            nursery.start_soon(self._core.mirrors.keep, self._core.catalog)
            nursery.start_soon(self._core.search.run, self._core.ledger)
            nursery.start_soon(self._core.usage.run)
            nursery.start_soon(self._core.webhooks.run)
            if self._core.config.blobs.retention_interval > 0:
                nursery.start_soon(self._retention)
            if self._core.config.blobs.gc_interval > 0:
                nursery.start_soon(self._garbage)

    async def _housekeeping(self) -> None:
        while True:
            await trio.sleep(HOUSEKEEPING)
            await self.housekeep()

    async def _trim(self) -> None:
        """Give back what long jobs have left free, soon after they end."""
        while True:
            await trio.sleep(TRIMMING)
            await trio.to_thread.run_sync(heap.trim)

    async def housekeep(self) -> None:
        """Do every small chore once; one that fails does not keep the others from their turn."""
        core = self._core
        chores: Mapping[str, Callable[[], Awaitable[object]]] = {
            "sweep sessions": self._sweep_sessions,
            "expire staged uploads": core.staging.expire,
            "expire the audit log": core.audit.expire,
            "trim the journal": core.journal.trim,
            "remove expired tokens": core.accounts.expire,
            "share signing keys": core.keyring.share,
            "share upstream credentials": core.engine.parts.vault.share,
            "keep a reserve": self._keep_reserve,
        }
        for name, chore in chores.items():
            try:
                await chore()
            except (RegistryError, OSError) as error:  # OSError: a disk that misbehaves for now
                log.warning("a chore failed", chore=name, error=str(error))

    async def _sweep_sessions(self) -> None:
        """Inline: nothing may begin to work on a session between the look and the removal."""
        self._core.sessions.sweep()

    async def _keep_reserve(self) -> None:
        await trio.to_thread.run_sync(reserve.keep, self._core.config.path)

    async def _ledger(self) -> None:
        """Let held records count in time, and confirm what was published elsewhere."""
        while True:
            try:
                await self._core.ledger.run()
            except RegistryError as error:
                log.warning("the ledger's chores failed", error=str(error))
                await trio.sleep(RETRY)

    async def _share_keys(self) -> None:
        """Seal signing keys to new members as soon as the root document lists them."""
        known: set[str] = set()
        async for _ in self._core.ledger.subscribe():
            members = set(self._core.ledger.authority.members())
            if members - known:
                known = members
                try:
                    await self._core.keyring.share()
                    await self._core.engine.parts.vault.share()
                except RegistryError as error:
                    log.warning("signing keys were not shared", error=str(error))

    async def _placement(self) -> None:
        """Keep what belongs here, and let go of what does not when space is short."""
        while True:
            try:
                await self._core.placer.run(self._core.mesh, self._core.publisher)
            except* (RegistryError, OSError) as errors:
                log.warning("placement failed", error=str(errors.exceptions[0]))
            await trio.sleep(RETRY)

    async def _garbage(self) -> None:
        while True:
            await trio.sleep(self._core.config.blobs.gc_interval)
            try:
                freed = await self._core.collector.collect()
                log.info("collected garbage", blobs=freed.blobs, bytes=freed.bytes)
            except (RegistryError, OSError) as error:
                log.warning("garbage collection failed", error=str(error))

    async def _retention(self) -> None:
        core = self._core
        while True:
            await trio.sleep(core.config.blobs.retention_interval)
            try:
                entries, members = (
                    core.directory.all(RepositoryEntry),
                    core.ledger.authority.members(),
                )
                done = await core.retention.apply(
                    "retention", keys=ours(entries, members, core.ledger.node)
                )
                log.info("retention", removed=done.removed, bytes=done.bytes, kept=done.kept)
            except (RegistryError, OSError) as error:
                log.warning("retention failed", error=str(error))
