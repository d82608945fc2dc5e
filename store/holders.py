"""What other members say they hold, in the local database: five bytes a blob and member.

A blob's id is the first five bytes of its digest; a *shard* is all ids that share the first byte,
kept as their other four bytes in order.  Two blobs may share an id, so this is a hint, and whatever
hangs on a copy asks the member itself.  Docs: docs/mesh.md §13.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from store.schema import peer_blobs, peer_holdings

T = TypeVar("T")
ID = 5  # bytes of a digest that make an id
SUFFIX = ID - 1
SHARDS = 256
CHECKS = 4 * SHARDS  # bytes: four for each shard


class Port(Protocol):
    """What this needs of ``store.database.Database``."""

    async def read(self, unit: Callable[[sa.Connection], T]) -> T: ...

    async def write(self, unit: Callable[[sa.Connection], T]) -> T: ...


class Heard(NamedTuple):
    """How far a member was heard, and what it last said of itself (JSON)."""

    epoch: int
    seq: int
    report: bytes
    heard: float


class Holders:
    """What members say they hold.  ``clock`` is seconds since 1970."""

    def __init__(self, database: Port, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    async def heard(self) -> dict[str, Heard]:
        """Return how far each member was heard."""
        query = sa.select(peer_holdings)
        found = await self._database.read(lambda c: c.execute(query).all())
        return {r.node: Heard(r.epoch, r.seq, bytes(r.report), r.heard) for r in found}

    async def hear(self, node: str, epoch: int, seq: int, report: bytes) -> None:
        """Note how far a member is heard now."""
        now = self._clock()

        def unit(connection: sa.Connection) -> None:
            connection.execute(sa.delete(peer_holdings).where(peer_holdings.c.node == node))
            row = {"node": node, "epoch": epoch, "seq": seq, "report": report, "heard": now}
            connection.execute(sa.insert(peer_holdings), row)

        await self._database.write(unit)

    async def checks(self, node: str) -> bytes:
        """Return the checksums of every shard of a member."""
        query = sa.select(peer_blobs.c.shard, peer_blobs.c.ids).where(peer_blobs.c.node == node)
        found = await self._database.read(lambda c: c.execute(query).all())
        known = {shard: bytes(ids) for shard, ids in found}
        return b"".join(check(split(known.get(shard, b""))) for shard in range(SHARDS))

    async def replace(self, node: str, shards: Mapping[int, bytes]) -> None:
        """Take a member's word for whole shards."""
        await self._database.write(lambda c: _put(c, node, shards))

    async def change(self, node: str, added: Iterable[bytes], removed: Iterable[bytes]) -> None:
        """Take a member's word for what has come and gone; ids of ID bytes."""
        fresh, gone = list(added), list(removed)
        shards = sorted({each[0] for each in [*fresh, *gone]})

        def unit(connection: sa.Connection) -> None:
            known = _get(connection, node, shards)
            for each in fresh:
                known[each[0]].add(each[1:])
            for each in gone:
                known[each[0]].discard(each[1:])
            _put(connection, node, {shard: b"".join(sorted(ids)) for shard, ids in known.items()})

        if shards:
            await self._database.write(unit)

    async def forget(self, nodes: Iterable[str]) -> None:
        """Drop what members said that are gone for good, or have not been heard for too long."""
        named = list(nodes)

        def unit(connection: sa.Connection) -> None:
            for table in (peer_blobs, peer_holdings):
                connection.execute(sa.delete(table).where(table.c.node.in_(named)))

        if named:
            await self._database.write(unit)

    async def of(self, blobs: Sequence[bytes]) -> Mapping[bytes, frozenset[str]]:
        """Return who says to hold each of these blobs (raw digests)."""
        shards = sorted({blob[0] for blob in blobs})
        query = sa.select(peer_blobs).where(peer_blobs.c.shard.in_(shards))
        found = await self._database.read(lambda c: c.execute(query).all())
        holders: dict[bytes, set[str]] = {blob: set() for blob in blobs}
        for node, shard, ids in found:
            for blob in blobs:
                if blob[0] == shard and contains(bytes(ids), blob[1:ID]):
                    holders[blob].add(node)
        return {blob: frozenset(nodes) for blob, nodes in holders.items()}


def contains(ids: bytes, suffix: bytes) -> bool:
    """Tell whether a shard holds an id, by its last four bytes."""
    low, high = 0, len(ids) // SUFFIX
    while low < high:
        middle = (low + high) // 2
        found = ids[middle * SUFFIX : (middle + 1) * SUFFIX]
        if found == suffix:
            return True
        if found < suffix:
            low = middle + 1
        else:
            high = middle
    return False


def split(ids: bytes) -> list[bytes]:
    """Return the suffixes in a shard."""
    return [ids[at : at + SUFFIX] for at in range(0, len(ids), SUFFIX)]


def check(suffixes: Iterable[bytes]) -> bytes:
    """Return a shard's checksum: the exclusive or of its suffixes, so that each can come and go."""
    value = 0
    for suffix in suffixes:
        value ^= int.from_bytes(suffix, "big")
    return value.to_bytes(SUFFIX, "big")


def _get(connection: sa.Connection, node: str, shards: Sequence[int]) -> dict[int, set[bytes]]:
    query = sa.select(peer_blobs.c.shard, peer_blobs.c.ids).where(
        peer_blobs.c.node == node, peer_blobs.c.shard.in_(shards)
    )
    known = {shard: set(split(bytes(ids))) for shard, ids in connection.execute(query)}
    return {shard: known.get(shard, set()) for shard in shards}


def _put(connection: sa.Connection, node: str, shards: Mapping[int, bytes]) -> None:
    gone = peer_blobs.c.shard.in_(list(shards))
    connection.execute(sa.delete(peer_blobs).where(peer_blobs.c.node == node, gone))
    rows = [{"node": node, "shard": s, "ids": ids} for s, ids in shards.items() if ids]
    if rows:
        connection.execute(sa.insert(peer_blobs), rows)
