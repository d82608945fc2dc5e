"""Eviction over whole nodes: what is needed stays, and the last copy never goes."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
import trio

from node.placement import eviction
from node.placement.keeping import Keeping
from store.digest import Digest
from tests.node.placement.fleet import Fleet, Node, fleet, until

SIZE = 20_000


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes before the test says so."""
    monkeypatch.setattr(eviction, "LOOK", 1e6)


def content(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


def age(node: Node, digest: Digest) -> None:
    path = node.core.blobs.path(digest)
    assert path is not None
    os.utime(path, (time.time() - 100, time.time() - 100))


async def pull(node: Node, digest: Digest) -> None:
    await until(lambda: known(node, digest))
    await node.core.blobs.load(digest, limit=1 << 20)
    await until(lambda: node.has(digest))
    age(node, digest)


async def known(node: Node, digest: Digest) -> bool:
    return bool(await node.core.catalog.by_digest(None, digest))


async def advertised(node: Node, holder: Node, digests: list[Digest]) -> None:
    """Wait until a node has heard who holds what."""

    async def heard() -> bool:
        found = await node.core.placer.holders.of([each.raw for each in digests])
        return all(holder.id in nodes for nodes in found.values())

    await until(heard)


async def counted(node: Node, size: int) -> None:
    async def stored() -> bool:
        return node.core.placer.inventory.tally.stored >= size

    await until(stored)


async def two(made: Fleet, budget: int) -> tuple[Node, Node]:
    a = await made.node("harbour")
    b = await made.node("ship", budget=budget)
    await a.settle()
    await b.settle()
    assert b.core.placer.evictor is not None
    return a, b


async def test_the_least_read_goes_first_and_pins_stay(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a, b = await two(made, int(3.5 * SIZE))
        blobs = [await a.publish(f"x/{n}", content(n)) for n in range(6)]
        pin = {"repository": "generic", "path": "x/0", "node": b.id}
        assert (await a.api("POST", "/pins", pin)).status == 201
        for blob in blobs:
            await pull(b, blob)
        await counted(b, 6 * SIZE)
        await b.core.blobs.load(blobs[1], limit=1 << 20)
        await advertised(b, a, blobs)
        evictor = b.core.placer.evictor
        assert evictor is not None
        for blob in blobs:
            age(b, blob)
        assert await evictor.collect() == 3 * SIZE
        assert [await b.has(blob) for blob in blobs] == [True, True, False, False, False, True]
        assert [await a.has(blob) for blob in blobs] == [True] * 6
        assert b.core.placer.inventory.tally.stored == 3 * SIZE
        assert await b.core.blobs.load(blobs[3], limit=1 << 20) == content(3)


async def test_the_last_reachable_copy_stays_however_full_it_is(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a, b = await two(made, 1)
        mine = await b.publish("x/mine", content(1))
        age(b, mine)
        await counted(b, SIZE)
        evictor = b.core.placer.evictor
        assert evictor is not None
        assert await evictor.collect() == 0
        assert await b.has(mine)
        await pull(a, mine)
        await advertised(b, a, [mine])
        evictor._refused.clear()
        assert await evictor.collect() == SIZE
        assert await a.has(mine)


async def test_two_full_nodes_never_both_let_go(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a, b = await two(made, 1)
        blobs = [await a.publish(f"x/{n}", content(n)) for n in range(12)]
        for blob in blobs:
            await pull(b, blob)
            age(a, blob)
        await advertised(b, a, blobs)
        await advertised(a, b, blobs)
        first, second = a.core.placer.evictor, b.core.placer.evictor
        assert first is not None
        assert second is not None
        first.budget = 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.collect)
            nursery.start_soon(second.collect)
        held = [(await a.has(blob)) + (await b.has(blob)) for blob in blobs]
        assert held == [1] * 12


async def test_what_is_read_staged_or_young_stays(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a, b = await two(made, 1)
        names = ("open", "staged", "young", "free")
        blobs = {n: await a.publish(f"x/{n}", content(i)) for i, n in enumerate(names)}
        for blob in blobs.values():
            await pull(b, blob)
        os.utime(b.core.blobs.path(blobs["young"]) or "")
        await b.core.staging.stage("docker", "app", "x", blobs["staged"], SIZE, {})
        await counted(b, 4 * SIZE)
        await advertised(b, a, list(blobs.values()))
        evictor = b.core.placer.evictor
        assert evictor is not None
        with b.core.blobs.store.pin(blobs["open"]):
            assert await evictor.collect() == SIZE
        held = {name for name, blob in blobs.items() if await b.has(blob)}
        assert held == {"open", "staged", "young"}


async def test_surplus_goes_before_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eviction, "LOW", 1.0)
    async with fleet(tmp_path) as made:
        a, b = await two(made, SIZE)
        asked = await a.publish("x/asked", content(1))
        surplus = await a.publish("kernel/1", content(2))
        rule = {"id": "kernel", "target": "sites:harbour", "packages": ["kernel"]}
        assert (await a.api("PUT", "/mesh/placement/rules", rule)).status == 200
        for blob in (asked, surplus):
            await pull(b, blob)

        async def sorted_out() -> bool:
            tally = b.core.placer.inventory.tally.blobs
            return (tally["kernel", "surplus"], tally["", "cached"]) == (1, 1)

        await until(sorted_out)
        await advertised(b, a, [asked, surplus])
        evictor = b.core.placer.evictor
        assert evictor is not None
        assert await evictor.collect() == SIZE
        assert (await b.has(asked), await b.has(surplus)) == (True, False)
        told = (await a.api("GET", "/mesh/placement")).json["nodes"]
        assert {each["node"] for each in told} == {a.id, b.id}
        assert isinstance(b.core.mesh.copies.keeper, Keeping)  # type: ignore[union-attr]  # the node has a mesh
