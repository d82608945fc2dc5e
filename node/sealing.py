"""Secrets that stand in the ledger as boxes sealed to the members that may open them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from store.facts import Fact, Setting
from store.rows import SettingRow


class Sealer(Protocol):
    """Seals to members, opens what is sealed to this node."""

    @property
    def node(self) -> str: ...

    def members(self) -> Sequence[str]:
        """Nodes that may hold secrets."""
        ...

    def seal(self, node: str, secret: bytes) -> bytes: ...

    def unseal(self, sealed: bytes) -> bytes: ...


class Settings(Protocol):
    """What a safe needs of the catalog."""

    async def setting(self, kind: str, key: str) -> SettingRow | None: ...

    async def settings(self, kind: str) -> Iterable[SettingRow]: ...


class Write(Protocol):
    """Appends facts to the ledger."""

    async def __call__(self, facts: Sequence[Fact], *, actor: str) -> object: ...


class Boxed(Protocol):
    """A stored value with a secret in it: a box by node id, in base64."""

    sealed: dict[str, str]


S = TypeVar("S", bound=Boxed)


class Safe(Generic[S]):
    """The values of one kind of setting, each with a secret that members share."""

    def __init__(
        self, kind: str, shape: type[S], settings: Settings, sealer: Sealer, write: Write
    ) -> None:
        self._kind, self._shape = kind, shape
        self._settings, self._sealer, self._write = settings, sealer, write

    async def get(self, key: str) -> S | None:
        """What is stored under a key."""
        row = await self._settings.setting(self._kind, key)
        return None if row is None else self._read(row)

    async def put(self, key: str, value: S) -> None:
        """Store a value under a key that has none."""
        await self._write([self.fact(key, value)], actor="node")

    def fact(self, key: str, value: S | None) -> Setting:
        """The fact that stores a value, or that there is none."""
        return Setting(self._kind, key, None if value is None else msgspec.json.encode(value), ())

    def boxes(self, secret: bytes) -> dict[str, str]:
        """Seal a secret to each member."""
        return {node: self._box(node, secret) for node in self._sealer.members()}

    def open(self, value: S) -> bytes | None:
        """The secret; None if it is not sealed to this node yet.  Raises UnavailableError."""
        own = value.sealed.get(self._sealer.node)
        return None if own is None else self._sealer.unseal(base64.b64decode(own))

    async def share(self) -> int:
        """Seal what this node can open to members that joined since; return how many changed."""
        changed = 0
        for row in await self._settings.settings(self._kind):
            value = self._read(row)
            missing = [node for node in self._sealer.members() if node not in value.sealed]
            if not missing or (secret := self.open(value)) is None:
                continue
            value.sealed.update((node, self._box(node, secret)) for node in missing)
            fact = Setting(self._kind, row.key, msgspec.json.encode(value), row.records)
            await self._write([fact], actor="node")
            changed += 1
        return changed

    def _box(self, node: str, secret: bytes) -> str:
        return base64.b64encode(self._sealer.seal(node, secret)).decode()

    def _read(self, row: SettingRow) -> S:
        return msgspec.json.decode(row.value, type=self._shape)
