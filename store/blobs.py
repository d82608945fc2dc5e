"""What a blob store is.  Implementations: ``store.files``, ``store.s3``, ``store.memory``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from store.chunks import Manifest
from store.digest import Digest


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one pass over the bytes learnt.  ``checksums`` is algorithm → lower-case hex."""

    digest: Digest
    size: int
    checksums: Mapping[str, str]
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class BlobRange:
    """Bytes ``[start, stop)`` of a blob, and what a signed record says of it.

    With a size and a manifest's id they may flow before the whole is here (design.md ruling 8).
    """

    digest: Digest
    size: int | None = None
    manifest_id: bytes = b""
    start: int = 0
    stop: int | None = None


class Ingest(Protocol):
    """Bytes on their way in."""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``.  Raises StoreFullError, ReadOnlyError."""
        ...

    @property
    def result(self) -> Ingested:
        """What was stored; only once the block has been left cleanly."""
        ...


class BlobStore(Protocol):
    """Immutable bytes, named by their SHA-256: here whole and verified, or not at all."""

    async def size(self, digest: Digest) -> int:
        """Return the length in bytes.  Raises BlobUnknownError."""
        ...

    async def has(self, digest: Digest) -> bool:
        """Tell whether the blob is here."""
        ...

    def path(self, digest: Digest) -> Path | None:
        """Return the local file, for zero-copy sends, or None.  Looks at no disk."""
        ...

    def read(
        self, digest: Digest, *, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open bytes ``[start, stop)``.  While it is open, the blob is not collected.

        Raises BlobUnknownError on entry.
        """
        ...

    def ingest(
        self, expected: Digest | None = None, *, checksums: Iterable[str] = ()
    ) -> AbstractAsyncContextManager[Ingest]:
        """Accept a blob.  Leaving the block cleanly verifies, syncs and publishes it.

        ``checksums`` names hashlib algorithms to compute beside SHA-256.  Raises
        DigestMismatchError there, unless ``expected`` is None.  Leaving by an exception,
        cancellation included, discards the bytes.  Ingesting a blob twice is not an error.
        """
        ...

    async def adopt(self, file: Path, digest: Digest) -> None:
        """Take over a complete, already verified and synced local file.  Consumes it."""
        ...

    async def keep(self, data: bytes, digest: Digest) -> None:
        """Publish a small blob that is already verified.  Raises StoreFullError, ReadOnlyError.

        Many that come together cost little more than one.
        """
        ...

    def digests(self) -> AsyncIterator[Digest]:
        """Iterate over what is here, in no order, without holding the list in memory."""
        ...

    async def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is not here is not an error.  Open readers keep their bytes."""
        ...
