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
from typing import Protocol

import msgspec

from formats.describing import Describe
from formats.parts import (
    BodyDecoder,
    Form,
    FormFile,
    PartData,
    PartEnd,
    PartEvent,
    PartStart,
    Session,
)
from formats.releases import Releases
from formats.remote import Remote
from formats.repository import (
    DOCUMENT_MAX,
    GENERATION_SECONDS,
    GENERATIONS_MAX,
    GENERATIONS_MIN,
    Accounts,
    Listing,
    Principal,
    Registry,
    Rendered,
    Repository,
    Signer,
    Staged,
    Uploads,
)
from formats.virtual import Virtual
from store.blobs import Ingested
from store.digest import Digest
from store.errors import RegistryError
from store.facts import Fact
from store.rows import Artifact

__all__ = [
    "BINARY",
    "BLOB",
    "DOCUMENT",
    "DOCUMENT_MAX",
    "FORM",
    "GENERATIONS_MAX",
    "GENERATIONS_MIN",
    "GENERATION_SECONDS",
    "NO_BODY",
    "Accounts",
    "Answer",
    "Arriving",
    "BlobContent",
    "Body",
    "BodyDecoder",
    "BodyKind",
    "Form",
    "FormFile",
    "Format",
    "Handler",
    "Listing",
    "PartData",
    "PartEnd",
    "PartEvent",
    "PartStart",
    "Prepare",
    "Principal",
    "Publish",
    "Registry",
    "Releases",
    "Remote",
    "Rendered",
    "Repository",
    "Request",
    "Response",
    "RootHandler",
    "RootRoute",
    "Route",
    "Scope",
    "Session",
    "Signer",
    "Staged",
    "Uploads",
    "Virtual",
    "blob_response",
    "document_response",
    "json_response",
    "plain_error",
    "redirect",
]

BINARY = "application/octet-stream"


class Scope(enum.Enum):
    """What a caller must be allowed to do to the repository; ``OPEN`` routes judge themselves."""

    OPEN = "open"
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"


# --- bodies -------------------------------------------------------------------------------------
class BodyKind(enum.Enum):
    NONE = "none"  # a body, if any, is drained and ignored, up to 64 KiB or Body.max
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


# --- requests and responses ---------------------------------------------------------------------
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
    principal: Principal = field(default_factory=Principal)
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
    artifact: Artifact | None = None  # of which it is the content: its downloads are counted


class Arriving(Protocol):
    """Bytes that are on their way from an upstream and sent on as they come.

    ``size`` is None while nobody knows it: then there are no ranges.  The last of them only follow
    once the whole is verified (design.md ruling 8).
    """

    @property
    def size(self) -> int | None: ...

    def spans(
        self, start: int, stop: int | None
    ) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[tuple[int, int]]]]:
        """A file descriptor and the (offset, count)s to read of it, each as soon as it is there.

        Entering waits for the first byte, and raises what a client may be told instead; later
        failures end the iteration by an error.
        """
        ...


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer.  The node adds Content-Length, ETag, Range, HEAD, 304 and security headers.

    ``etag`` (unquoted) overrides the default, the content's digest.  ``immutable`` content gets
    a year of caching; all else ``no-cache``.  ``modified`` is seconds since 1970.
    """

    status: int = 200
    content: bytes | BlobContent | Arriving = b""
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
    searches: bool = False  # may look at every name for one answer: bounded in number per caller


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
    return Response(status, msgspec.json.encode(document), "application/json", **extra)  # type: ignore[arg-type]  # keywords of Response


def document_response(
    found: Rendered | Listing,
    media_type: str,
    *,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    """A rendered document with its validators, wherever it lies."""
    return Response(
        status,
        found.data if isinstance(found, Rendered) else found,
        media_type,
        tuple(headers),
        etag=found.etag,
        modified=found.modified,
    )


def blob_response(
    artifact: Artifact, media_type: str = BINARY, *, headers: Iterable[tuple[str, str]] = ()
) -> Response:
    """Name an artifact's blob.  Immutable unless the artifact is mutable."""
    return Response(
        content=BlobContent(artifact.digest, artifact.size, artifact.manifest_id, artifact),
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
    ``client_settings`` maps a client's name to a text for ``str.format``, to paste, with these
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
    remote: Remote | None = None  # how upstreams of this format are proxied
    virtual: Virtual | None = None  # how several repositories answer as one
    releases: Releases = field(default_factory=Releases)  # what its versions are made of
    describe: Describe | None = None  # where a version's description is, for search
    primary: tuple[str, ...] = ()  # roles of files whose downloads count; empty: of all

    def __iter__(self) -> Iterator[Route]:
        return iter(self.routes)
