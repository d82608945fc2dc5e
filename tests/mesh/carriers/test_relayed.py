"""Streams that a relay has joined, and that end before they have begun."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import memory_stream_pair

from mesh.carriers.relayed import RelayedCarrier


async def never(relay: bytes, target: bytes) -> trio.abc.Stream:
    raise OSError("nobody dials here")


@pytest.mark.parametrize("end", ["ours", "theirs"])
async def test_a_stream_that_closes_in_the_handshake_harms_nobody(end: str) -> None:
    ours, theirs = memory_stream_pair()
    carrier = RelayedCarrier(bytes(32), never)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:  # which it would bring down
            nursery.start_soon(carrier.take, ours, b"r" * 32, b"s" * 32)
            await trio.testing.wait_all_tasks_blocked()
            await (ours if end == "ours" else theirs).aclose()
