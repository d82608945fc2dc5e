"""Secrets in the ledger: only members open them, and those who join later after a share."""

from __future__ import annotations

import msgspec
from nacl.public import PrivateKey

from node.sealing import Safe
from tests.node.members import Member, Mesh

KIND = "demo-secret"


class Value(msgspec.Struct):
    sealed: dict[str, str]
    note: str = ""


def safe(mesh: Mesh, node: str) -> Safe[Value]:
    return Safe(KIND, Value, mesh, Member(mesh, node), mesh.write)


async def test_members_open_what_the_ledger_shows_to_nobody() -> None:
    mesh = Mesh(KIND, "a", "b")
    one, two = safe(mesh, "a"), safe(mesh, "b")
    assert await one.get("key") is None
    await one.put("key", Value(one.boxes(b"hidden"), "shown"))
    assert b"hidden" not in mesh.rows["key"].value
    stored = await two.get("key")
    assert stored is not None
    assert stored.note == "shown"
    assert two.open(stored) == b"hidden"


async def test_who_joins_later_opens_it_after_a_share_that_builds_on_what_was_there() -> None:
    mesh = Mesh(KIND, "a")
    one = safe(mesh, "a")
    await one.put("key", Value(one.boxes(b"hidden"), "shown"))
    mesh.boxes["b"] = PrivateKey.generate()
    two = safe(mesh, "b")
    stored = await two.get("key")
    assert stored is not None
    assert two.open(stored) is None
    assert await two.share() == 0
    assert await one.share() == 1
    assert mesh.based_on[-1] == (b"r",)
    assert await one.share() == 0
    shared = await two.get("key")
    assert shared is not None
    assert (two.open(shared), shared.note) == (b"hidden", "shown")
