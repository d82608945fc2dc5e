"""What survives a crash of a simulated node, and what does not.

A disk holds the ledger's database (SQLite in memory: a transaction is there or not), whole blobs,
and blobs on their way with their bitmap.  As ``store.partial`` has it, bits become durable every
FLUSH_SECONDS or FLUSH_SIZE; what was written after that may be torn when the node comes back, so
only the durable bits are believed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa

from mesh import bits
from mesh.invitation import Book
from simulations.quick import Accessing, QuickPort, unhindered
from simulations.world import PowerCutError
from store import schema
from store.chunking import Cutter
from store.chunks import Chunk, Manifest
from store.digest import Digest
from store.errors import StoreFullError, UnavailableError
from store.identity import Identity
from store.keys import Keys

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

    def __init__(self, accessing: Accessing = unhindered) -> None:
        self._accessing = accessing
        self.engine = sa.create_engine(
            "sqlite://",
            poolclass=sa.pool.StaticPool,
            connect_args={"check_same_thread": False, "isolation_level": None},
        )
        sa.event.listen(self.engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
        schema.facts.create_all(self.engine)

    async def read(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit."""
        with self._accessing(writing=False):
            return self.look(unit)

    async def write(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit."""
        with self._accessing(writing=True):
            return self.look(unit)

    def look(self, unit: Callable[[sa.Connection], T]) -> T:
        """Run a unit, at once, whatever is wrong with the disk."""
        with self.engine.begin() as connection:
            return unit(connection)

    def copy(self) -> MemoryPort:
        """Clone the database, as a thief of the disk would."""
        clone = MemoryPort()
        source, target = self.engine.raw_connection(), clone.engine.raw_connection()
        source.driver_connection.backup(target.driver_connection)  # type: ignore[union-attr]  # an open connection has a driver's
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


class DiskKeys(Keys):
    """A node's keys, kept on a simulated disk."""

    def __init__(self, disk: Disk, first: Identity) -> None:
        disk.identity = disk.identity or first
        super().__init__(disk.identity)
        self._disk = disk

    async def keep(self, current: Identity) -> None:
        """Use an identity from now on; it is on the disk first."""
        if current != self.current:
            with self._disk.accessing(writing=True):
                self._disk.identity = current
            self.current = current


class Disk:
    """One node's disk.  ``full``, ``unwritable`` and ``unreadable`` count the faults at work."""

    def __init__(self, *, real: bool = False) -> None:
        self.port: MemoryPort | QuickPort = (
            MemoryPort(self.accessing) if real else QuickPort(accessing=self.accessing)
        )
        self.identity: Identity | None = None  # as the key file has it
        self.book = Book()  # invitations that were given out, saved as they are used
        self.saved: object = None  # what a courier remembers
        self.whole: dict[bytes, tuple[Manifest, bytes]] = {}
        self.parts: dict[bytes, Part] = {}
        self.full = self.unwritable = self.unreadable = 0
        self.trap = 0  # moments of access until the node dies; 0: it does not
        self.sprung: Callable[[], None] = lambda: None
        self._chunks: dict[bytes, tuple[bytes, int]] = {}  # of whole blobs: (blob, index)

    def store(self, manifest: Manifest, data: bytes) -> None:
        """Publish a whole blob."""
        blob = manifest.blob.raw
        self.whole[blob] = (manifest, data)
        for index in range(len(manifest.chunks)):
            self._chunks.setdefault(manifest.chunks.sha256(index), (blob, index))

    def drop(self, blob: bytes) -> None:
        """Let go of a whole blob: nothing is taken over from it any more."""
        del self.whole[blob]
        self._chunks.clear()
        for manifest, data in list(self.whole.values()):
            self.store(manifest, data)

    @contextmanager
    def accessing(self, *, writing: bool) -> Iterator[None]:
        """Surround an access: before and after it are moments to die.

        Raises StoreFullError, UnavailableError, PowerCutError.
        """
        self._step()
        if writing and self.full:
            raise StoreFullError("no space left on the simulated disk")
        if self.unwritable if writing else self.unreadable:
            raise UnavailableError("input/output error of the simulated disk")
        yield
        self._step()

    def _step(self) -> None:
        if self.trap:
            self.trap -= 1
            if not self.trap:
                raise PowerCutError(self.sprung)

    def open(self, manifest: Manifest) -> Part:
        """Begin or resume a partial blob, with what lies in other blobs here.

        Raises StoreFullError, UnavailableError.
        """
        with self.accessing(writing=True):
            return self._open(manifest)

    def _open(self, manifest: Manifest) -> Part:
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
        """Verify and store adjacent chunks; return the wrong ones.

        Raises StoreFullError, UnavailableError.
        """
        with self.accessing(writing=True):
            return self._write(blob, first, count, data)

    def _write(self, blob: bytes, first: int, count: int, data: bytes) -> list[int]:
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
        """Verify the whole and publish it; whether it was right.

        Raises StoreFullError, UnavailableError.
        """
        with self.accessing(writing=True):
            part = self.parts.pop(blob)
            data = bytes(part.data)
            if Digest.of(data).raw != blob:
                return False
            self.store(part.manifest, data)
        return True

    def read(self, blob: bytes, first: int, count: int) -> bytes | None:
        """Return the bytes of adjacent chunks, or None if they are not all here.

        Raises UnavailableError.
        """
        with self.accessing(writing=False):
            return self._read(blob, first, count)

    def _read(self, blob: bytes, first: int, count: int) -> bytes | None:
        if blob in self.whole:
            manifest, data = self.whole[blob]
            return data[manifest.offset(first) : manifest.offset(first + count)]
        part = self.parts.get(blob)
        wanted = bits.span(first, first + count)
        if part is None or wanted & ~part.have:
            return None
        return bytes(part.data[part.manifest.offset(first) : part.manifest.offset(first + count)])

    def flush(self) -> None:
        """Make what has arrived durable.  Raises StoreFullError, UnavailableError."""
        if any(part.unsaved for part in self.parts.values()):
            with self.accessing(writing=True):
                for part in self.parts.values():
                    part.flush()

    def crash(self, rng: random.Random) -> None:
        """Lose what was not durable: those bytes may be there, or not, or torn."""
        self.trap = 0
        for part in self.parts.values():
            for index in bits.members(part.have & ~part.durable):
                start, stop = part.manifest.offset(index), part.manifest.offset(index + 1)
                fate = rng.random()
                if fate < 0.25:
                    start = rng.randrange(start, stop)  # the last write got as far as this
                if fate < 0.5:
                    part.data[start:stop] = bytes(stop - start)
            part.have, part.unsaved = part.durable, 0
