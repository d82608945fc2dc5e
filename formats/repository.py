"""What a handler may ask of its repository and of the node: protocols that the node implements."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeVar

from formats.parts import Session
from store.blobs import Ingest, Ingested
from store.digest import Digest
from store.rows import Artifact, FlagRow, Pointer

DOCUMENT_MAX = 16 << 20  # bytes of a body that a handler may see as bytes
# Sets of generated documents that stay readable by digest: so many at least, and so many at most
# of those that were the newest within the last half hour.
GENERATIONS_MIN, GENERATIONS_MAX = 3, 64
GENERATION_SECONDS = 1800.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.  ``name`` is "" for an anonymous caller."""

    name: str = ""
    kind: str = "anonymous"  # anonymous | user | token
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Staged:
    """Ingested bytes that wait for their commit point, on this node only."""

    name: str
    digest: Digest
    size: int
    checksums: Mapping[str, str]
    metadata: bytes
    created: float


class Signer(Protocol):
    """The repository's OpenPGP key.  Signing is deterministic: equal input, equal bytes."""

    async def public_key(self) -> bytes:
        """The armoured public key (or keys, during a rotation)."""
        ...

    async def clear_sign(self, text: bytes, *, time: float) -> bytes:
        """An inline-signed message (RFC 9580 §7)."""
        ...

    async def detach_sign(self, data: bytes, *, time: float) -> bytes:
        """An armoured detached signature."""
        ...


class Uploads(Protocol):
    """Resumable upload sessions of this repository on this node.  They survive a restart."""

    async def create(self, package: str) -> Session:
        """Open a session that belongs to ``package``."""
        ...

    async def status(self, session: str, package: str) -> Session:
        """Raises SessionUnknownError, also when it belongs to another repository or package."""
        ...

    async def finish(self, session: str, package: str, expected: Digest | None = None) -> Ingested:
        """Verify and store the bytes.  Raises DigestMismatchError; the session then stays."""
        ...

    async def abort(self, session: str, package: str) -> None:
        """Forget the session and its bytes."""
        ...


class Accounts(Protocol):
    """Log-in routes that a protocol brings along (npm adduser, OCI token)."""

    async def login(self, username: str, password: str) -> str:
        """Mint a token for these credentials.  Raises UnauthorizedError, TooManyRequestsError."""
        ...

    async def logout(self, token: str) -> None:
        """Revoke a token; an unknown one is not an error."""
        ...


