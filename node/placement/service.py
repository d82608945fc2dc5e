"""Placement on this node: who should hold what, repair towards it, and room for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import trio

from mesh.placement import Candidate, Placement, Policy
from node.blobs import Blobs
from node.config import Config
from node.directory import Directory
from node.placement.concern import Others, Securer
from node.placement.couriers import Courier, Surroundings
from node.placement.eviction import Evictor, Neighbours
from node.placement.follower import Follower
from node.placement.keeping import Keeping
from node.placement.policy import KINDS, build_policy, carried
from node.placement.repair import Repair
from node.placement.report import Distance, distance, read_distance
from store.changes import Change
from store.database import Database
from store.digest import Digest
from store.holders import Holders
from store.inventory import Inventory
from store.ledger import Ledger
from store.root import Member
from store.uses import Uses

if TYPE_CHECKING:
    from mesh.service import Mesh
    from node.repositories.publishing import Publisher

LOOK = 600.0  # seconds between looks at who has been away for too long
PREFERRED = 100  # blobs of a publish that decide whom to ask first
InUse = Callable[[Sequence[Digest]], Awaitable[Collection[Digest]]]


async def nothing(digests: Sequence[Digest]) -> Collection[Digest]:
    """Nothing is in use."""
    return ()


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
        self._blobs = blobs
        self.inventory, self.holders, self.uses = Inventory(local), Holders(local), Uses(facts)
        self.absent: frozenset[str] = frozenset()
        self.repair: Repair | None = None
        self.evictor: Evictor | None = None
        self.courier: Courier | None = None
        self.in_use: InUse = nothing
        self._mesh: Mesh | None = None
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
        if self._mesh is not None:
            self._mesh.copies.moved(blobs)

    async def run(self, mesh: Mesh | None, publisher: Publisher) -> None:
        """Work until cancelled; without a mesh there is nobody to fetch from, or to ask."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._members)
            if mesh is not None:
                self._mesh = mesh
                await self._presence(mesh)
                await self._join(mesh, publisher, nursery)
            nursery.start_soon(self.follower.run)

    async def _join(self, mesh: Mesh, publisher: Publisher, nursery: trio.Nursery) -> None:
        """Begin to work with others."""
        rate, copies = float(self._config.mesh.repair_rate), mesh.copies
        self.repair = Repair(self.follower, self.uses, mesh.fetch, mesh.met, rate=rate)
        others = Others(self._roster, mesh.linked, mesh.met, copies.secure)
        publisher.securer = Securer(self._ledger.node, others, self._preferred)
        await copies.attach(Keeping(self, self._ledger, mesh.fetch))
        self.evictor = Evictor(
            self.follower,
            self.holders,
            self._blobs,
            Neighbours(
                mesh.linked,
                copies.release,
                lambda blob, gone: copies.custody.done(blob, gone=gone),
                lambda digest: (
                    mesh.wanted_by_peers(digest) or mesh.couriers.cargo.carries(digest.raw)
                ),
            ),
            budget=self._config.blobs.budget,
            in_use=self.in_use,
        )
        nursery.start_soon(self.repair.run)
        self.courier = self._courier(mesh, self.evictor)
        self._blobs.missed, self.repair.missed = self.courier.missed, self.courier.not_given
        nursery.start_soon(self.courier.run)
        nursery.start_soon(self._after_settling, self.evictor)
        nursery.start_soon(self._presence_forever, mesh)

    def _courier(self, mesh: Mesh, evictor: Evictor) -> Courier:
        """Both sides of couriers."""

        def takes(repository: str) -> bool:
            patterns = carried(self._directory, self._ledger.node)
            return Candidate(self._ledger.node, "", patterns).takes(repository)

        around = Surroundings(
            mesh.linked, mesh.fetch, evictor.let_go, takes, self._blobs.store.size
        )
        return Courier(
            self._ledger.node,
            mesh.couriers,
            (self.follower, self.holders, self.uses),
            around,
            budget=self._config.mesh.courier_budget,
        )

    def _roster(self) -> Mapping[str, Member]:
        """Return the members as they are now: every root document makes a new authority."""
        return self._ledger.authority.members()

    async def _after_settling(self, evictor: Evictor) -> None:
        """Nothing is let go before it is known what belongs here."""
        await self.follower.settled.wait()
        await evictor.run()

    async def _preferred(self, blobs: Sequence[bytes]) -> Sequence[str]:
        """Return those first who should hold the blobs anyway."""
        found: dict[str, int] = {}
        named = await self.uses.of([f"sha256:{blob.hex()}" for blob in blobs[:PREFERRED]])
        for digest, uses in named.items():
            placed = self.follower.place(bytes.fromhex(digest[7:]), uses, now=time.time())
            for node in placed.holders:
                found[node] = found.get(node, 0) + 1
        return sorted(found, key=lambda node: (-found[node], node))

    async def _presence_forever(self, mesh: Mesh) -> None:
        while True:
            await trio.sleep(LOOK)
            await self._presence(mesh)

    async def _presence(self, mesh: Mesh) -> None:
        """Note who has given no sign of life for too long: others stand in for them."""
        heard, now = await self.holders.heard(), time.time()
        members = self._ledger.authority.members()
        absent = {
            node
            for node, member in members.items()
            if node != self._ledger.node
            and now - self._config.mesh.absent
            > max(
                member.joined / 1000,
                heard[node].heard if node in heard else 0.0,
                mesh.seen(node),
            )
        }
        await self.holders.forget([n for n in heard if n in absent or n not in members])
        if absent != self.absent:
            self.absent = frozenset(absent)
            self.follower.refresh()

    async def _members(self) -> None:
        """Members, their sites and roles stand in the root document."""
        known = frozenset(self._ledger.authority.in_force)
        with self._ledger.subscribe() as grown:
            async for _ in grown:
                now = frozenset(self._ledger.authority.in_force)
                if now != known:
                    known = now
                    self.follower.refresh()

    async def here(self, digest: Digest) -> bool:
        """Tell whether a blob is on this node, whole."""
        return await self._blobs.store.has(digest)

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
