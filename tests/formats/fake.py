"""An in-memory repository under the format contract, and a node's worth of routing around it.

``perform(FORMAT, "PUT", "/demo", repository, body=..., headers=...)`` matches the route, decodes
the body as the route's ``Body`` says, runs the handler, applies a ``Publish`` by the simplest rules
that keep the contract, and answers with what a client would have received.
"""

from __future__ import annotations

import re
from collections.abc import (
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, unquote

from formats.contract import (
    Accounts,
    BlobContent,
    Body,
    BodyDecoder,
    BodyKind,
    Form,
    Format,
    FormFile,
    PartData,
    PartEnd,
    PartStart,
    Principal,
    Publish,
    Request,
    Response,
    RootRoute,
    Route,
    Session,
)
from store.errors import (
    MethodNotAllowedError,
    NotFoundError,
    PathInvalidError,
    RegistryError,
    RejectedError,
    TooLargeError,
    UnauthorizedError,
)
from tests.formats.fake_repository import (
    START,
    FakeAccounts,
    FakeListing,
    FakeRepository,
    FakeUploads,
    ingested,
)

__all__ = [
    "START",
    "FakeAccounts",
    "FakeRegistry",
    "FakeRepository",
    "FakeUploads",
    "Result",
    "find_route",
    "ingested",
    "match",
    "multipart",
    "perform",
    "perform_root",
]

BASE_URL = "http://registry.test/{format}/{key}"
FEED_SIZE = 1000  # bytes a decoder is fed at a time: small, so that splits are exercised


# --- routing ------------------------------------------------------------------------------------
def segments(path: str) -> list[str]:
    """Raw path segments; doubled and trailing slashes do not matter."""
    return [each for each in path.split("/") if each]


def decode_segment(raw: str, *, encoded_slash: bool) -> str:
    """Decode a segment once.  Raises PathInvalidError as the contract's Route says."""
    try:
        text = unquote(raw, errors="strict")
    except UnicodeDecodeError as error:
        raise PathInvalidError(f"path segment {raw!r} is not UTF-8") from error
    if re.search(r"[\x00-\x1f\x7f\\]", text) or ("/" in text and not encoded_slash):
        raise PathInvalidError(f"path segment {raw!r} is refused")
    if ".." in text.split("/") or text == ".":
        raise PathInvalidError(f"path segment {raw!r} is refused")
    return text


def match(template: str, path: str, *, encoded_slash: bool = False) -> dict[str, str] | None:
    """Match a path against a route template, or None."""
    return _match(segments(template), segments(path), encoded_slash=encoded_slash)


def _match(pattern: list[str], raw: list[str], *, encoded_slash: bool) -> dict[str, str] | None:
    if not pattern:
        return {} if not raw else None
    if not raw:
        return None
    head, rest = pattern[0], pattern[1:]
    if head.startswith("{") and head.endswith("*}"):
        for taken in range(len(raw) - len(rest), 0, -1):
            params = _match(rest, raw[taken:], encoded_slash=encoded_slash)
            if params is not None:
                decoded = [decode_segment(s, encoded_slash=encoded_slash) for s in raw[:taken]]
                return {head[1:-2]: "/".join(decoded), **params}
        return None
    params = _match(rest, raw[1:], encoded_slash=encoded_slash)
    if params is None:
        return None
    if head.startswith("{") and head.endswith("}"):
        return {head[1:-1]: decode_segment(raw[0], encoded_slash=encoded_slash), **params}
    return params if unquote(raw[0]) == head else None


def find_route(fmt: Format, method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The first matching route.  Raises NotFoundError, MethodNotAllowedError."""
    wanted, others = "GET" if method == "HEAD" else method, False
    for route in fmt.routes:
        params = match(route.path, path, encoded_slash=route.encoded_slash)
        if params is None:
            continue
        if route.method == wanted:
            return route, params
        others = True
    raise (MethodNotAllowedError if others else NotFoundError)(f"{method} {path}")


# --- bodies -------------------------------------------------------------------------------------
def multipart(
    fields: Mapping[str, str | Sequence[str]],
    files: Mapping[str, tuple[str, bytes]] | None = None,
    boundary: str = "b0undary",
) -> tuple[bytes, dict[str, str]]:
    """Encode a form: its body and the headers that go with it."""
    out = bytearray()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            out += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
            out += value.encode() + b"\r\n"
    for name, (filename, data) in (files or {}).items():
        out += f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
        out += f'name="{name}"; filename="{filename}"\r\n'.encode()
        out += b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n"
    out += f"--{boundary}--\r\n".encode()
    return bytes(out), {"content-type": f"multipart/form-data; boundary={boundary}"}


class MultipartDecoder:
    """The least of a multipart parser; the node's own is the real one."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        found = re.search(r'boundary="?([^";]+)', headers.get("content-type", ""))
        if found is None:
            raise RejectedError("not a multipart body")
        self._delimiter = b"--" + found[1].encode()
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterable[PartStart | PartData | PartEnd]:
        self._data += data
        return ()

    def finish(self) -> Iterator[PartStart | PartData | PartEnd]:
        pieces = (b"\r\n" + bytes(self._data)).split(b"\r\n" + self._delimiter)
        if not pieces[-1].startswith(b"--"):
            raise RejectedError("the form is cut short")
        for piece in pieces[1:-1]:
            head, _, data = piece[2:].partition(b"\r\n\r\n")
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head.decode().split("\r\n"))
            }
            disposition = headers.get("content-disposition", "")
            name = re.search(r'[; ]name="([^"]*)"', disposition)
            filename = re.search(r'filename="([^"]*)"', disposition)
            yield PartStart(name[1] if name else "", filename[1] if filename else None, headers)
            yield PartData(data)
            yield PartEnd()


