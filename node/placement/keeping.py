"""What members ask of this node's copies: the mesh's ``KeeperPort``.  Docs: docs/mesh.md §13."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import trio

from mesh.messages import URGENT
from node.placement.repair import Fetch
from node.placement.report import Distance
from store.digest import Digest
from store.errors import RegistryError
from store.holders import ID, Holders
from store.inventory import Inventory
from store.ledger import Ledger
from store.uses import Uses

CHAIN_WAIT = 120.0  # seconds that a chain may take to arrive
FETCHES_MAX = 4  # blobs fetched at a time for one question


class Parts(Protocol):
    """What this needs of ``node.placement.service.Placer``."""

    inventory: Inventory
    holders: Holders
    uses: Uses

    def distance(self) -> Distance:
        """Our distance to target."""
        ...

    async def here(self, digest: Digest) -> bool:
        """Whether a blob is on this node, whole."""
        ...


class Keeping:
    """Answers members about this node's copies, and remembers what they say of theirs."""

    def __init__(self, parts: Parts, ledger: Ledger, fetch: Fetch) -> None:
        self._parts, self._ledger, self._fetch = parts, ledger, fetch

    def report(self) -> bytes:
        """Our distance to target; its moment is left out, so that equal ones are equal."""
        found = msgspec.structs.replace(self._parts.distance(), at=0.0)
        return msgspec.json.encode(found)[:32768]

    async def suffixes(self, shard: int) -> list[bytes]:
        """What we hold of one shard."""
        return [blob[1:ID] for blob in await self._parts.inventory.held(shard)]

    async def heard(self) -> Mapping[str, tuple[int, int]]:
        """How far each member was heard."""
        found = await self._parts.holders.heard()
        return {node: (each.epoch, each.seq) for node, each in found.items()}

    async def checks(self, node: str) -> bytes:
        """Checksums of what a member was heard to hold."""
        return await self._parts.holders.checks(node)

    async def hear(self, node: str, epoch: int, seq: int, report: bytes) -> None:
        """A member is heard up to here."""
        await self._parts.holders.hear(node, epoch, seq, report)

    async def replace(self, node: str, shards: Mapping[int, bytes]) -> None:
        """A member's word for whole shards."""
        await self._parts.holders.replace(node, shards)

    async def change(self, node: str, added: Sequence[bytes], removed: Sequence[bytes]) -> None:
        """A member's word for what came and went."""
        await self._parts.holders.change(node, added, removed)

    async def holds(self, blob: bytes) -> bool:
        """Whether a blob is here, whole."""
        return await self._parts.here(Digest("sha256", blob.hex()))

    async def secure(self, author: str, incarnation: int, seq: int, blobs: Sequence[bytes]) -> bool:
        """Get a chain and blobs; whether all of it is durable here now.

        Records are applied with synchronous=FULL and blobs published after fsync, so being here is
        being durable.
        """
        with trio.move_on_after(CHAIN_WAIT) as late:
            await self._chain(author, incarnation, seq)
        if late.cancelled_caught:
            return False
        named = await self._parts.uses.of([f"sha256:{blob.hex()}" for blob in blobs])
        limit, failed = trio.Semaphore(FETCHES_MAX), list[RegistryError]()
        async with trio.open_nursery() as nursery:
            for digest, uses in named.items():
                ids = [use for use in uses if use.manifest_id]
                size = ids[0].size if ids else 0
                manifest_id = ids[0].manifest_id if ids else b""
                await limit.acquire()
                nursery.start_soon(
                    self._get, Digest.parse(digest), size, manifest_id, limit, failed
                )
        return not failed

    async def _chain(self, author: str, incarnation: int, seq: int) -> None:
        with self._ledger.subscribe() as grown:
            while True:
                reach, _ = (await self._ledger.heads()).get((author, incarnation), (0, b""))
                if reach >= seq:
                    return
                await grown.receive()

    async def _get(
        self,
        digest: Digest,
        size: int,
        manifest_id: bytes,
        limit: trio.Semaphore,
        failed: list[RegistryError],
    ) -> None:
        try:
            await self._fetch(digest, size=size or None, manifest_id=manifest_id, priority=URGENT)
        except RegistryError as error:
            failed.append(error)
        finally:
            limit.release()
