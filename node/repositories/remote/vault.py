"""Secrets of upstreams: sealed in the ledger to the members that fetch, opened in memory only."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from node.upstream.settings import Secrets
from store.errors import UnavailableError
from store.facts import Fact, Setting
from store.rows import SettingRow

KIND = "upstream-secret"


class Sealed(msgspec.Struct):
    """A repository's secrets as they stand in the ledger."""

    sealed: dict[str, str]  # node id → base64 of the sealed JSON
    headers: tuple[str, ...] = ()  # names of custom headers: those may be shown
    password: bool = False
    proxy: bool = False


class Sealer(Protocol):
    """Seals to members, opens what is sealed to this node."""

    @property
    def node(self) -> str: ...

    def members(self) -> Sequence[str]: ...

    def seal(self, node: str, secret: bytes) -> bytes: ...

    def unseal(self, sealed: bytes) -> bytes: ...


class Settings(Protocol):
    """What the vault needs of the catalog."""

    async def setting(self, kind: str, key: str) -> SettingRow | None: ...

    async def settings(self, kind: str) -> Iterable[SettingRow]: ...


class Write(Protocol):
    """Appends facts to the ledger."""

    async def __call__(self, facts: Sequence[Fact], *, actor: str) -> object: ...


class Vault:
    """Secrets by repository key."""

    def __init__(self, settings: Settings, sealer: Sealer, write: Write) -> None:
        self._settings, self._sealer, self._write = settings, sealer, write

    async def open(self, repository: str) -> Secrets:
        """The secrets of a repository.  Raises UnavailableError if they are sealed to others."""
        row = await self._settings.setting(KIND, repository)
        if row is None:
            return Secrets()
        own = _read(row).sealed.get(self._sealer.node)
        if own is None:
            raise UnavailableError("the upstream's credentials are not sealed to this node yet")
        return msgspec.json.decode(self._sealer.unseal(base64.b64decode(own)), type=Secrets)

    async def shown(self, repository: str) -> Sealed:
        """What may be told of a repository's secrets: whether there are any."""
        row = await self._settings.setting(KIND, repository)
        return _read(row) if row is not None else Sealed({})

    def change(self, repository: str, secrets: Secrets) -> Setting:
        """The fact that stores secrets, sealed; none at all remove what was stored."""
        if secrets == Secrets():
            return Setting(KIND, repository, None, ())
        data = msgspec.json.encode(secrets)
        stored = Sealed(
            {node: self._seal(node, data) for node in self._sealer.members()},
            tuple(sorted(secrets.headers)),
            bool(secrets.password),
            bool(secrets.proxy_username or secrets.proxy_password),
        )
        return Setting(KIND, repository, msgspec.json.encode(stored), ())

    async def share(self) -> int:
        """Seal what this node can open to members that joined since; return how many changed."""
        changed = 0
        for row in await self._settings.settings(KIND):
            stored = _read(row)
            missing = [node for node in self._sealer.members() if node not in stored.sealed]
            own = stored.sealed.get(self._sealer.node)
            if not missing or own is None:
                continue
            data = self._sealer.unseal(base64.b64decode(own))
            stored.sealed.update((node, self._seal(node, data)) for node in missing)
            fact = Setting(KIND, row.key, msgspec.json.encode(stored), row.records)
            await self._write([fact], actor="node")
            changed += 1
        return changed

    def _seal(self, node: str, data: bytes) -> str:
        return base64.b64encode(self._sealer.seal(node, data)).decode()


def _read(row: SettingRow) -> Sealed:
    return msgspec.json.decode(row.value, type=Sealed)
