"""Members of a mesh of secrets: what all see, and what each can open."""

from __future__ import annotations

from collections.abc import Sequence

from nacl.public import PrivateKey, SealedBox

from store.facts import Fact, Setting
from store.rows import SettingRow


class Mesh:
    """Settings of one kind that all members see, and the members' keys."""

    def __init__(self, kind: str, *nodes: str) -> None:
        self.kind = kind
        self.boxes = {node: PrivateKey.generate() for node in nodes}
        self.rows: dict[str, SettingRow] = {}
        self.based_on: list[tuple[bytes, ...]] = []

    async def setting(self, kind: str, key: str) -> SettingRow | None:
        """Find one."""
        assert kind == self.kind
        return self.rows.get(key)

    async def settings(self, kind: str) -> Sequence[SettingRow]:
        """Return all."""
        assert kind == self.kind
        return list(self.rows.values())

    async def write(self, facts: Sequence[Fact], *, actor: str) -> None:
        """Let everybody see what one writes."""
        for fact in facts:
            assert isinstance(fact, Setting)
            assert fact.kind == self.kind
            assert fact.value is not None
            self.based_on.append(tuple(fact.seen))
            self.rows[fact.key] = SettingRow(
                kind=fact.kind, key=fact.key, value=fact.value, updated=0.0, records=(b"r",)
            )


class Member:
    """One node's view."""

    def __init__(self, mesh: Mesh, node: str) -> None:
        self._mesh, self.node = mesh, node

    def members(self) -> Sequence[str]:
        """Return who may hold secrets."""
        return sorted(self._mesh.boxes)

    def seal(self, node: str, secret: bytes) -> bytes:
        """Seal a secret to a member."""
        return SealedBox(self._mesh.boxes[node].public_key).encrypt(secret)

    def unseal(self, sealed: bytes) -> bytes:
        """Open what was sealed to this one."""
        return SealedBox(self._mesh.boxes[self.node]).decrypt(sealed)
