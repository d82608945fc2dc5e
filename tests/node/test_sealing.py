"""Secrets in the ledger: only members open them, and those who join later after a share."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from nacl.public import PrivateKey, SealedBox

from node.sealing import Safe
from store.facts import Fact, Setting
from store.rows import SettingRow

KIND = "demo-secret"


class Value(msgspec.Struct):
    sealed: dict[str, str]
    note: str = ""


class Mesh:
    """Settings that all members see, and the members' keys."""

    def __init__(self, *nodes: str) -> None:
        self.boxes = {node: PrivateKey.generate() for node in nodes}
        self.rows: dict[str, SettingRow] = {}
        self.based_on: list[tuple[bytes, ...]] = []

    async def setting(self, kind: str, key: str) -> SettingRow | None:
        return self.rows.get(key)

    async def settings(self, kind: str) -> Sequence[SettingRow]:
        return list(self.rows.values())

    async def write(self, facts: Sequence[Fact], *, actor: str) -> None:
        for fact in facts:
            assert isinstance(fact, Setting)
            assert fact.value is not None
            self.based_on.append(tuple(fact.seen))
            self.rows[fact.key] = SettingRow(
                kind=fact.kind, key=fact.key, value=fact.value, updated=0.0, records=(b"r",)
            )


class Member:
    def __init__(self, mesh: Mesh, node: str) -> None:
        self._mesh, self.node = mesh, node

    def members(self) -> Sequence[str]:
        return sorted(self._mesh.boxes)

    def seal(self, node: str, secret: bytes) -> bytes:
        return SealedBox(self._mesh.boxes[node].public_key).encrypt(secret)

    def unseal(self, sealed: bytes) -> bytes:
        return SealedBox(self._mesh.boxes[self.node]).decrypt(sealed)


def safe(mesh: Mesh, node: str) -> Safe[Value]:
    return Safe(KIND, Value, mesh, Member(mesh, node), mesh.write)


async def test_members_open_what_the_ledger_shows_to_nobody() -> None:
    mesh = Mesh("a", "b")
    one, two = safe(mesh, "a"), safe(mesh, "b")
    assert await one.get("key") is None
    await one.put("key", Value(one.boxes(b"hidden"), "shown"))
    assert b"hidden" not in mesh.rows["key"].value
    stored = await two.get("key")
    assert stored is not None
    assert stored.note == "shown"
    assert two.open(stored) == b"hidden"


async def test_who_joins_later_opens_it_after_a_share_that_builds_on_what_was_there() -> None:
    mesh = Mesh("a")
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