class Repository(Protocol):
    """One repository as its format sees it, local, remote, virtual or staging alike."""

    @property
    def key(self) -> str: ...

    @property
    def options(self) -> Mapping[str, object]:
        """The repository's format options, as configured (a JSON object)."""
        ...

    @property
    def uploads(self) -> Uploads: ...

    @property
    def accounts(self) -> Accounts: ...

    @property
    def signer(self) -> Signer: ...

    async def artifact(self, path: str) -> Artifact:
        """The file at a coordinate.  Raises NotFoundError."""
        ...

    async def find(self, path: str) -> Artifact | None:
        """The file at a coordinate, or None."""
        ...

    async def artifacts(self, package: str, version: str | None = None) -> Sequence[Artifact]:
        """Files of a package (or of one version), in path order; empty if unknown."""
        ...

    def each(self, package: str, prefix: str = "") -> AsyncIterator[Artifact]:
        """Files of a package in path order, a page at a time where they are many.

        Then they come without metadata, and ``prefix``, with which all their paths begin, spares a
        walk over others.
        """
        ...

    async def by_digest(self, digest: Digest) -> Sequence[Artifact]:
        """Visible files with these bytes (any algorithm the catalog knows)."""
        ...

    def all_artifacts(self, prefix: str = "") -> AsyncIterator[Artifact]:
        """Every file, in path order, paged: never the whole list in memory."""
        ...

    async def packages(
        self,
        *,
        prefix: str = "",
        after: str = "",
        limit: int = 1000,
        holding: Sequence[str] = (),
    ) -> Sequence[str]:
        """Package names in byte order, a page at a time; each holds these texts, in any case."""
        ...

    async def pointer(self, package: str, name: str) -> Pointer | None: ...

    async def pointers(self, package: str) -> Sequence[Pointer]:
        """Pointers of a package, in name order."""
        ...

    async def pointer_names(
        self, package: str, *, after: str = "", limit: int = 1000
    ) -> Sequence[str]:
        """Names of a package's pointers in byte order, a page at a time."""
        ...

    def all_pointers(self, prefix: str = "") -> AsyncIterator[Pointer]:
        """Pointers of every package whose name starts with ``prefix``, paged."""
        ...

    async def flags(self, package: str) -> Sequence[FlagRow]: ...

    async def metadata(self, artifacts: Sequence[Artifact]) -> Sequence[bytes]:
        """Each file's JSON metadata, fetched from blobs (and peers) where it is not inline."""
        ...

    async def load(self, digest: Digest, *, limit: int = DOCUMENT_MAX) -> bytes:
        """A small blob's bytes.  Raises TooLargeError, BlobUnknownError, NoHolderError."""
        ...

    async def inspect(self, digest: Digest, reader: Callable[[BinaryIO], T]) -> T:
        """Run a synchronous, bounded archive reader over a blob, in a worker thread."""
        ...

    def ingest(self, *, checksums: Iterable[str] = ()) -> AbstractAsyncContextManager[Ingest]:
        """Store bytes that the handler itself produced: extracted metadata, documents."""
        ...

    async def stage(
        self, package: str, name: str, blob: Ingested | Staged, metadata: bytes = b""
    ) -> None:
        """Keep a blob for a later commit point; replaces an equal name."""
        ...

    async def staged(self, package: str) -> Sequence[Staged]: ...

    async def unstage(self, package: str, name: str) -> None: ...

    async def cached(self, key: str, render: Callable[[], Awaitable[bytes]]) -> Rendered:
        """A rendered document, kept until this repository's revision changes; single flight."""
        ...

    async def composed(
        self, key: str, parts: Callable[[], AsyncGenerator[bytes]]
    ) -> Rendered | Listing:
        """A document rendered in parts: in memory while it is small, else on the disk.

        Kept until this repository's revision changes; single flight.
        """
        ...

    async def listed(self, key: str, parts: Callable[[], AsyncGenerator[bytes]]) -> Listing:
        """A document made of package names alone, rendered to disk in parts; single flight.

        Kept until a package comes or goes: other changes of the repository do not touch it.
        """
        ...

    async def cached_set(
        self, key: str, build: Callable[[], Awaitable[Mapping[str, Ingested]]]
    ) -> Mapping[str, Ingested]:
        """A set of generated documents, stored as blobs, that only ever change together."""
        ...

    async def generations(self, key: str) -> Sequence[Mapping[str, Ingested]]:
        """Sets built under this key on this node and known still, newest first.

        Clients in mid-refresh ask for documents of the set before (by-hash paths); the blobs of
        these sets are kept.
        """
        ...

    @property
    def modified(self) -> float:
        """Ledger time of the newest change to this repository, seconds since 1970."""
        ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered document and its validators."""

    data: bytes
    etag: str
    modified: float


class Listing(Protocol):
    """A long document on disk: ``formats.contract.Arriving``, with its validators."""

    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str: ...

    @property
    def modified(self) -> float: ...

    def spans(
        self, start: int, stop: int | None
    ) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[tuple[int, int]]]]: ...


class Registry(Protocol):
    """The node as a format's root routes see it (``/v2/``, ``/v2/token``, ``/v2/_catalog``)."""

    async def repositories(self, format_name: str, principal: Principal) -> Sequence[Repository]:
        """Repositories of a format that the caller may read, in key order."""
        ...

    async def issue_token(
        self, principal: Principal, access: Sequence[tuple[str, Sequence[str]]]
    ) -> tuple[str, int]:
        """A short-lived bearer token for (repository, actions) pairs, narrowed to the caller's
        rights, and its life in seconds.  Actions are values of Scope; the repository ``*`` is all.
        """
        ...

    async def authenticate(self, username: str, password: str) -> Principal:
        """Who these credentials name; a token passes as the password of any user name.

        Raises UnauthorizedError, TooManyRequestsError.
        """
        ...

    @property
    def accounts(self) -> Accounts: ...
