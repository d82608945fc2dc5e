"""Whole nodes fetch what rules and pins place on them, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

from store.facts import Delete
from tests.node.placement.fleet import Fleet, Node, fleet, until


async def three(made: Fleet) -> tuple[Node, Node, Node]:
    a = await made.node("harbour")
    b = await made.node("ship")
    c = await made.node("ship")
    for each in (a, b, c):
        await each.settle()
    return a, b, c


async def rule(node: Node, **body: object) -> None:
    answer = await node.api("PUT", "/mesh/placement/rules", body)
    assert answer.status == 200, answer.body


def content(seed: int, size: int = 20_000) -> bytes:
    return random.Random(seed).randbytes(size)


async def test_rules_pins_and_defaults_bring_blobs_where_they_belong(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a, b, c = await three(made)
        await rule(a, id="all", target="everywhere", packages=["kernel"])
        await rule(a, id="old", target="replicas:3", older_than=86400.0, order=-1)
        await rule(b, id="ship", target="sites:ship", repositories=["generic"], size_min=50_000)
        everywhere = await a.publish("kernel/1", content(1))
        there = await a.publish("tool/1", content(2, 60_000))
        nowhere = await a.publish("tool/2", content(3))

        async def arrived() -> bool:
            both = await b.has(everywhere) and await c.has(everywhere)
            return both and (await b.has(there)) != (await c.has(there))

        await until(arrived)
        pin = await a.api(
            "POST", "/pins", {"repository": "generic", "path": "tool/2", "node": c.id[:8]}
        )
        assert pin.status == 201, pin.body
        await until(lambda: c.has(nowhere))
        assert not await b.has(nowhere)

        changed = await a.api("PATCH", "/repositories/generic", {"placement": "replicas:3"})
        assert changed.status == 200, changed.body
        await until(lambda: b.has(nowhere))
        view = (await b.api("GET", "/repositories/generic/placement")).json["items"]
        assert {each["path"]: each["rule"] for each in view} == {
            "kernel/1": "all",
            "tool/1": "ship",
            "tool/2": "default",
        }
        assert sorted(view[0]["nodes"]) == sorted([a.id, b.id, c.id])


async def test_what_was_deleted_is_not_missed(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a = await made.node("harbour")
        b = await made.node("ship", replicate="everywhere")
        kept, gone = await a.publish("x/kept", content(1)), await a.publish("x/gone", content(2))
        await until(lambda: b.has(kept))
        await until(lambda: b.has(gone))
        inventory = b.core.placer.inventory

        async def counted() -> bool:
            return inventory.tally.blobs["local", "held"] == 2

        await until(counted)
        await a.core.ledger.append([Delete("generic", "x/gone", ())], actor="t")

        async def forgotten() -> bool:
            return inventory.tally.blobs["local", "wanted"] == 1

        await until(forgotten)
        assert inventory.tally.blobs["", "other"] == 1


async def test_a_member_that_carries_only_some_repositories(tmp_path: Path) -> None:
    """It verifies all chains, is given nothing of the rest, and still serves it on demand."""
    async with fleet(tmp_path) as made:
        a, b, c = await three(made)
        answer = await a.api("PUT", f"/mesh/carriage/{b.id}", {"repositories": ["npm*"]})
        assert answer.status == 200, answer.body
        await rule(a, id="all", target="everywhere")
        blob = await a.publish("tool/1", content(1))
        await until(lambda: c.has(blob))
        assert not await b.has(blob)
        (status,) = [each for each in await b.core.ledger.authors_status() if each.author == a.id]
        assert status.refused == 0
        assert status.seq > 0
        artifact = await b.core.catalog.find("generic", "tool/1")
        assert artifact is not None
        assert await b.core.blobs.load(blob, limit=1 << 20) == content(1)
        distance = (await b.api("GET", "/mesh/placement")).json["nodes"]
        carries = {each["node"]: each["carries"] for each in distance}
        assert carries == {a.id: [], b.id: ["npm*"], c.id: []}


async def test_placement_survives_a_restart_without_a_walk(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a = await made.node("harbour", replicate="everywhere")
        await a.publish("x/1", content(1))
        follower = a.core.placer.follower

        async def counted() -> bool:
            return a.core.placer.inventory.tally.blobs["local", "held"] == 1

        await until(counted)
        await a.settle()  # the walk of the first start may not have ended
        turn = follower.inventory.turn
    async with fleet(tmp_path) as made:
        a = await made.node("harbour", replicate="everywhere")
        await a.settle()
        assert a.core.placer.inventory.turn == turn
        assert a.core.placer.inventory.tally.blobs["local", "held"] == 1
    (tmp_path / "n0" / "placement.json").unlink()
    async with fleet(tmp_path) as made:
        a = await made.node("harbour", replicate="on-demand")
        await a.settle()
        assert a.core.placer.inventory.turn == turn + 1
        assert a.core.placer.inventory.tally.blobs["", "cached"] == 1
