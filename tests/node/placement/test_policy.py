"""The policy, read from settings and members; whatever somebody wrote there."""

from __future__ import annotations

from pathlib import Path

from mesh.placement import Rule, Target
from node.config import Config, Mesh
from node.directory import PinEntry, PlacementEntry, RepositoryEntry
from node.placement.policy import build_policy, fingerprint, rule_of, target_of
from node.placement.service import Placer
from store.facts import Setting
from tests.node.world import World, world


async def policy(node: World, **changes: object):
    core = node.core
    given = {"node": core.identity.node, "config": core.config, **changes}
    return build_policy(core.directory, core.ledger.authority.members(), **given)


async def put(node: World, key: str, entry) -> None:
    await node.core.ledger.append([node.core.directory.change(key, entry)], actor="t")


async def test_rules_stand_in_their_order_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for order, name, target in (
            (5, "b", "everywhere"),
            (5, "a", "replicas:2"),
            (1, "z", "on-demand"),
        ):
            await put(node, name, PlacementEntry(id=name, target=target, order=order))
        bad = Setting("placement", "bad", b'{"id": "bad", "target": "sometimes"}')
        await node.core.ledger.append([bad], actor="t")
        found = await policy(node)
        assert [rule.id for rule in found.rules] == ["z", "a", "b"]


async def test_traits_pins_and_members(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        entry = RepositoryEntry(
            key="w", format="pypi", labels={"tier": "gold"}, placement="replicas:2"
        )
        await put(node, "w", entry)
        await put(node, "p", PinEntry(id="p", repository="w", site="default"))
        found = await policy(node)
        traits = (found.traits or {})["w"]
        assert traits.labels == {"tier", "tier=gold"}
        assert traits.target == Target("replicas", copies=2)
        assert [pin.site for pin in found.pins] == ["default"]
        (member,) = found.members
        assert member.node == node.core.identity.node
        assert not (await policy(node, absent=[member.node])).members
        assert found.greedy == ""
        greedy = await policy(node, config=Config(mesh=Mesh(replicate="everywhere")))
        assert greedy.greedy == member.node
        assert fingerprint(found) != fingerprint(greedy)
        assert fingerprint(found) == fingerprint(await policy(node))
        assert isinstance(node.core.placer, Placer)


def test_an_entry_says_all_that_a_rule_does() -> None:
    entry = PlacementEntry(id="r", target="everywhere", packages=("a",), size_min=3, reads_min=2)
    rule = rule_of(entry, Target("everywhere"))
    assert rule == Rule("r", Target("everywhere"), packages=("a",), size_min=3, reads_min=2)
    assert target_of("nonsense", "here") is None
