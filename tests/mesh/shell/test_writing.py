"""Chunks on their way to the disk: together, in order, and never too many."""

from __future__ import annotations

from typing import Any

import trio

from mesh.effects import Write
from mesh.shell.writing import GATHER_MAX, UNWRITTEN_MAX, Fetch, Writing
from store.digest import Digest
from store.errors import RegistryError, StoreFullError
from store.partial import PartialBlob

BLOB = Digest.of(b"blob")


class SlowPartial:
    """Takes runs when it is let; ``wrong`` chunks do not verify."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = trio.Semaphore(0)
        self.wrong: set[int] = set()
        self.error: RegistryError | None = None
        self.abandoned: list[RegistryError] = []

    async def write_runs(self, runs: list[tuple[int, int, bytes]]) -> list[int]:
        await self.free.acquire()
        if self.error is not None:
            raise self.error
        self.batches.append([first for first, _, _ in runs])
        asked = [index for first, stop, _ in runs for index in range(first, stop)]
        return [index for index in asked if index in self.wrong]

    async def abandon(self, error: RegistryError) -> None:
        self.abandoned.append(error)


class Bench:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.told: list[tuple[bytes, int, list[int]]] = []
        self.failures: list[bytes] = []
        self.partial: Any = SlowPartial()
        self.fetch = Fetch(BLOB)
        self.fetch.partial = self.partial  # type: ignore[assignment]  # a fake in its place
        self.fetches = {BLOB.raw: self.fetch}
        self.writing = Writing(
            self.fetches, self.written, lambda raw, _error: self.failures.append(raw)
        )
        self.writing.start = nursery.start_soon

    def written(self, effect: Write, partial: PartialBlob, bad: list[int]) -> None:
        self.told.append((effect.peer, effect.first, bad))

    def put(self, first: int, count: int = 1, size: int = 10, peer: bytes = b"p") -> None:
        self.writing.put(Write(BLOB.raw, peer, first, count, bytes(size)))


async def test_what_comes_while_one_writes_is_written_together(nursery: trio.Nursery) -> None:
    bench = Bench(nursery)
    bench.put(0)
    await trio.testing.wait_all_tasks_blocked()
    bench.put(1, 2)
    bench.put(3, peer=b"q")
    bench.put(2, 2, peer=b"q")  # overlaps: whose chunk is wrong must be clear
    bench.partial.wrong = {2}
    for _ in range(3):
        bench.partial.free.release()
    await trio.testing.wait_all_tasks_blocked()
    assert bench.partial.batches == [[0], [1, 3], [2]]
    assert bench.told == [(b"p", 0, []), (b"p", 1, [2]), (b"q", 3, []), (b"q", 2, [2])]


async def test_one_batch_is_not_too_large(nursery: trio.Nursery) -> None:
    bench = Bench(nursery)
    for index in range(6):
        bench.put(index, size=GATHER_MAX // 2)
    for _ in range(6):
        bench.partial.free.release()
    await trio.testing.wait_all_tasks_blocked()
    assert bench.partial.batches == [[0, 1], [2, 3], [4, 5]]


async def test_a_peer_waits_while_too_much_of_it_is_unwritten(nursery: trio.Nursery) -> None:
    bench = Bench(nursery)
    bench.put(0, size=UNWRITTEN_MAX)
    with trio.move_on_after(0.01) as waiting:
        await bench.writing.room(b"p")
    assert waiting.cancelled_caught
    await bench.writing.room(b"q")
    bench.partial.free.release()
    with trio.fail_after(5):
        await bench.writing.room(b"p")
    assert bench.told


async def test_a_disk_that_refuses_ends_the_fetch(nursery: trio.Nursery) -> None:
    bench = Bench(nursery)
    bench.partial.error = StoreFullError("full")
    bench.put(0)
    bench.partial.free.release()
    await trio.testing.wait_all_tasks_blocked()
    assert bench.failures == [BLOB.raw]
    assert bench.partial.abandoned
    with trio.fail_after(5):
        await bench.writing.room(b"p")


async def test_chunks_of_a_manifest_that_fell_are_dropped(nursery: trio.Nursery) -> None:
    bench = Bench(nursery)
    bench.put(0)
    before = bench.partial
    bench.fetch.partial = None
    before.free.release()
    await trio.testing.wait_all_tasks_blocked()
    assert not bench.told
    bench.put(1)
    assert not bench.fetch.unwritten


async def test_what_was_written_for_a_manifest_that_fell_is_told_of_no_other(
    nursery: trio.Nursery,
) -> None:
    bench = Bench(nursery)
    bench.put(0)
    bench.partial.wrong = {0}
    await trio.testing.wait_all_tasks_blocked()  # it is at the disk
    other: Any = SlowPartial()
    bench.fetch.partial = other
    bench.partial.free.release()
    await trio.testing.wait_all_tasks_blocked()
    assert bench.partial.batches == [[0]]
    assert not bench.told
