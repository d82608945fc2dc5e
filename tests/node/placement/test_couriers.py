"""A and C are never up together; what C lacks travels with K."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mesh.couriers import Cargo
from mesh.leases import Waits
from node.placement import couriers, eviction
from store.digest import Digest
from store.errors import NoHolderError
from tests.node.placement.fleet import Fleet, Node, fleet, until
from tests.node.placement.test_repair import rule


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(couriers, "LOOK", 0.2)
    monkeypatch.setattr(couriers, "SOON", 0.3)
    monkeypatch.setattr(couriers, "SAVE", 0.2)
    monkeypatch.setattr(eviction, "YOUNG", 0.0)


def content(seed: int, size: int = 30_000) -> bytes:
    return random.Random(seed).randbytes(size)


async def crew(made: Fleet, **courier: object) -> tuple[Node, Node, Node]:
    """A harbour, a courier, and an island that is down after it has joined."""
    a = await made.node("harbour")
    k = await made.node("ship", courier="on", **courier)
    c = await made.node("island")
    for each in (a, k, c):
        await each.settle()
    return a, k, c


async def knows(node: Node, path: str) -> bool:
    return await node.core.catalog.find("generic", path) is not None


async def carried(node: Node) -> Any:
    answer = await node.api("GET", "/mesh/couriers")
    assert answer.status == 200, answer.body
    return answer.json


async def test_what_placement_wants_travels_with_a_courier_that_then_lets_go(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as made:
        a, k, c = await crew(made)
        await made.stop(c)
        await rule(a, id="isle", target="sites:island", packages=["tool"])
        placed = await a.publish("tool/1", content(1))
        other = await a.publish("game/1", content(2))
        await until(lambda: k.has(placed))  # it has not heard of it from C, and knows the rules
        assert not await k.has(other)
        (item,) = (await carried(k))["items"]
        assert (item["blob"], item["state"]) == (str(placed), "carried")
        assert [each["target"] for each in item["wishes"]] == [c.id]

        await made.stop(a)
        c = await made.again(c)
        await until(lambda: c.has(placed))
        await until(lambda: gone(k, placed))

        async def told() -> bool:  # the bytes go before the books are closed
            found = await carried(k)
            return (found["items"], found["used"], found["delivered"]) == ([], 0, 1)

        await until(told)
        assert not await c.has(other)


async def gone(node: Node, digest: Digest) -> bool:
    return not await node.has(digest)


async def test_what_a_client_asked_for_in_vain_comes_with_the_next_visit(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a, k, c = await crew(made)
        wanted, unasked = await a.publish("x/1", content(1)), await a.publish("x/2", content(2))
        await until(lambda: knows(c, "x/2"))
        await made.stop(a)
        with pytest.raises(NoHolderError):
            await c.core.blobs.load(wanted, limit=1 << 20)

        async def heard() -> bool:
            items = (await carried(k))["items"]
            return [each["blob"] for each in items] == [str(wanted)]

        await until(heard)
        assert (await carried(c))["lacking"] == 1
        await made.stop(c)
        k2 = await restarted(made, k)  # wishes outlive the courier's restart
        a = await made.again(a)
        await until(lambda: k2.has(wanted))
        assert not await k2.has(unasked)
        await made.stop(a)
        c = await made.again(c)
        await until(lambda: c.has(wanted))  # without anybody asking again
        assert await c.core.blobs.load(wanted, limit=1 << 20) == content(1)
        assert not await c.has(unasked)


async def test_who_only_says_that_it_holds_a_blob_keeps_no_courier_away(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a, k, c = await crew(made)
        boaster = await made.node("island")
        await boaster.settle()
        wanted = await a.publish("x/1", content(1))
        await until(lambda: knows(c, "x/1"))
        await made.stop(a)
        assert boaster.core.mesh is not None
        boaster.core.mesh.copies.moved({wanted.raw: True})

        async def boasted() -> bool:
            holders = await c.core.placer.holders.of([wanted.raw])
            return boaster.id in holders[wanted.raw]

        await until(boasted)
        with pytest.raises(NoHolderError):
            await c.core.blobs.load(wanted, limit=1 << 20)

        async def heard() -> bool:
            return [each["blob"] for each in (await carried(k))["items"]] == [str(wanted)]

        await until(heard)


async def restarted(made: Fleet, node: Node) -> Node:
    await made.stop(node)
    return await made.again(node)


async def test_a_full_courier_carries_within_its_budget(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a, k, c = await crew(made, courier_budget=70_000)
        await made.stop(c)
        await rule(a, id="isle", target="sites:island")
        blobs = [await a.publish(f"tool/{index}", content(index)) for index in range(4)]

        async def full() -> bool:  # the last may be heard of only once the first are here
            found = await carried(k)
            states = [each["state"] for each in found["items"]]
            return (states.count("carried"), states.count("wanted")) == (2, 2)

        await until(full)
        assert (await carried(k))["used"] == 60_000
        assert sum([await k.has(blob) for blob in blobs]) == 2


async def test_who_is_no_courier_carries_nothing(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a = await made.node("harbour")
        k = await made.node("ship")
        c = await made.node("island", replicate="everywhere")
        for each in (a, k, c):
            await each.settle()
        await made.stop(a)
        assert not (await carried(k))["carrying"]
        assert (await carried(c))["told"] == []


async def test_what_nobody_would_keep_does_not_stand_before_the_rest() -> None:
    cargo, asked = Cargo(b"k" * 32, 1 << 20), []
    blobs = [index.to_bytes(32, "big") for index in range(couriers.PARTING * 2 + 3)]
    for each in blobs:
        cargo.loaded(each, 1)

    async def rows(wanted: list[bytes]) -> dict[bytes, Any]:
        return {b: SimpleNamespace(blob=b, held=True, wanted=False) for b in wanted}

    async def let_go(row: Any) -> bool:
        asked.append(row.blob)
        return bool(row.blob == blobs[-1])

    follower = SimpleNamespace(inventory=SimpleNamespace(rows=rows))
    around = SimpleNamespace(let_go=let_go)
    parts: Any = (follower, None, None)
    mesh: Any = SimpleNamespace(cargo=cargo)
    courier = couriers.Courier("k", mesh, parts, around, budget=1)  # type: ignore[arg-type]  # a fake of it
    for _ in range(3):
        courier._parted = -math.inf
        await courier._part()
    assert blobs[-1] not in cargo.carried
    assert asked[: len(blobs)] == blobs


async def test_a_wait_that_makes_room_for_others_meanwhile_is_no_trouble() -> None:
    waits = Waits()
    waits.note(b"w" * 32, 1, time.time())

    async def rows(wanted: list[bytes]) -> dict[bytes, Any]:
        waits.blobs.clear()
        return {b: SimpleNamespace(blob=b, held=True, wanted=False) for b in wanted}

    async def missing(_after: bytes, _limit: int) -> list[Any]:
        return []

    follower = SimpleNamespace(inventory=SimpleNamespace(rows=rows, missing=missing))
    parts: Any = (follower, None, None)
    mesh: Any = SimpleNamespace(cargo=Cargo(b"k" * 32, 1), waits=waits)
    courier = couriers.Courier("k", mesh, parts, None, budget=1)  # type: ignore[arg-type]  # a fake of it
    assert await courier._lacks() == []
