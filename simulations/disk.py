"""What survives a crash of a simulated node, and what does not.

A disk holds the ledger's database (SQLite in memory: a transaction is there or not), whole blobs,
and blobs on their way with their bitmap.  As ``store.partial`` has it, bits become durable every
FLUSH_SECONDS or FLUSH_SIZE; what was written after that may be torn when the node comes back, so
only the durable bits are believed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa

from mesh import bits
from store import schema
from store.chunking import Cutter
from store.chunks import Chunk, Manifest
from store.digest import Digest
from store.errors import StoreFullError

T = TypeVar("T")
FLUSH_SIZE = 8 << 20  # bytes written between two durable bitmaps at most
FLUSH_SECONDS = 2.0


def at_once(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine that waits for nothing.  Raises RuntimeError if it does wait."""
    try:
        work.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    work.close()
    raise RuntimeError("a coroutine of the simulation waits for something")


class MemoryPort:
    """The ledger's database port, over SQLite in memory."""

    def __init__(self) -> None:
        self.engine = sa.create_engine(
            "sqlite://",
            poolclass=sa.pool.StaticPool,
            connect_args={"check_same_thread": False, "isolation_level": None},
        )
        sa.event.listen(self.engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
        schema.facts.create_all(self.engine)

    async def read(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit."""
        return self.look(unit)

    async def write(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit."""
        return self.look(unit)

    def look(self, unit: Callable[[sa.Connection], T]) -> T:
        """Run a unit, at once."""
        with self.engine.begin() as connection:
            return unit(connection)

    def copy(self) -> MemoryPort:
        """Clone the database, as a thief of the disk would."""
        clone = MemoryPort()
        source, target = self.engine.raw_connection(), clone.engine.raw_connection()
        source.driver_connection.backup(target.driver_connection)  # type: ignore[union-attr]
        return clone

    def close(self) -> None:
        """Give the memory back."""
        self.engine.dispose()


def make_blob(data: bytes) -> tuple[Manifest, bytes]:
    """Cut a blob as the store does."""
    cutter = Cutter()
    parts = [bytes(part) for part in cutter.chunks(data)]
    parts += [bytes(part) for part in cutter.rest()]
    chunks = [Chunk(len(part), hashlib.sha256(part).digest()) for part in parts]
    return Manifest(Digest.of(data), len(data), chunks), data


@dataclass(slots=True)
class Part:
    """A blob on its way: its bytes so far, the chunks in them, and those that survive a crash."""

    manifest: Manifest
    data: bytearray
    have: int = 0
    durable: int = 0
    unsaved: int = 0  # bytes
    twins: dict[bytes, list[int]] = field(default_factory=dict[bytes, list[int]])

    def piece(self, index: int) -> bytes:
        """Return the bytes where a chunk lies."""
        return bytes(self.data[self.manifest.offset(index) : self.manifest.offset(index + 1)])

    def holds(self, index: int) -> bool:
        """Tell whether the bytes of a chunk are really there."""
        return hashlib.sha256(self.piece(index)).digest() == self.manifest.chunks.sha256(index)

    def put(self, index: int, piece: bytes) -> bool:
        """Verify and store a chunk, in every place where it belongs; whether it was right."""
        digest = hashlib.sha256(piece).digest()
        if digest != self.manifest.chunks.sha256(index):
            return False
        for place in self.twins[digest]:
            start = self.manifest.offset(place)
            self.data[start : start + len(piece)] = piece
            self.have |= 1 << place
        self.unsaved += len(piece)
        if self.unsaved >= FLUSH_SIZE:
            self.flush()
        return True

    def flush(self) -> None:
        """Make the bitmap durable, the data before it."""
        self.durable, self.unsaved = self.have, 0


class Disk:
    """One node's disk."""

    def __init__(self) -> None:
        self.port = MemoryPort()
        self.whole: dict[bytes, tuple[Manifest, bytes]] = {}
        self.parts: dict[bytes, Part] = {}
        self.full = False
        self._chunks: dict[bytes, tuple[bytes, int]] = {}  # of whole blobs: (blob, index)

    def store(self, manifest: Manifest, data: bytes) -> None:
        """Publish a whole blob."""
        blob = manifest.blob.raw
        self.whole[blob] = (manifest, data)
        for index in range(len(manifest.chunks)):
            self._chunks.setdefault(manifest.chunks.sha256(index), (blob, index))

    def open(self, manifest: Manifest) -> Part:
        """Begin or resume a partial blob, with what lies in other blobs here.

        Raises StoreFullError.
        """
        self._check()
        known = self.parts.get(manifest.blob.raw)
        if known is not None and known.manifest.id == manifest.id:
            return known
        part = Part(manifest, bytearray(manifest.size))
        for index in range(len(manifest.chunks)):
            part.twins.setdefault(manifest.chunks.sha256(index), []).append(index)
        self.parts[manifest.blob.raw] = part
        for index in range(len(manifest.chunks)):
            place = self._chunks.get(manifest.chunks.sha256(index))
            if place is not None and not part.have >> index & 1:
                other, data = self.whole[place[0]]
                start = other.offset(place[1])
                part.put(index, data[start : start + manifest.chunks.lengths[index]])
        return part

    def write(self, blob: bytes, first: int, count: int, data: bytes) -> list[int]:
        """Verify and store adjacent chunks; return the wrong ones.  Raises StoreFullError."""
        self._check()
        part = self.parts[blob]
        base = part.manifest.offset(first)
        wrong = []
        for index in range(first, first + count):
            start = part.manifest.offset(index) - base
            stop = part.manifest.offset(index + 1) - base
            if not part.have >> index & 1 and not part.put(index, data[start:stop]):
                wrong.append(index)
        return wrong

    def complete(self, blob: bytes) -> bool:
        """Verify the whole and publish it; whether it was right.  Raises StoreFullError."""
        self._check()
        part = self.parts.pop(blob)
        data = bytes(part.data)
        if Digest.of(data).raw != blob:
            return False
        self.store(part.manifest, data)
        return True

    def read(self, blob: bytes, first: int, count: int) -> bytes | None:
        """Return the bytes of adjacent chunks, or None if they are not all here."""
        if blob in self.whole:
            manifest, data = self.whole[blob]
            return data[manifest.offset(first) : manifest.offset(first + count)]
        part = self.parts.get(blob)
        wanted = bits.span(first, first + count)
        if part is None or wanted & ~part.have:
            return None
        return bytes(part.data[part.manifest.offset(first) : part.manifest.offset(first + count)])

    def _check(self) -> None:
        if self.full:
            raise StoreFullError("no space left on the simulated disk")

    def flush(self) -> None:
        """Make what has arrived durable."""
        if not self.full:
            for part in self.parts.values():
                part.flush()

    def crash(self, rng: random.Random) -> None:
        """Lose what was not durable: those bytes may be there, or torn, or not."""
        for part in self.parts.values():
            for index in bits.members(part.have & ~part.durable):
                if rng.random() < 0.5:
                    start, stop = part.manifest.offset(index), part.manifest.offset(index + 1)
                    part.data[start:stop] = bytes(stop - start)
            part.have, part.unsaved = part.durable, 0
