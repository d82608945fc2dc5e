"""Serving goes on while a blob passes from the fetch to the store."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mesh.effects import Effect, Finish, GiveUp
from mesh.exchange import TICK, Exchange
from mesh.shell.transfers import Transfers
from mesh.shell.writing import Fetch
from store.blobs import Ingested
from tests.mesh.nodes import Fleet, until


async def test_what_was_asked_of_a_fetch_is_served_through_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap of one moment cost who asked a lie noted, and ten seconds."""
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        data = random.Random(1).randbytes(2_000_000)
        manifest = await a.add(data)
        raw, transfers, record = manifest.blob.raw, b.mesh._board.transfers, b.index.record
        first = data[: manifest.chunks.lengths[0]]

        async def during(ingested: Ingested) -> None:
            assert transfers.length(raw, manifest.id, 0) == len(first)
            assert await transfers.read(raw, 0, 1) == first
            await record(ingested)

        monkeypatch.setattr(b.index, "record", during)
        assert await b.read(manifest) == data
        await until(lambda: b.has(manifest))

        async def ended() -> bool:
            return raw not in b.mesh._board._exchange.downloads

        await until(ended)
        assert transfers.length(raw, manifest.id, 0) == len(first)
        assert await transfers.read(raw, 0, 1) == first


async def test_the_clock_is_looked_at_however_much_happens(autojump_clock: trio.abc.Clock) -> None:
    """What is told and followed now and then must not wait for a moment when nothing happens."""
    exchange = Exchange(bytes(32), random.Random(1))
    unused: Any = None
    transfers = Transfers(exchange, unused, unused, unused, unused)
    exchange.want(bytes(32), trio.current_time(), size=1_000_000, manifest=bytes(32))
    ticks: list[float] = []
    tick = exchange.tick

    def counted(now: float) -> list[Effect]:
        ticks.append(now)
        return tick(now)

    exchange.tick = counted  # type: ignore[method-assign]  # a fake in its place
    async with trio.open_nursery() as nursery:
        await nursery.start(transfers.run)
        for _ in range(200):
            await trio.sleep(TICK / 10)
            transfers.perform([])
        nursery.cancel_scope.cancel()
    assert 18 <= len(ticks) <= 21


async def test_a_blob_that_is_given_up_while_it_is_recorded_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waited for it any more, and nobody had it: the node ended when the index was ready."""
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        transfers, exchange, record = a.mesh._transfers, a.mesh._exchange, a.index.record
        data = random.Random(2).randbytes(1_000_000)
        manifest = await b.add(data)
        recording, go_on = trio.Event(), trio.Event()

        async def slowly(ingested: Ingested) -> None:
            recording.set()
            await go_on.wait()
            await record(ingested)

        monkeypatch.setattr(a.index, "record", slowly)
        raw = manifest.blob.raw
        fetch = transfers.fetches[raw] = Fetch(manifest.blob)
        fetch.partial = await a.mesh._partials.open(manifest)
        await fetch.partial.write_runs([(0, len(manifest.chunks), data)])
        transfers.perform([Finish(raw)])
        await recording.wait()
        transfers.perform([*exchange.abandoned(raw, trio.current_time()), GiveUp(raw)])
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert fetch.done.is_set()
        go_on.set()
        with trio.fail_after(5):
            while fetch.error is not None:  # noqa: ASYNC110  it is not told a second time
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await a.has(manifest)
        assert raw not in transfers.fetches
