"""What a package format is: routes over pure renderers.  One module per format, one value each.

A handler maps ``(Request, Repository)`` to a ``Response``, or to ``Publish(facts, response)`` when
it writes.  It names blobs and never moves their bytes: request bodies are ingested before it runs,
downloads are streamed after.  Rights, quota and declared length are judged before a body is read.
"""

from __future__ import annotations

import enum
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, TypeVar

import msgspec

from store.blobs import Ingest, Ingested
from store.digest import Digest
from store.errors import RegistryError
from store.facts import Fact
from store.rows import Artifact, FlagRow, Pointer

DOCUMENT_MAX = 16 << 20  # bytes of a body that a handler may see as bytes
BINARY = "application/octet-stream"
GENERATIONS_MAX = 3  # sets of generated documents that stay readable by digest

T = TypeVar("T")


class Scope(enum.Enum):
    """What a caller must be allowed to do to the repository.  ``OPEN`` routes judge for themselves."""

    OPEN = "open"
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"


# --- bodies -------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class PartStart:
    """A part of a body begins.  A part with a filename, or with ``blob`` set, is ingested as a blob."""

    name: str
    filename: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    blob: bool = False


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the current part."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is whole."""


PartEvent = PartStart | PartData | PartEnd


class BodyDecoder(Protocol):
    """A push parser that splits a body into parts, holding no more than a few KiB.

    Multipart is built in (``Body.FORM``); npm's base64 inside JSON and Cargo's framing bring theirs.
    Raises RegistryError subclasses on malformed input.  Sans-I/O.
    """

    def feed(self, data: bytes) -> Iterable[PartEvent]:
        """Take bytes, give the events they complete."""
        ...

    def finish(self) -> Iterable[PartEvent]:
        """The body has ended; raises RejectedError if it is cut short."""
        ...


class BodyKind(enum.Enum):
    NONE = "none"  # a body, if any, is drained and ignored up to 64 KiB
    DOCUMENT = "document"  # small: request.document holds the bytes (maximum: Body.max)
    BLOB = "blob"  # request.body is the ingested blob
    FORM = "form"  # multipart/form-data: request.form
    DECODED = "decoded"  # Body.decoder splits it: request.form
    SESSION = "session"  # appended to the upload session Body.session names: request.session


@dataclass(frozen=True, slots=True)
class Body:
    """How a route takes its body.  ``max`` is in bytes; None leaves it to quota and disk.

    ``prepare`` is awaited after rights are judged and before a byte of the body is read; it refuses
    by raising.  For SESSION, ``request.params[session]`` names the session whose state it may judge
    through ``repository.uploads.status`` (an upload chunk out of order must not be appended).
    """

    kind: BodyKind = BodyKind.NONE
    max: int | None = None
    decoder: Callable[[Mapping[str, str]], BodyDecoder] | None = None  # gets the request headers
    session: str = ""  # the path parameter that holds the session id
    optional: bool = False  # BLOB: an empty body is not ingested, request.body stays None
    prepare: Prepare | None = None


NO_BODY = Body()
BLOB = Body(BodyKind.BLOB)
FORM = Body(BodyKind.FORM)
DOCUMENT = Body(BodyKind.DOCUMENT, DOCUMENT_MAX)


