"""Serving goes on while a blob passes from the fetch to the store."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mesh.effects import Effect, Finish, GiveUp, Write
from mesh.exchange import TICK, Exchange
from mesh.shell.transfers import Transfers
from mesh.shell.writing import Fetch
from store.blobs import BlobStore, Ingested
from store.chunks import Manifest
from store.partial import PartialBlob
from tests.mesh.nodes import Fleet, Node, until


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
        transfers.perform([Finish(raw, manifest.id)])
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


async def rivals(fleet: Fleet) -> tuple[Node, list[tuple[Manifest, bytes]]]:
    """Return a node without the blob; the manifest of it, and one of other bytes; and the bytes."""
    a, b = await fleet.node("a"), await fleet.node("b")
    right, wrong = (random.Random(seed).randbytes(1_000_000) for seed in (3, 4))
    manifest, other = await b.add(right), await b.add(wrong)
    return a, [(manifest, right), (Manifest(manifest.blob, other.size, other.chunks), wrong)]


def believe(node: Node, manifest: Manifest) -> None:
    """Turn to a manifest on hearsay, all of which has come."""
    exchange = node.mesh._exchange
    download = exchange.downloads[manifest.blob.raw]
    if not download.authenticated:
        download.forget_manifest(wrong=False)
    download.take_manifest(manifest)
    node.mesh._transfers.perform(exchange._open(download))


def bring(node: Node, manifest: Manifest, data: bytes) -> None:
    """Let all chunks come at once."""
    write = Write(manifest.blob.raw, b"p" * 32, 0, len(manifest.chunks), data)
    node.mesh._transfers.perform([write])


async def test_the_verdict_on_a_manifest_believed_no_longer_leaves_what_is_open_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no byte of what was open before reaches a client as if a record vouched for it."""
    async with Fleet(tmp_path).open() as fleet:
        a, ((manifest, data), (rival, wrong)) = await rivals(fleet)
        transfers, exchange, blob = a.mesh._transfers, a.mesh._exchange, manifest.blob
        judging, go_on = trio.Event(), trio.Event()
        async with transfers.wanted(blob, 0, b"") as fetch:
            believe(a, rival)
            await fetch.opened.wait()
            old = fetch.partial
            assert old is not None
            complete = old.complete

            async def slowly(store: BlobStore) -> Ingested:
                judging.set()
                await go_on.wait()
                return await complete(store)

            monkeypatch.setattr(old, "complete", slowly)
            bring(a, rival, wrong)
            await judging.wait()
            exchange.want(blob.raw, trio.current_time(), size=manifest.size, manifest=manifest.id)
            assert exchange.downloads[blob.raw].authenticated
            assert not transfers.authenticated(blob), "what is open is another"
            async with transfers.wanted(blob, manifest.size, manifest.id):
                assert transfers.authenticated(blob)
                assert not fetch.opened.is_set()
                believe(a, manifest)
                await fetch.opened.wait()
                new = fetch.partial
                go_on.set()

                async def judged() -> bool:
                    return not old.active

                await until(judged)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert fetch.partial is new
                assert manifest.id not in exchange.downloads[blob.raw].refused
                bring(a, manifest, data)
                with trio.fail_after(5):
                    await fetch.done.wait()
        assert fetch.error is None
        assert await a.has(manifest)


async def test_of_rival_manifests_only_the_one_believed_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, ((manifest, _), (rival, _)) = await rivals(fleet)
        transfers, partials = a.mesh._transfers, a.mesh._partials
        begin, slow, opening, go_on = partials.open, [rival], trio.Event(), trio.Event()
        made = list[PartialBlob]()

        async def slowly(manifest: Manifest) -> PartialBlob:
            made.append(await begin(manifest))
            if slow and slow.pop():
                opening.set()
                await go_on.wait()
                return made[0]
            return made[-1]

        monkeypatch.setattr(partials, "open", slowly)

        async def only(partial: PartialBlob | None) -> bool:
            return partial is not None and [each for each in made if each.active] == [partial]

        async with transfers.wanted(manifest.blob, 0, b"") as fetch:
            believe(a, rival)
            await opening.wait()
            believe(a, manifest)
            await fetch.opened.wait()
            first = fetch.partial
            assert first is made[1]
            go_on.set()
            await until(lambda: only(first))
            assert fetch.partial is first, "what was opened too late takes no place"
            believe(a, rival)
            await until(lambda: only(made[-1] if len(made) == 3 else None))
            assert fetch.partial is made[2]
            assert a.mesh._exchange.downloads[manifest.blob.raw].open
