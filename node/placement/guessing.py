"""What a courier thinks that members lack whom it has not heard of it: by placement.

So it takes on for a site what has been published since it was there, or for one that it has never
met.  Docs: docs/mesh.md §13.7.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import trio

from mesh.couriers import TOLD_MAX, Cargo
from node.placement.follower import Follower
from store.holders import Holders
from store.uses import FileUse, Uses


class Guesses:
    """Works out what members that are away should hold and do not, as far as is known here."""

    def __init__(
        self, node: str, cargo: Cargo, follower: Follower, holders: Holders, uses: Uses
    ) -> None:
        self._node, self._cargo = node, cargo
        self._follower, self._holders, self._uses = follower, holders, uses

    async def look(self, linked: frozenset[str]) -> None:
        """Walk over the catalog, and tell the cargo.

        Only what somebody linked has, or is carried already, is thought of.
        """
        found: dict[bytes, dict[bytes, int]] = {}
        last = ""
        while page := await self._uses.after(last):
            last = page[-1]
            for blob, size, targets in await self._lacking(page, linked):
                for target in targets:
                    if len(told := found.setdefault(bytes.fromhex(target), {})) < TOLD_MAX:
                        told[blob] = size
            await trio.lowlevel.checkpoint()
        now, wishes = time.time(), self._cargo.wishes
        before = {node for node, told in wishes.items() if any(w.guessed for w in told.values())}
        for node in {*found, *before}:
            if node.hex() not in linked:
                self._cargo.guess(node, found.get(node, {}), now)

    async def _lacking(
        self, digests: Iterable[str], linked: frozenset[str]
    ) -> list[tuple[bytes, int, frozenset[str]]]:
        """Return blobs, sizes and who is away and should hold them, of a page of the catalog."""
        page = [bytes.fromhex(each[7:]) for each in digests if each.startswith("sha256:")]
        holders = await self._holders.of(page)
        page = [blob for blob in page if holders[blob] & linked or blob in self._cargo.carried]
        named = await self._uses.of([f"sha256:{blob.hex()}" for blob in page])
        found: list[tuple[bytes, int, frozenset[str]]] = []
        for blob in page:
            uses = named[f"sha256:{blob.hex()}"]
            placed = self._follower.place(blob, uses, now=time.time()).holders
            away = placed - holders[blob] - linked - {self._node}
            if away:
                found.append((blob, facts(uses)[0], away))
        return found


def facts(uses: Sequence[FileUse]) -> tuple[int, bytes]:
    """Return a blob's size and manifest as records have them; 0 and nothing if none does."""
    size = max((use.size for use in uses), default=0)
    return size, next((use.manifest_id for use in uses if use.manifest_id), b"")