@dataclass(frozen=True, slots=True)
class Form:
    """A decoded multi-part body: small fields (each ≤ 1 MiB, all ≤ 16 MiB) and ingested files."""

    fields: Mapping[str, Sequence[str]]
    files: Mapping[str, Sequence[FormFile]]

    def first(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        values = self.fields.get(name)
        return values[0] if values else default


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file part: what the client called it, and the blob it became."""

    filename: str
    headers: Mapping[str, str]
    blob: Ingested


@dataclass(frozen=True, slots=True)
class Session:
    """A resumable upload on this node.  ``size`` is how many bytes have been received."""

    id: str
    size: int


# --- requests and responses ---------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.  ``name`` is "" for an anonymous caller."""

    name: str = ""
    kind: str = "anonymous"  # anonymous | user | token
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its body already ingested.  Header names are lower-case; params decoded once."""

    method: str
    path: str  # below the repository's mount, raw (still percent-encoded), e.g. /simple/demo/
    base_url: str  # absolute URL of the repository's mount, no trailing slash
    root_url: str  # absolute URL of the node, no trailing slash
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    principal: Principal = Principal()
    document: bytes = b""
    body: Ingested | None = None
    form: Form | None = None
    session: Session | None = None

    def argument(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default


@dataclass(frozen=True, slots=True)
class BlobContent:
    """Bytes that the node sends from disk, from peers as they arrive, or from the upstream."""

    digest: Digest
    size: int
    manifest_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer.  The node adds Content-Length, ETag, Range, HEAD, 304 and security headers.

    ``etag`` (unquoted) overrides the default, the digest of the content.  ``immutable`` content gets
    a year of caching; all else ``no-cache``.  ``modified`` is seconds since 1970.
    """

    status: int = 200
    content: bytes | BlobContent = b""
    media_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    etag: str = ""
    modified: float | None = None
    immutable: bool = False


@dataclass(frozen=True, slots=True)
class Publish:
    """A handler's wish to write.  The node checks it and commits it in one transaction.

    Every file whose coordinate is new, or taken by the same bytes, is accepted; other bytes raise
    VersionExistsError, as does a repeat of the same bytes when ``strict``.  ``response`` may depend
    on whether anything was new: then ``unchanged`` is sent instead when nothing was.  Metadata
    above 4 KiB is moved to a blob by the node.
    """

    facts: tuple[Fact, ...]
    response: Response
    unchanged: Response | None = None
    strict: bool = False
    only_if_new: bool = False  # PreconditionFailedError when the coordinate exists
    unstage: tuple[tuple[str, str], ...] = ()  # staged (package, name)s to forget once committed


# --- what a handler may ask of its repository ---------------------------------------------------
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

    async def finish(
        self, session: str, package: str, expected: Digest | None = None
    ) -> Ingested:
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

    async def by_digest(self, digest: Digest) -> Sequence[Artifact]:
        """Visible files with these bytes (any algorithm the catalog knows)."""
        ...

    def all_artifacts(self, prefix: str = "") -> AsyncIterator[Artifact]:
        """Every file, in path order, paged: never the whole list in memory."""
        ...

    async def packages(
        self, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[str]:
        """Package names in byte order, a page at a time."""
        ...

    async def pointer(self, package: str, name: str) -> Pointer | None: ...

    async def pointers(self, package: str) -> Sequence[Pointer]:
        """Pointers of a package, in name order."""
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

    def ingest(
        self, *, checksums: Iterable[str] = ()
    ) -> AbstractAsyncContextManager[Ingest]:
        """Store bytes that the handler itself produced (extracted metadata, generated documents)."""
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

    async def cached_set(
        self, key: str, build: Callable[[], Awaitable[Mapping[str, Ingested]]]
    ) -> Mapping[str, Ingested]:
        """A set of generated documents, stored as blobs, that only ever change together."""
        ...

    async def generations(self, key: str) -> Sequence[Mapping[str, Ingested]]:
        """Sets built under this key on this node, newest first, at most GENERATIONS_MAX.

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


# --- the format itself --------------------------------------------------------------------------
Answer = Response | Publish
Prepare = Callable[[Request, Repository], Awaitable[None]]
Handler = Callable[[Request, Repository], Awaitable[Answer]]
RootHandler = Callable[[Request, Registry], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of a format's route table.

    ``path`` is a template over raw segments: ``{name}`` is one segment, ``{name*}`` one or more.
    The first match in table order wins.  A trailing slash never matters, doubled slashes are one.
    A decoded parameter that holds ``..``, NUL, a backslash or a control character is refused, as is
    ``%2F`` unless ``encoded_slash``.  HEAD is answered by the GET route.
    """

    method: str
    path: str
    handler: Handler
    scope: Scope = Scope.READ
    body: Body = NO_BODY
    encoded_slash: bool = False


@dataclass(frozen=True, slots=True)
class RootRoute:
    """A route at the root of the host that belongs to no repository; it authorises by itself."""

    method: str
    path: str
    handler: RootHandler
    body: Body = NO_BODY


def plain_error(error: RegistryError) -> Response:
    """Say it as text: Maven, Debian and most others show the body as it is."""
    text = f"{error}\n".encode()
    return Response(error.status, text, "text/plain; charset=utf-8")


def json_response(document: object, *, status: int = 200, **extra: object) -> Response:
    """A JSON answer.  ``extra`` is passed on to Response."""
    return Response(status, msgspec.json.encode(document), "application/json", **extra)  # type: ignore[arg-type]


def blob_response(
    artifact: Artifact, media_type: str = BINARY, *, headers: Iterable[tuple[str, str]] = ()
) -> Response:
    """Name an artifact's blob.  Immutable unless the artifact is mutable."""
    return Response(
        content=BlobContent(artifact.digest, artifact.size, artifact.manifest_id),
        media_type=media_type,
        headers=tuple(headers),
        etag=str(artifact.digest),
        modified=artifact.published,
        immutable=not artifact.mutable,
    )


def redirect(location: str, status: int = 301) -> Response:
    """Send the client elsewhere; relative locations work behind any mount."""
    return Response(status, b"", headers=(("location", location),))


@dataclass(frozen=True, slots=True)
class Format:
    """A package format.  ``formats.discover()`` finds every module-level value named FORMAT.

    ``keys`` are the repository format keys it serves, the first being the default repository's key.
    ``mounts`` are URL prefixes (``/pypi``); below one comes the repository key, except that
    a mount of ``/v2`` style protocols looks the same: ``/v2/{repository}/…``.
    ``checksums`` names hashlib algorithms that every ingest of this format computes beside SHA-256.
    ``client_settings`` maps a client's name to a text for ``str.format``, ready to paste, with these
    places: ``{url}`` of the repository, ``{secret_url}`` with user and token in it, ``{address}``
    (``//host:port/path``), ``{host}`` (with its port), ``{hostname}``, ``{path}``, ``{key}``,
    ``{user}``, ``{token}``; ``{http:…}`` and ``{https:…}`` hold text for such URLs only.
    """

    name: str
    keys: tuple[str, ...]
    mounts: tuple[str, ...]
    purl_type: str
    routes: tuple[Route, ...]
    error_body: Callable[[RegistryError], Response] = plain_error
    root_routes: tuple[RootRoute, ...] = ()
    checksums: tuple[str, ...] = ()
    challenge: Callable[[Request, RegistryError], str] | None = None  # WWW-Authenticate, else Basic
    client_settings: Mapping[str, str] = field(default_factory=dict[str, str])

    def __iter__(self) -> Iterator[Route]:
        return iter(self.routes)
