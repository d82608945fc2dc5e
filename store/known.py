"""What knows where the chunks of a blob lie already: ``store.chunkindex`` is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from store.digest import Digest


class Location(Protocol):
    """Where the bytes of a chunk lie already."""

    @property
    def blob(self) -> Digest:
        """The complete local blob."""
        ...

    @property
    def offset(self) -> int:
        """Where in it the chunk begins."""
        ...


class Index(Protocol):
    """What knows the chunks of complete local blobs: ``store.chunkindex.ChunkIndex``."""

    async def find(self, sha256s: Sequence[bytes]) -> Mapping[bytes, Location]:
        """Return where those chunks lie that are here."""
        ...
