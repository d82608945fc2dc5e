"""What survives a crash of a simulated node; disks that are full, fail, or take the node along."""

from __future__ import annotations

import random

import pytest
import sqlalchemy as sa
import trio

from simulations.disk import Disk, MemoryPort, at_once, make_blob
from simulations.quick import QuickPort
from simulations.world import PowerCutError
from store import schema
from store.errors import StoreFullError, UnavailableError

MANIFEST, DATA = make_blob(random.Random(5).randbytes(700_000))
BLOB = MANIFEST.blob.raw
COUNT = len(MANIFEST.chunks)


def piece(index: int) -> bytes:
    return DATA[MANIFEST.offset(index) : MANIFEST.offset(index + 1)]


def begun(chunks: int = COUNT) -> Disk:
    disk = Disk()
    disk.open(MANIFEST)
    for index in range(chunks):
        assert disk.write(BLOB, index, 1, piece(index)) == []
    return disk


def test_wrong_chunks_are_named_and_not_kept():
    disk = Disk()
    part = disk.open(MANIFEST)
    assert disk.write(BLOB, 1, 1, bytes(len(piece(1)))) == [1]
    assert part.have == 0
    assert disk.read(BLOB, 1, 1) is None


def test_a_whole_blob_is_published_and_read():
    disk = begun()
    assert disk.complete(BLOB)
    assert disk.read(BLOB, 0, COUNT) == DATA
    assert not disk.parts


def test_chunks_that_lie_elsewhere_are_taken_over():
    disk = Disk()
    disk.store(MANIFEST, DATA)
    longer, data = make_blob(DATA + b"and more")
    part = disk.open(longer)
    assert part.have.bit_count() >= COUNT - 1
    assert all(part.holds(n) for n in range(COUNT - 1))
    assert data.startswith(DATA)


def test_nothing_is_taken_over_from_what_was_let_go_of():
    disk = Disk()
    longer, data = make_blob(DATA + b"and more")
    disk.store(MANIFEST, DATA)
    disk.store(longer, data)
    disk.drop(BLOB)
    assert disk.open(MANIFEST).have.bit_count() >= COUNT - 1  # from the other
    disk.parts.clear()
    disk.drop(longer.blob.raw)
    assert disk.open(MANIFEST).have == 0


def test_only_what_was_flushed_survives_a_crash():
    disk = begun(2)
    disk.flush()
    disk.write(BLOB, 2, 1, piece(2))
    disk.crash(random.Random(1))
    part = disk.open(MANIFEST)
    assert part.have == 0b11
    assert part.holds(0)
    assert part.holds(1)


def test_what_was_not_flushed_is_there_or_gone_or_torn():
    fates = set()
    for seed in range(40):
        disk = begun(1)
        disk.crash(random.Random(seed))
        left = disk.parts[BLOB].piece(0)
        fates.add("there" if left == piece(0) else "gone" if not any(left) else "torn")
    assert fates == {"there", "gone", "torn"}


def test_a_full_disk_reads_and_does_not_write():
    disk = begun(1)
    disk.full = 1
    with pytest.raises(StoreFullError):
        disk.write(BLOB, 1, 1, piece(1))
    with pytest.raises(StoreFullError):
        at_once(disk.port.write(lambda connection: None))
    with pytest.raises(StoreFullError):
        disk.flush()
    assert disk.read(BLOB, 0, 1) == piece(0)
    at_once(disk.port.read(lambda connection: None))


def test_a_failing_disk_fails_one_way():
    disk = begun(1)
    disk.unreadable = 1
    with pytest.raises(UnavailableError):
        disk.read(BLOB, 0, 1)
    with pytest.raises(UnavailableError):
        at_once(disk.port.read(lambda connection: None))
    disk.write(BLOB, 1, 1, piece(1))
    disk.unreadable, disk.unwritable = 0, 1
    with pytest.raises(UnavailableError):
        disk.write(BLOB, 2, 1, piece(2))
    assert disk.read(BLOB, 1, 1) == piece(1)


def test_a_trap_springs_before_or_after_an_access():
    disk = begun(1)
    disk.trap = 1
    with pytest.raises(PowerCutError):
        disk.write(BLOB, 1, 1, piece(1))
    assert disk.parts[BLOB].have == 1  # before it was written
    disk.trap = 2
    with pytest.raises(PowerCutError):
        disk.write(BLOB, 1, 1, piece(1))
    assert disk.parts[BLOB].have == 3  # after
    disk.write(BLOB, 2, 1, piece(2))  # and only once


@pytest.mark.parametrize("real", [False, True])
def test_a_trap_after_a_commit_leaves_what_was_committed(real: bool):
    disk = Disk(real=real)
    row = {"mesh": "m", "version": 1, "id": b"i", "document": b"d"}
    for moment, rows in ((1, 0), (2, 1)):
        disk.trap = moment
        with pytest.raises(PowerCutError):
            at_once(disk.port.write(lambda c: c.execute(sa.insert(schema.roots).values(**row))))
        found = disk.port.look(lambda c: c.execute(sa.select(schema.roots.c.id)).all())
        assert len(found) == rows
    disk.port.close()


async def test_a_coroutine_that_waits_is_refused() -> None:
    with pytest.raises(RuntimeError, match="waits for something"):
        at_once(trio.sleep(1))  # noqa: ASYNC105  nobody may


@pytest.mark.parametrize("make", [MemoryPort, QuickPort])
def test_a_unit_that_fails_leaves_no_trace(make):
    port = make()

    def unit(connection: sa.Connection) -> None:
        row = {"mesh": "m", "version": 1, "id": b"i", "document": b"d"}
        connection.execute(sa.insert(schema.roots).values(**row))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        at_once(port.write(unit))
    assert port.look(lambda c: c.execute(sa.select(schema.roots)).all()) == []
    port.close()
