"""The outbox in virtual time: who waits for whom, and for how long."""

from __future__ import annotations

import pytest
import trio
from hypercorn.protocol.h2 import BufferCompleteError
from trio.testing import MockClock

from node.http.outbox import HIGH_WATER, Outbox
from node.http.transport import StalledError


async def test_bytes_come_out_in_order_and_in_the_sizes_asked_for() -> None:
    outbox = Outbox(1.0)
    await outbox.push(b"abc")
    await outbox.push(b"de")
    assert [await outbox.pop(4), await outbox.pop(4), await outbox.pop(4)] == [b"abcd", b"e", b""]


async def test_it_is_complete_once_empty() -> None:
    outbox = Outbox(1.0)
    await outbox.push(b"a")
    outbox.set_complete()
    assert not outbox.complete
    await outbox.pop(1)
    assert outbox.complete
    with pytest.raises(BufferCompleteError):
        await outbox.push(b"b")


async def test_a_push_waits_while_much_is_waiting(autojump_clock: MockClock) -> None:
    outbox = Outbox(10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.push, bytes(HIGH_WATER + 10))
        for _ in range(3):  # 24 s: longer than its patience, but something moves
            await trio.sleep(8.0)
            assert nursery.child_tasks
            await outbox.pop(1)
        await outbox.pop(10)
    assert trio.current_time() == 24.0


@pytest.mark.parametrize("wait", ["push", "drain"])
async def test_a_stall_ends_the_wait(wait: str, autojump_clock: MockClock) -> None:
    outbox = Outbox(10.0)
    if wait == "drain":
        await outbox.push(b"a")
    with pytest.raises(StalledError):
        await (outbox.drain() if wait == "drain" else outbox.push(bytes(HIGH_WATER)))
    assert trio.current_time() == 10.0


async def test_a_drain_waits_for_the_end_of_the_stream(autojump_clock: MockClock) -> None:
    outbox = Outbox(10.0)
    outbox.set_complete()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.drain)
        await trio.sleep(1.0)
        assert nursery.child_tasks
        outbox.end()


async def test_closing_frees_whoever_waits(autojump_clock: MockClock) -> None:
    outbox = Outbox(10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.push, bytes(HIGH_WATER))
        await trio.sleep(1.0)
        await outbox.close()
    assert trio.current_time() == 1.0
