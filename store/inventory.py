"""The inventory: every blob that the catalog names or this node holds, and what is due to it.

Lies in the local database, so that a million blobs cost no memory; it can be lost, and is made
again by a walk over the catalog and the blob store.  Tallies are kept as rows change.

Spec: docs/mesh.md §13.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from store import bulk
from store.schema import inventory

T = TypeVar("T")
HALF_LIFE = 86400.0  # seconds in which a read counts half
WANTED, HELD, SURPLUS, CACHED, OTHER = "wanted", "held", "surplus", "cached", "other"


class Port(Protocol):
    """What this needs of ``store.database.Database``."""

    async def read(self, unit: Callable[[sa.Connection], T]) -> T: ...

    async def write(self, unit: Callable[[sa.Connection], T]) -> T: ...


class Placed(NamedTuple):
    """A verdict on one blob.  ``size`` 0 is unknown; ``due`` is seconds since 1970."""

    blob: bytes
    size: int
    rule: str
    wanted: bool
    due: float = math.inf


class Row(NamedTuple):
    """A row of the table, in the order of its columns."""

    blob: bytes
    size: int
    rule: str
    turn: int
    wanted: bool
    held: bool
    due: float | None
    used: float
    reads: float


@dataclass(slots=True)
class Tally:
    """Blobs and bytes by (rule, kind); the kinds are the constants above.

    WANTED counts what should be here, HELD what of that is; SURPLUS is held though a rule places
    it elsewhere, CACHED because somebody asked for it, OTHER because no file names it.
    """

    blobs: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])

    def add(self, row: Row, sign: int) -> None:
        """Count a row in, or out."""
        for key in kinds(row):
            self.blobs[key] += sign
            self.bytes[key] += sign * row.size

    def merge(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.blobs.update(other.blobs)
        self.bytes.update(other.bytes)

    @property
    def stored(self) -> int:
        """Bytes that are held, for whatever reason."""
        return sum(size for (_, kind), size in self.bytes.items() if kind != WANTED)


def kinds(row: Row) -> list[tuple[str, str]]:
    """Return what a row counts as."""
    if row.wanted:
        return [(row.rule, WANTED), *([(row.rule, HELD)] if row.held else [])]
    if not row.held:
        return []
    if not row.turn:
        return [("", OTHER)]
    return [(row.rule, SURPLUS if row.rule else CACHED)]


class Inventory:
    """Ask for and change the inventory.  ``load`` it once before use."""

    def __init__(self, database: Port, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self.tally = Tally()
        self.turn = 1  # of the walk that is under way, or was last

    async def load(self) -> None:
        """Count what is there: one pass over the table, at start."""
        known = inventory.c.turn > sa.literal_column("0")
        rules = sa.select(
            inventory.c.rule,
            known,
            inventory.c.wanted,
            inventory.c.held,
            sa.func.count(),
            sa.func.sum(inventory.c.size),
            sa.func.max(inventory.c.turn),
        ).group_by(inventory.c.rule, known, inventory.c.wanted, inventory.c.held)
        self.tally = Tally()
        for rule, named, wanted, held, count, size, turn in await self._all(rules):
            row = Row(b"", 0, rule, int(named), bool(wanted), bool(held), None, 0.0, 0.0)
            for key in kinds(row):
                self.tally.blobs[key] += count
                self.tally.bytes[key] += int(size)
            self.turn = max(self.turn, turn)

    # --- changing --------------------------------------------------------------------------------
    async def hold(self, sizes: Mapping[bytes, int], *, held: bool = True) -> None:
        """Note what has come, with its size, or has gone."""
        now = self._clock()

        def change(blob: bytes, row: Row | None) -> Row | None:
            if row is None:
                return Row(blob, sizes[blob], "", 0, False, True, None, now, 0.0) if held else None
            if not held and not row.turn:
                return None
            size = sizes[blob] or row.size
            used = row.used if row.held or not held else now
            return row._replace(held=held, size=size, used=used)

        await self._change(sizes, change)

    async def place(self, verdicts: Sequence[Placed], *, union: bool = False) -> None:
        """Note verdicts of the present walk; with ``union`` they widen what it has said already.

        A blob that several files name as their metadata is judged once for each of them.
        """
        said = {each.blob: each for each in verdicts}

        def change(blob: bytes, row: Row | None) -> Row:
            new = said[blob]
            due = new.due if math.isfinite(new.due) else None
            if row is None:
                return Row(*new[:3], self.turn, new.wanted, False, due, 0.0, 0.0)
            size = row.size if row.held else new.size or row.size
            if union and row.turn == self.turn:
                rule, wanted = new.rule or row.rule, new.wanted or row.wanted
                due = min((d for d in (due, row.due) if d is not None), default=None)
                return row._replace(size=size, rule=rule, wanted=wanted, due=due)
            return row._replace(
                size=size, rule=new.rule, turn=self.turn, wanted=new.wanted, due=due
            )

        await self._change(said, change)

    async def unname(self, blobs: Iterable[bytes]) -> None:
        """Note that no file names these any more: they are garbage collection's."""

        def change(blob: bytes, row: Row | None) -> Row | None:
            if row is None or not row.held:
                return None
            return row._replace(rule="", turn=0, wanted=False, due=None)

        await self._change(list(blobs), change)

    async def read(self, reads: Mapping[bytes, tuple[int, float]]) -> None:
        """Note reads: blob → (how often, when last)."""

        def change(blob: bytes, row: Row | None) -> Row | None:
            if row is None:
                return None
            count, at = reads[blob]
            return row._replace(used=max(at, row.used), reads=decayed(row, at) + count)

        await self._change(reads, change)

    async def _change(
        self, blobs: Iterable[bytes], change: Callable[[bytes, Row | None], Row | None]
    ) -> None:
        for part in bulk.chunks(blobs):
            moved = await self._database.write(lambda c, part=part: _apply(c, part, change))  # type: ignore[misc]  # mypy infers no type for lambdas with defaults
            self.tally.merge(moved)

    # --- asking ----------------------------------------------------------------------------------
    async def rows(self, blobs: Iterable[bytes]) -> dict[bytes, Row]:
        """Return the rows of some blobs."""
        found: dict[bytes, Row] = {}
        for part in bulk.chunks(blobs):
            found |= await self._database.read(lambda c, part=part: _rows(c, part))  # type: ignore[misc]  # mypy infers no type for lambdas with defaults
        return found

    async def missing(self, after: bytes = b"", limit: int = 100) -> list[Row]:
        """Return what should be here and is not, in the order of digests."""
        where = sa.text("wanted = 1 AND held = 0")
        if self._postgresql:
            where = sa.text("wanted AND NOT held")
        query = sa.select(inventory).where(where, inventory.c.blob > after)
        return await self._rows(query.order_by(inventory.c.blob).limit(limit))

    async def spare(self, *, surplus: bool, after: float = -1.0, limit: int = 100) -> list[Row]:
        """Return what may go, least recently read first: surplus, or what was only asked for."""
        where = sa.text("wanted = 0 AND held = 1 AND turn > 0")
        if self._postgresql:
            where = sa.text("NOT wanted AND held AND turn > 0")
        kind = inventory.c.rule != "" if surplus else inventory.c.rule == ""
        query = sa.select(inventory).where(where, kind, inventory.c.used >= after)
        return await self._rows(query.order_by(inventory.c.used).limit(limit))

    async def due(self, now: float, limit: int = 400) -> list[bytes]:
        """Return blobs whose placement time may have changed."""
        query = sa.select(inventory.c.blob).where(inventory.c.due <= now)
        return [bytes(blob) for (blob,) in await self._all(query.limit(limit))]

    async def unseen(self, limit: int = 400) -> list[bytes]:
        """Return what earlier walks saw and the last one did not."""
        turn = inventory.c.turn
        query = sa.select(inventory.c.blob).where(turn > 0, turn < self.turn)
        return [bytes(blob) for (blob,) in await self._all(query.limit(limit))]

    async def held(self, shard: int) -> dict[bytes, int]:
        """Return the held blobs whose digests begin with a byte, and their sizes, in order."""
        below = [inventory.c.blob < bytes([shard + 1])] if shard < 255 else []
        query = sa.select(inventory.c.blob, inventory.c.size).where(
            inventory.c.held, inventory.c.blob >= bytes([shard]), *below
        )
        found = await self._all(query.order_by(inventory.c.blob))
        return {bytes(blob): size for blob, size in found}

    @property
    def _postgresql(self) -> bool:
        return getattr(self._database, "dialect", "sqlite") == "postgresql"

    async def _rows(self, query: sa.Select[Any]) -> list[Row]:
        return [_row(row) for row in await self._all(query)]

    async def _all(self, query: sa.Select[Any]) -> Sequence[Any]:
        return await self._database.read(lambda connection: connection.execute(query).all())