def decode_form(
    decoder: BodyDecoder, body: bytes, repository: FakeRepository, checksums: Sequence[str]
) -> Form:
    """Drive a decoder over a body in small pieces, ingesting file parts."""
    fields: dict[str, list[str]] = {}
    files: dict[str, list[FormFile]] = {}
    start, data = PartStart(""), bytearray()
    pieces = [body[i : i + FEED_SIZE] for i in range(0, len(body), FEED_SIZE)]
    for piece in [*pieces, None]:
        for event in decoder.finish() if piece is None else decoder.feed(piece):
            match event:
                case PartStart():
                    start, data = event, bytearray()
                case PartData():
                    data += event.data
                case PartEnd() if start.blob or start.filename is not None:
                    blob = repository.add_blob(bytes(data), checksums)
                    found = FormFile(start.filename or "", start.headers, blob)
                    files.setdefault(start.name, []).append(found)
                case PartEnd():
                    assert len(data) <= 1 << 20, "a field above 1 MiB"
                    fields.setdefault(start.name, []).append(data.decode())
    return Form(fields, files)


def take_body(
    taking: Body, request: Request, body: bytes, repository: FakeRepository, fmt: Format
) -> Request:
    """Decode a body into the request as the node would."""
    if taking.max is not None and len(body) > taking.max:
        raise TooLargeError(f"{len(body)} bytes exceed {taking.max}")
    match taking.kind:
        case BodyKind.DOCUMENT:
            return replace(request, document=body)
        case BodyKind.BLOB if taking.optional and not body:
            return request
        case BodyKind.BLOB:
            return replace(request, body=repository.add_blob(body, fmt.checksums))
        case BodyKind.FORM:
            decoder: BodyDecoder = MultipartDecoder(request.headers)
            return replace(request, form=decode_form(decoder, body, repository, fmt.checksums))
        case BodyKind.DECODED:
            assert taking.decoder is not None
            decoder = taking.decoder(request.headers)
            return replace(request, form=decode_form(decoder, body, repository, fmt.checksums))
        case BodyKind.SESSION:
            uploads = repository.uploads
            assert isinstance(uploads, FakeUploads)
            identity = request.params[taking.session]
            uploads.data(identity).extend(body)
            return replace(request, session=Session(identity, len(uploads.data(identity))))
        case BodyKind.NONE:
            return request


