"""Secrets of upstreams: sealed in the ledger to the members that fetch, opened in memory only."""

from __future__ import annotations

import msgspec

from node.sealing import Safe, Sealer, Settings, Write
from node.upstream.settings import Secrets
from store.errors import UnavailableError
from store.facts import Setting

KIND = "upstream-secret"


class Sealed(msgspec.Struct):
    """A repository's secrets as they stand in the ledger."""

    sealed: dict[str, str]  # node id → base64 of the sealed JSON
    headers: tuple[str, ...] = ()  # names of custom headers: those may be shown
    password: bool = False
    proxy: bool = False


class Vault:
    """Secrets by repository key."""

    def __init__(self, settings: Settings, sealer: Sealer, write: Write) -> None:
        self._safe = Safe(KIND, Sealed, settings, sealer, write)

    async def open(self, repository: str) -> Secrets:
        """The secrets of a repository.  Raises UnavailableError if they are sealed to others."""
        stored = await self._safe.get(repository)
        if stored is None:
            return Secrets()
        data = self._safe.open(stored)
        if data is None:
            raise UnavailableError("the upstream's credentials are not sealed to this node yet")
        return msgspec.json.decode(data, type=Secrets)

    async def shown(self, repository: str) -> Sealed:
        """What may be told of a repository's secrets: whether there are any."""
        return await self._safe.get(repository) or Sealed({})

    def change(self, repository: str, secrets: Secrets) -> Setting:
        """The fact that stores secrets, sealed; none at all remove what was stored."""
        if secrets == Secrets():
            return self._safe.fact(repository, None)
        stored = Sealed(
            self._safe.boxes(msgspec.json.encode(secrets)),
            tuple(sorted(secrets.headers)),
            bool(secrets.password),
            bool(secrets.proxy_username or secrets.proxy_password),
        )
        return self._safe.fact(repository, stored)

    async def share(self) -> int:
        """Seal what this node can open to members that joined since; return how many changed."""
        return await self._safe.share()
