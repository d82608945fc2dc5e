"""What root documents say, for those who are to sign them."""

from __future__ import annotations

from pathlib import Path

from node.api.roots import describe
from store import root
from store.root import Delegation, Evicted, Reserved, RootDocument
from tests.node.world import world
from tests.store.ledgers import identity

ONE, TWO = identity(1), identity(2)


def document(**changes: object) -> RootDocument:
    given: dict = {"owners": (ONE.key,), "threshold": 1, "members": (root.member_of(ONE),)}
    return RootDocument("", 1, (), **{**given, **changes})


def test_every_change_is_said() -> None:
    before = document()
    assert describe([before], before) == ["changes nothing but the version"]
    terms = Delegation(ONE.node, ("mirror",), ("*",), ("*",), 1, 3)
    after = document(
        owners=(ONE.key, TWO.key),
        threshold=2,
        members=(root.member_of(ONE, roles=("mirror",)), root.member_of(TWO, name="two")),
        delegations=(terms,),
        reserved=(Reserved("npm", "acme-", "reef"),),
        evicted=(Evicted("f" * 64, "stolen", 0),),
    )
    said = "\n".join(describe([before, before], after))
    for words in (
        f"admits {TWO.node[:12]} two at no site as writer for *",
        f"evicts {'f' * 12}: stolen",
        f"{ONE.node[:12]}: roles writer -> mirror",
        "2 of 2 sign",
        f"delegates: {ONE.node[:12]} (3)",
        "reserved: npm 'acme-' reef",
        "settles 2 rival documents",
    ):
        assert words in said


async def test_the_mesh_is_shown_to_administrators(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        found = (await node.api("GET", "/mesh/roots")).json
        (member,) = found["members"]
        assert (member["node"], member["owner"]) == (node.core.identity.node, True)
        assert (found["version"], found["threshold"]) == (1, 1)
        assert [each["in_force"] for each in found["roots"]] == [True]
        assert (await node.api("GET", "/mesh/forks")).json == {"items": []}
        assert (await node.ask("GET", "/api/v1/mesh/roots")).status == 401