# --- the whole ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Result:
    """What the client received.  ``error`` is what was raised on the way, if anything."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    response: Response
    error: RegistryError | None = None


async def perform(
    fmt: Format,
    method: str,
    target: str,
    repository: FakeRepository,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    principal: Principal | None = None,
    base_url: str = "",
) -> Result:
    """Do one request below the repository's mount; errors become the format's own bodies."""
    path, _, query = target.partition("?")
    base = base_url or BASE_URL.format(format=fmt.name, key=repository.key)
    request = Request(
        method=method,
        path=path,
        base_url=base,
        root_url="/".join(base.split("/")[:3]),
        query=parse_qs(query, keep_blank_values=True),
        headers={name.lower(): value for name, value in (headers or {}).items()},
        principal=Principal("alice", "user") if principal is None else principal,
    )
    try:
        route, params = find_route(fmt, method, path)
        request = replace(request, params=params)
        if route.body.prepare is not None:
            await route.body.prepare(request, repository)
        request = take_body(route.body, request, body, repository, fmt)
        answer = await route.handler(request, repository)
        if isinstance(answer, Publish):
            changed = repository.apply(answer)
            quiet = answer.unchanged if answer.unchanged is not None else answer.response
            answer = answer.response if changed else quiet
    except RegistryError as error:
        return result(fmt.error_body(error), repository, error)
    return result(answer, repository)


def result(
    response: Response, repository: FakeRepository | None, error: RegistryError | None = None
) -> Result:
    """Fetch the blob that a response names."""
    headers = {name.lower(): value for name, value in response.headers}
    if response.media_type:
        headers["content-type"] = response.media_type
    content = response.content
    if isinstance(content, BlobContent):
        assert repository is not None
        content = repository.blob(content.digest)
        assert isinstance(response.content, BlobContent)
        assert len(content) == response.content.size
    elif isinstance(content, FakeListing):
        content = content.data
    assert isinstance(content, bytes)
    return Result(response.status, headers, content, response, error)


@dataclass
class FakeRegistry:
    """The node as root routes see it."""

    found: list[FakeRepository] = field(default_factory=list)
    accounts: Accounts = field(default_factory=FakeAccounts)
    issued: list[tuple[Principal, Sequence[tuple[str, Sequence[str]]]]] = field(
        default_factory=list
    )

    async def repositories(
        self, format_name: str, principal: Principal
    ) -> Sequence[FakeRepository]:
        return sorted(self.found, key=lambda each: each.key)

    async def issue_token(
        self, principal: Principal, access: Sequence[tuple[str, Sequence[str]]]
    ) -> tuple[str, int]:
        self.issued.append((principal, access))
        return "issued-token", 300

    async def authenticate(self, username: str, password: str) -> Principal:
        assert isinstance(self.accounts, FakeAccounts)
        name = self.accounts.tokens.get(password, username)
        if password not in self.accounts.tokens and self.accounts.users.get(name) != password:
            raise UnauthorizedError("wrong user name or password")
        return Principal(name, "user")


async def perform_root(
    fmt: Format,
    method: str,
    target: str,
    registry: FakeRegistry,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    principal: Principal | None = None,
) -> Result:
    """Do one request on a root route (bodies: documents only)."""
    path, _, query = target.partition("?")
    request = Request(
        method=method,
        path=path,
        base_url="http://registry.test",
        root_url="http://registry.test",
        query=parse_qs(query, keep_blank_values=True),
        headers={name.lower(): value for name, value in (headers or {}).items()},
        principal=Principal() if principal is None else principal,
        document=body,
    )
    try:
        route, params = _root_route(fmt.root_routes, method, path)
        return result(await route.handler(replace(request, params=params), registry), None)
    except RegistryError as error:
        return result(fmt.error_body(error), None, error)


def _root_route(
    routes: Iterable[RootRoute], method: str, path: str
) -> tuple[RootRoute, dict[str, str]]:
    for route in routes:
        params = match(route.path, path)
        if params is not None and route.method == ("GET" if method == "HEAD" else method):
            return route, params
    raise NotFoundError(f"{method} {path}")
