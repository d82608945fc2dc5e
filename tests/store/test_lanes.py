from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from store.lanes import BLOCK_MIN, BLOCK_SIZE, BUFFERS, Block, Lanes, Room


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


async def feed(lanes: Lanes, count: int) -> None:
    for number in range(count):
        block = await lanes.free()
        block.fill(memoryview(bytes([number]) * 100))
        lanes.put(block)


def test_a_block_takes_what_fits() -> None:
    block = Block()
    rest = block.fill(memoryview(bytes(BLOCK_SIZE - 1)))
    assert not rest
    assert not block.full
    assert bytes(block.fill(memoryview(b"abc"))) == b"bc"
    assert block.full
    assert block.view[-1:] == b"a"


async def test_every_lane_sees_every_block_in_order(executor: ThreadPoolExecutor) -> None:
    seen: list[list[int]] = [[], [], []]

    def sink(number: int):
        def work(data: memoryview) -> None:
            time.sleep(0.0001 * number)
            assert len(data) == 100
            seen[number].append(data[0])

        return work

    lanes = Lanes(executor, [sink(number) for number in range(3)])
    await feed(lanes, 40)
    await lanes.join()
    assert seen == [list(range(40))] * 3


async def test_a_slow_lane_holds_the_writer_back(executor: ThreadPoolExecutor) -> None:
    gate = threading.Event()
    lanes = Lanes(executor, [lambda data: gate.wait() and None])
    await feed(lanes, BUFFERS)
    with trio.move_on_after(0.01) as scope:
        await lanes.free()
    assert scope.cancelled_caught
    gate.set()
    await lanes.free()


async def test_the_first_error_stops_every_lane(executor: ThreadPoolExecutor) -> None:
    seen: list[int] = []

    def refuse(data: memoryview) -> None:
        if data[0] == 3:
            raise ZeroDivisionError

    lanes = Lanes(executor, [refuse, lambda data: seen.append(data[0])])
    with pytest.raises(ZeroDivisionError):
        await feed(lanes, 1000)
    with pytest.raises(ZeroDivisionError):
        await lanes.join()
    await lanes.stop()
    count = len(seen)
    assert count <= 4 + BUFFERS
    await trio.lowlevel.checkpoint()
    assert len(seen) == count


async def test_stopping_waits_for_the_work_under_way_only(executor: ThreadPoolExecutor) -> None:
    gate, seen = threading.Event(), []

    def slow(data: memoryview) -> None:
        gate.wait()
        seen.append(data[0])

    lanes = Lanes(executor, [slow])
    await feed(lanes, BUFFERS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lanes.stop)
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert seen in ([], [0])


def test_a_block_grows_no_larger_than_what_came() -> None:
    block = Block()
    assert not block.fill(memoryview(b"a" * 1000))
    assert (bytes(block.view), len(block.data)) == (b"a" * 1000, 1000)
    rest = block.fill(memoryview(bytes(BLOCK_SIZE)))
    assert (len(rest), block.full, len(block.data)) == (1000, True, BLOCK_SIZE)
    block.size = 0  # as free() hands it out again
    block.fill(memoryview(b"b"))
    assert (bytes(block.view), len(block.data)) == (b"b", BLOCK_SIZE)


async def test_a_crowd_shares_the_room(executor: ThreadPoolExecutor) -> None:
    room = Room(size_max=8 * BLOCK_SIZE)
    crowd = [Lanes(executor, [lambda data: None], room) for _ in range(20)]
    for lanes in crowd:
        await feed(lanes, 1)
        await lanes.join()
    assert room.held == 8 * BLOCK_SIZE + 12 * BLOCK_MIN
    late = crowd[-1]
    await feed(late, 40)  # with the one small block that it has
    await late.join()
    assert room.held == 8 * BLOCK_SIZE + 12 * BLOCK_MIN
    for lanes in crowd[:-1]:
        await lanes.stop()
    assert room.held == BLOCK_MIN
    gate = threading.Event()
    alone = Lanes(executor, [lambda data: gate.wait() and None], room)
    await feed(alone, BUFFERS)
    assert room.held == BLOCK_MIN + BUFFERS * BLOCK_SIZE
    gate.set()
    for lanes in (late, alone):
        await lanes.stop()
    assert room.held == 0
