"""What the mesh needs of the node it runs in.  Small, so that tests and simulators can be one.

``store.ledger.Ledger``, ``store.partials.Partials``, ``store.chunkindex.ChunkIndex`` and every
``BlobStore`` fit as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from store.applying import Outcome
from store.authority import Authority
from store.blobs import Ingested
from store.chunks import Manifest
from store.council import Council
from store.digest import Digest
from store.identity import Identity
from store.partial import PartialBlob
from store.records import Batch
from store.root import SignedRoot
from store.standing import AuthorStatus


class LedgerPort(Protocol):
    """Everybody's records, judged."""

    @property
    def node(self) -> str:
        """Our node id."""
        ...

    @property
    def incarnation(self) -> int:
        """Which life of this node writes now."""
        ...

    @property
    def mesh(self) -> str:
        """The mesh we belong to."""
        ...

    @property
    def authority(self) -> Authority:
        """Who is a member, with which key and roles."""
        ...

    @property
    def identity(self) -> Identity:
        """The node with its present key, which may change."""
        ...

    @property
    def council(self) -> Council:
        """How members come in, and root documents about."""
        ...

    async def heads(self) -> Mapping[tuple[str, int], tuple[int, bytes]]:
        """How far each chain reaches."""
        ...

    async def range(self, author: str, incarnation: int, first: int) -> Batch | None:
        """Records from seq ``first``, ending on a signed head; None if none is left."""
        ...

    async def apply(self, batches: Sequence[Batch | bytes]) -> list[Outcome]:
        """Judge and store what a peer carries."""
        ...

    async def forks(self) -> list[bytes]:
        """Proofs of every fork known here."""
        ...

    async def accept_fork(self, proof: bytes) -> bool:
        """Take a proof that a chain forks; whether it was right and new."""
        ...

    async def roots(self, version: int = 0) -> list[bytes]:
        """Root documents from a version on, in an order in which they verify."""
        ...

    async def adopt(self, document: bytes | SignedRoot) -> bool:
        """Take a root document; whether it was new.  Raises RejectedError."""
        ...

    async def rebase(self, documents: Sequence[bytes]) -> None:
        """Move to another mesh.  Raises RejectedError."""
        ...

    async def authors_status(self) -> list[AuthorStatus]:
        """Every author's standing."""
        ...

    def subscribe(self) -> AsyncIterator[None]:
        """One item whenever chains or root documents have changed."""
        ...


class IndexPort(Protocol):
    """Chunk manifests of complete local blobs, and where their chunks lie."""

    async def manifest(self, blob: Digest) -> Manifest | None:
        """Return a local blob's manifest, or None."""
        ...

    async def record(self, ingested: Ingested) -> None:
        """Note a blob that has come."""
        ...

    async def find(self, sha256s: Sequence[bytes]) -> Mapping[bytes, Location]:
        """Return where chunks lie."""
        ...


class Location(Protocol):
    """Where the bytes of a chunk lie."""

    @property
    def blob(self) -> Digest:
        """The blob."""
        ...

    @property
    def offset(self) -> int:
        """The offset in it."""
        ...


class PartialsPort(Protocol):
    """Blobs on their way here."""

    async def load(self) -> list[Manifest]:
        """Return what can be resumed after a restart."""
        ...

    async def open(self, manifest: Manifest) -> PartialBlob:
        """Begin, resume or share."""
        ...

    async def leave(self, partial: PartialBlob) -> None:
        """Close one that is of no use now, to be resumed."""
        ...

    async def run(self) -> None:
        """Make what has arrived durable now and then, until cancelled."""
        ...

    async def close(self) -> None:
        """Leave everything so that it can be resumed."""
        ...


class KeeperPort(Protocol):
    """What this node holds, and what it has heard of others; ``node.placement`` is one."""

    def report(self) -> bytes:
        """Our distance to target, as members are told."""
        ...

    async def suffixes(self, shard: int) -> list[bytes]:
        """What we hold of one shard: the four bytes after a digest's first."""
        ...

    async def heard(self) -> Mapping[str, tuple[int, int]]:
        """How far each member was heard: (epoch, seq)."""
        ...

    async def checks(self, node: str) -> bytes:
        """Checksums of what a member was heard to hold."""
        ...

    async def hear(self, node: str, epoch: int, seq: int, report: bytes) -> None:
        """A member is heard up to here."""
        ...

    async def replace(self, node: str, shards: Mapping[int, bytes]) -> None:
        """A member's word for whole shards."""
        ...

    async def change(self, node: str, added: Sequence[bytes], removed: Sequence[bytes]) -> None:
        """A member's word for what came and went: ids of five bytes."""
        ...

    async def holds(self, blob: bytes) -> bool:
        """Whether a blob is here, whole."""
        ...

    async def secure(self, author: str, incarnation: int, seq: int, blobs: Sequence[bytes]) -> bool:
        """Get these blobs and this chain; whether all of it is durable here now."""
        ...


class ShelfPort(Protocol):
    """Deltas that are here, and who makes more; ``node.deltas`` is one."""

    def offers(self, blob: bytes) -> Sequence[tuple[bytes, bytes, int, int]]:
        """Return (basis, delta, size, work) of those that make a blob, the smallest first."""
        ...

    @property
    def folder(self) -> Path:
        """Where temporary files may lie."""
        ...

    @property
    def room(self) -> int:
        """How many bytes one of them may take."""
        ...

    def asked(self, blob: bytes) -> None:
        """A peer looks for a blob that is here: a delta of it would be of use."""
        ...

    async def expect(self, delta: Digest) -> bool:
        """Take a blob for a delta from now on; False if it is one of the node's own."""
        ...

    async def unexpect(self, delta: Digest) -> None:
        """No longer."""
        ...

    async def keep(self, delta: Digest) -> None:
        """Keep a delta that has proven right.  Raises DeltaInvalidError."""
        ...