def decayed(row: Row, now: float) -> float:
    """Return how many reads still count."""
    return float(row.reads * 0.5 ** (max(0.0, now - row.used) / HALF_LIFE))


def _row(row: Any) -> Row:
    blob, size, rule, turn, wanted, held, due, used, reads = row
    return Row(bytes(blob), size, rule, turn, bool(wanted), bool(held), due, used, reads)


def _rows(connection: sa.Connection, blobs: Sequence[bytes]) -> dict[bytes, Row]:
    query = sa.select(inventory).where(inventory.c.blob.in_(blobs))
    return {bytes(row.blob): _row(row) for row in connection.execute(query)}


def _apply(
    connection: sa.Connection,
    blobs: Sequence[bytes],
    change: Callable[[bytes, Row | None], Row | None],
) -> Tally:
    """A unit: rewrite the rows that change; return what that does to the tallies."""
    before, moved = _rows(connection, blobs), Tally()
    gone: list[bytes] = []
    fresh: list[Row] = []
    for blob in dict.fromkeys(blobs):
        old = before.get(blob)
        new = change(blob, old)
        if new == old:
            continue
        if old is not None:
            gone.append(blob)
            moved.add(old, -1)
        if new is not None:
            fresh.append(new)
            moved.add(new, +1)
    if gone:
        connection.execute(sa.delete(inventory).where(inventory.c.blob.in_(gone)))
    bulk.insert(connection, inventory, fresh)
    return moved
