"""Placement on this node: who should hold what, repair towards it, and room for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from mesh.placement import Placement, Policy
from node.blobs import Blobs
from node.config import Config
from node.directory import Directory
from node.placement.follower import Follower
from node.placement.policy import KINDS, build_policy
from node.placement.repair import Repair
from node.placement.report import Distance, distance, read_distance
from store.changes import Change
from store.database import Database
from store.digest import Digest
from store.holders import Holders
from store.inventory import Inventory
from store.ledger import Ledger
from store.uses import Uses

if TYPE_CHECKING:
    from mesh.service import Mesh

LOOK = 600.0  # seconds between looks at who has been away for too long


class Placer:
    """The parts, wired.  It hears of commits from the start, and works in ``run``."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        directory: Directory,
        blobs: Blobs,
        facts: Database,
        local: Database,
    ) -> None:
        self._config, self._ledger, self._directory = config, ledger, directory
        self.inventory, self.holders, self.uses = Inventory(local), Holders(local), Uses(facts)
        self.absent: frozenset[str] = frozenset()
        self.repair: Repair | None = None
        self.follower = Follower(
            self.inventory,
            self.uses,
            blobs.store,
            node=ledger.node,
            policy=self.policy,
            marker=config.path / "placement.json",
            moved=self._moved,
        )
        blobs.index.observer = self.follower.stored
        blobs.reader = self.follower.read

    def policy(self) -> Policy:
        """Return the policy in force now."""
        return build_policy(
            self._directory,
            self._ledger.authority.members(),
            node=self._ledger.node,
            config=self._config,
            absent=self.absent,
        )

    async def follow(self, change: Change) -> None:
        """Take a commit, as an observer of the ledger; after the directory."""
        if any(kind in KINDS for kind, _ in change.settings):
            self.follower.refresh()
        await self.follower.follow(change)

    def _moved(self, blobs: Mapping[bytes, bool]) -> None:
        """Blobs have come (True) or gone."""

    async def run(self, mesh: Mesh | None) -> None:
        """Work until cancelled; without a mesh there is nobody to fetch from."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.follower.run)
            nursery.start_soon(self._members)
            if mesh is not None:
                rate = float(self._config.mesh.repair_rate)
                self.repair = Repair(self.follower, self.uses, mesh.fetch, mesh.met, rate=rate)
                nursery.start_soon(self.repair.run)

    async def _members(self) -> None:
        """Members, their sites and roles stand in the root document."""
        known = frozenset(self._ledger.authority.in_force)
        with self._ledger.subscribe() as grown:
            async for _ in grown:
                now = frozenset(self._ledger.authority.in_force)
                if now != known:
                    known = now
                    self.follower.refresh()

    async def reports(self) -> dict[str, Distance]:
        """Return what each member last said of its distance; our own as it is now."""
        found = {self._ledger.node: self.distance()}
        for node, heard in (await self.holders.heard()).items():
            report = read_distance(heard.report)
            if report is not None:
                found[node] = report
        return found

    async def locate(self, digest: Digest) -> tuple[Placement, frozenset[str]]:
        """Return where a blob belongs, and which members are known to hold it."""
        uses = (await self.uses.of([str(digest)]))[str(digest)]
        placed = self.follower.place(digest.raw, uses, now=time.time())
        holders = (await self.holders.of([digest.raw]))[digest.raw]
        rows = await self.inventory.rows([digest.raw])
        if digest.raw in rows and rows[digest.raw].held:
            holders |= {self._ledger.node}
        return placed, holders

    def distance(self) -> Distance:
        """Return how far this node is from its target."""
        speed = self.repair.speed if self.repair is not None else 0.0
        return distance(self.inventory.tally, speed=speed, now=time.time())
