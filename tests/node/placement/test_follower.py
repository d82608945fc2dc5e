"""The follower: a commit costs a look at what it touched, and nothing is lost on the way."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from node.config import Mesh
from node.directory import PlacementEntry
from node.placement import follower as module
from node.placement.follower import Follower, raw
from store.digest import Digest
from store.facts import File, Publish
from tests.node.world import World, world


@asynccontextmanager
async def followed(folder: Path, replicate: str = "everywhere") -> AsyncGenerator[World]:
    async with world(folder, mesh=Mesh(replicate=replicate)) as node:
        await node.core.placer.inventory.load()
        yield node


async def publish(node: World, path: str, data: bytes) -> Digest:
    async with node.core.blobs.ingest() as ingest:
        await ingest.write(data)
    file = File(path, "file", str(ingest.result.digest), len(data))
    await node.core.ledger.append([Publish("generic", "p", "1", (file,))], actor="t")
    return ingest.result.digest


def blobs(node: World, rule: str, kind: str) -> int:
    return node.core.placer.inventory.tally.blobs[rule, kind]


async def test_a_commit_and_a_blob_that_comes_are_counted_without_a_walk(tmp_path: Path) -> None:
    async with followed(tmp_path) as node:
        follower = node.core.placer.follower
        await follower.step()
        turn = follower.inventory.turn
        await publish(node, "a", b"here")
        file = File("b", "file", str(Digest.of(b"elsewhere")), 9)
        await node.core.ledger.append([Publish("generic", "p", "1", (file,))], actor="t")
        await follower.step()
        assert (blobs(node, "local", "wanted"), blobs(node, "local", "held")) == (2, 1)
        assert follower.inventory.turn == turn
        assert [row.blob for row in await follower.inventory.missing()] == [
            Digest.of(b"elsewhere").raw
        ]


async def test_changes_are_gathered_from_the_last_step_on_and_not_after_a_pause(
    tmp_path: Path, monkeypatch
) -> None:
    until = list[float]()

    async def sleep_until(deadline: float) -> None:
        until.append(deadline)

    monkeypatch.setattr(module.trio, "sleep_until", sleep_until)
    async with followed(tmp_path) as node, trio.open_nursery() as nursery:
        follower = node.core.placer.follower
        nursery.start_soon(follower.run)
        while not follower._wake.statistics().tasks_waiting:
            await trio.lowlevel.checkpoint()
        published = trio.current_time()
        await publish(node, "a", b"data")
        while not until:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert until[0] < published + module.GATHER


async def test_a_new_rule_walks_and_age_is_looked_at_in_time(tmp_path: Path) -> None:
    async with followed(tmp_path, "on-demand") as node:
        follower, now = node.core.placer.follower, time.time()
        digest = await publish(node, "a", b"data")
        await follower.step()
        rule = PlacementEntry(id="fresh", target="everywhere", younger_than=60.0)
        await node.core.ledger.append([node.core.directory.change("fresh", rule)], actor="t")
        await follower.step()
        row = (await follower.inventory.rows([digest.raw]))[digest.raw]
        assert (row.rule, row.wanted) == ("fresh", True)
        assert row.due is not None
        assert now + 55 < row.due < now + 75


async def test_reads_make_demand(tmp_path: Path) -> None:
    async with followed(tmp_path, "on-demand") as node:
        follower = node.core.placer.follower
        digest = await publish(node, "a", b"data")
        rule = PlacementEntry(id="hot", target="everywhere", reads_min=3)
        await node.core.ledger.append([node.core.directory.change("hot", rule)], actor="t")
        await follower.step()
        assert not (await follower.inventory.rows([digest.raw]))[digest.raw].wanted
        for _ in range(3):
            await node.core.blobs.load(digest, limit=100)
        await follower.step()
        assert (await follower.inventory.rows([digest.raw]))[digest.raw].wanted


async def test_what_the_store_kept_is_still_here(tmp_path: Path) -> None:
    """Garbage collection tells before it deletes, and may find the blob in use."""
    async with followed(tmp_path) as node:
        follower = node.core.placer.follower
        digest = await publish(node, "a", b"data")
        await follower.step()
        await node.core.blobs.index.forget(digest)
        await follower.step()
        assert blobs(node, "local", "held") == 1
        await node.core.blobs.store.delete(digest)
        await node.core.blobs.index.forget(digest)
        await follower.step()
        assert blobs(node, "local", "held") == 0


async def test_too_much_at_once_is_walked_over(tmp_path: Path, monkeypatch) -> None:
    async with followed(tmp_path) as node:
        follower = node.core.placer.follower
        await follower.step()
        monkeypatch.setattr(module, "TOUCHED_MAX", 3)
        monkeypatch.setattr(module, "REST", 0.0)
        files = tuple(File(f"f{n}", "file", str(Digest.of(b"%d" % n)), 1) for n in range(10))
        await node.core.ledger.append([Publish("generic", "p", "1", files)], actor="t")
        turn = follower.inventory.turn
        await follower.step()
        assert follower.inventory.turn == turn + 1
        assert blobs(node, "local", "wanted") == 10


async def test_after_a_crash_the_store_is_compared(tmp_path: Path) -> None:
    async with followed(tmp_path) as node, trio.open_nursery() as nursery:
        digest = await publish(node, "a", b"data")
        fresh = Follower(
            node.core.placer.inventory,
            node.core.placer.uses,
            node.core.blobs.store,
            node=node.core.identity.node,
            policy=node.core.placer.policy,
            marker=tmp_path / "marker",
            moved=lambda _: None,
        )
        nursery.start_soon(fresh.run)
        await fresh.settled.wait()
        assert blobs(node, "local", "held") == 1
        assert (await fresh.inventory.rows([digest.raw]))[digest.raw].size == 4
        nursery.cancel_scope.cancel()
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("error", [OSError, trio.Cancelled])
async def test_what_could_not_be_written_down_is_written_later(
    tmp_path: Path, monkeypatch, error: type[BaseException]
) -> None:
    async with followed(tmp_path) as node:
        follower = node.core.placer.follower
        digest = await publish(node, "a", b"data")
        await follower.step()
        gone, came = Digest.of(b"gone"), await publish(node, "b", b"more")
        follower.stored(gone, None)

        async def broken(_: Digest) -> int:
            follower.stored(gone, 3)  # news meanwhile outlive what could not be noted
            if error is trio.Cancelled:
                await trio.sleep_forever()
            raise error("the disk")

        with monkeypatch.context() as patch:
            patch.setattr(follower._store, "size", broken)
            with suppress(OSError), trio.move_on_after(0):
                await follower.flush()
        assert follower.noting(came.raw)
        assert not follower._noted
        assert follower._came == {came.raw: 4, gone.raw: 3}
        await follower.flush()
        assert not follower.noting(came.raw)
        rows = await follower.inventory.rows([digest.raw, came.raw])
        assert {row.size for row in rows.values()} == {4}


def test_only_sha256_is_followed() -> None:
    assert raw(str(Digest.of(b"x"))) == Digest.of(b"x").raw
    assert raw("sha512:" + "0" * 128) is None
    assert raw("nonsense") is None
