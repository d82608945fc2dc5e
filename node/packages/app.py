"""The ASGI app for package traffic: route, authorise, ingest, handle, commit, answer.

Package clients must not pay for a web framework, so this is plain ASGI.  Every error, wherever it
arises, is told in the body of the format whose mount was asked (formats.md rule 13).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

import structlog
import trio

from formats.contract import (
    Answer,
    Body,
    BodyKind,
    Principal,
    Publish,
    Registry,
    Request,
    Response,
    Route,
    Scope,
)
from node.access.accounts import ASKING, Accounts
from node.access.gate import Gate
from node.access.rates import Rates
from node.blobs import Blobs
from node.directory import RepositoryEntry
from node.http.asgi import Receive, Send
from node.http.asgi import Scope as AsgiScope
from node.packages.bodies import (
    IGNORED_MAX,
    Bounded,
    Fitting,
    Prepended,
    decoder_for,
    judge_length,
    read_blob,
    read_document,
    read_form,
)
from node.packages.caution import Refusals, judge_origin
from node.packages.observe import Observation, Observer
from node.packages.places import Repositories, judge_place
from node.packages.serving import Responder
from node.packages.urls import ExternalUrl
from node.placement.concern import Wanted, wanted
from node.repositories.publishing import Publisher, refuse_direct
from node.repositories.sessions import Sessions
from node.routing import Mounted, Place, Router, split_repository
from store.errors import (
    MethodNotAllowedError,
    RegistryError,
    RejectedError,
    RepositoryUnknownError,
    TooManyRequestsError,
    UnauthorizedError,
)

log = structlog.get_logger(__name__)
WRITES = frozenset({"PUT", "POST", "PATCH", "DELETE"})
# Bodies that nothing but a publish has; where a decoder looks at them, they may be marks or tags.
PUBLISHED = frozenset({BodyKind.BLOB, BodyKind.FORM, BodyKind.SESSION})
STORED = frozenset({BodyKind.BLOB, BodyKind.FORM, BodyKind.DECODED, BodyKind.SESSION})
PARAMETERS_MAX = 64
NOTHING: Mapping[str, str] = {}


class ClientGoneError(Exception):
    """The client hung up before its body was whole: nobody is left to answer."""


class Received(AsyncIterator[bytes]):
    """The request body as it arrives.  Raises ClientGoneError."""

    def __init__(self, receive: Receive, seen: Observation) -> None:
        self._receive, self._seen, self._more = receive, seen, True

    async def __anext__(self) -> bytes:
        while self._more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            self._more = message.get("more_body", False)
            chunk: bytes = message.get("body", b"")
            self._seen.received += len(chunk)
            if chunk:
                return chunk
        raise StopAsyncIteration


@dataclass(frozen=True, slots=True)
class Parts:
    """What the package app is made of."""

    router: Router
    accounts: Accounts
    gate: Gate
    blobs: Blobs
    publisher: Publisher
    sessions: Sessions
    urls: ExternalUrl
    observer: Observer
    registry: Registry
    repositories: Repositories
    rates: Rates
    refusals: Refusals
    upload_max: int = 0


class PackageApp:
    """Answers requests below the formats' mounts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def find(self, path: str) -> Place | None:
        """The mount that a raw path lies below, if it does, and the rest of it."""
        return self._parts.router.find(path)

    async def __call__(
        self, scope: AsgiScope, receive: Receive, send: Send, place: Place | None = None
    ) -> None:
        """Answer one request, whose place is ``place`` where the caller has found it."""
        found = place or self.find(raw_path(scope))
        if found is None:
            raise ValueError("not a package path")
        exchange = Exchange(self._parts, scope, receive, send, *found)
        try:
            await exchange.run()
        except ClientGoneError:
            exchange.seen.error = "client gone"
        finally:
            exchange.seen.status = exchange.responder.status or exchange.seen.status
            exchange.seen.sent = exchange.responder.sent
            self._parts.observer(exchange.seen)


class Exchange:
    """One request on its way through."""

    def __init__(
        self,
        parts: Parts,
        scope: AsgiScope,
        receive: Receive,
        send: Send,
        mounted: Mounted,
        rest: str,
    ) -> None:
        self._parts, self._scope, self._receive = parts, scope, receive
        self._mounted, self._rest = mounted, rest
        self._method = str(scope["method"])
        self._headers = headers_of(scope)
        self._peer = str((scope.get("client") or ("",))[0])
        self.seen = Observation.of(scope, mounted.format.name)
        self.seen.address = parts.urls.client(self._headers, self._peer)
        self.responder = Responder(send, self._method, self._headers, parts.blobs, private=False)
        self._root_url = self._root()
        self._query: Mapping[str, list[str]] = {}
        self._caller = Principal()
        self._matched: Request | None = None

    @property
    def _request(self) -> Request:
        """The request as far as it is known; once its route is, with its place and parameters."""
        return self._matched or self._described(self._rest)

    def _described(self, path: str, base: str = "", params: Mapping[str, str] = NOTHING) -> Request:
        root, query, headers = self._root_url, self._query, self._headers
        return Request(self._method, path, base, root, params, query, headers, self._caller)

    def _root(self) -> str:
        server = self._scope.get("server") or ("localhost", None)
        address = str(server[0]) if server[1] is None else f"{server[0]}:{server[1]}"
        return self._parts.urls.root(
            self._headers,
            scheme=str(self._scope.get("scheme", "http")),
            address=self._peer,
            server=address,
        )

    async def run(self) -> None:
        """Answer, natively, whatever happens; bugs are logged and answered 500."""
        ASKING.set(self.seen.address)
        try:
            response = await self._respond()
            await self.responder.answer(response)
            self._note(response)
        except RegistryError as error:
            await self._fail(error)
        except BaseExceptionGroup as group:
            inner = sole_error(group)
            if inner is None:
                raise
            await self._fail(inner)

    def _note(self, response: Response) -> None:
        """Notice which file was sent, if one was."""
        if self.responder.begun is not None and not isinstance(response.content, bytes):
            self.seen.artifact = getattr(response.content, "artifact", None)
            self.seen.begun = self.responder.begun

    async def _respond(self) -> Response:
        if self._scope.get("query_string"):
            self._query = query_of(self._scope)
        caller = await self._parts.accounts.caller(
            self._headers, address=self.seen.address, native=True
        )
        self.seen.actor, self._caller = caller.name, caller
        judge_origin(self._method, self._headers)
        root = await self._root_route()
        if root is not None:
            return root
        key, below = split_repository(self._rest)
        entry = self._parts.repositories.entry(key)
        if entry is None or entry.format not in self._mounted.format.keys:
            raise RepositoryUnknownError(f"no {self._mounted.format.name} repository {key!r}")
        self.seen.repository = key
        self.responder.private = self._parts.repositories.private(entry, caller)
        if entry.repo_type != "virtual":
            self.responder.note_change(self._parts.repositories.changed(key), time.time())
        mount = f"{self._root_url}{self._mounted.mount}/{key}"
        match = self._mounted.routes.match(self._method, below)
        self._matched = self._described(below, mount, match.params)
        gate, repositories = self._parts.gate, self._parts.repositories
        place = judge_place(gate, repositories, caller, match.route.scope, entry)
        self._limit(match.route, caller.name or self.seen.address)
        return await self._perform(match.route, place)

    def _limit(self, route: Route, who: str) -> None:
        """Count a write, or a search.  Raises TooManyRequestsError."""
        if route.searches:
            self._parts.rates.searches.take(who, trio.current_time())
        elif self._method in WRITES and route.scope is not Scope.READ:
            self._parts.rates.writes.take(who, trio.current_time())

    async def _root_route(self) -> Response | None:
        """Answer a route that belongs to no repository, if the path is one."""
        path = self._mounted.mount + self._rest
        for each in self._mounted.format.root_routes:
            if each.path.rstrip("/") == path.rstrip("/"):
                break
        else:
            return None
        match = self._mounted.roots.match(self._method, path)
        request = self._described(path, params=match.params)
        if match.route.body.kind is not BodyKind.NONE:
            document = await read_document(
                Received(self._receive, self.seen),
                self._headers,
                match.route.body.max or IGNORED_MAX,
            )
            request = replace(request, document=document)
        return await match.route.handler(request, self._parts.registry)

    async def _perform(self, route: Route, entry: RepositoryEntry) -> Response:
        if entry.repo_type != "local" and route.method == "GET":
            answered = await self._parts.repositories.answer(entry, self._request)
            if answered is not None:
                return answered
        repository = self._parts.repositories.open(entry, self._request.principal)
        concern = Wanted()
        if self._method in WRITES:
            concern = wanted(self._headers, self._request.query, entry.write_concern)
            self._parts.publisher.judge(concern)
            if route.body.kind in PUBLISHED and route.scope is Scope.WRITE:
                refuse_direct(entry)
        judge_length(route.body, self._headers, limit=self._parts.upload_max)
        if route.body.prepare is not None:
            await route.body.prepare(self._request, repository)
        if route.body.kind is not BodyKind.NONE or self._method in WRITES:
            self._matched = await self._ingest(route.body, entry)
        answer: Answer = await route.handler(self._request, repository)
        if not isinstance(answer, Publish):
            return answer
        changed = await self._parts.publisher.commit(
            answer, entry, actor=self._request.principal.name
        )
        for package, name in answer.unstage:
            await repository.unstage(package, name)
        await self._parts.publisher.secure(answer, concern)
        return answer.response if changed else answer.unchanged or answer.response

    async def _ingest(self, body: Body, entry: RepositoryEntry) -> Request:
        chunks = Bounded(Received(self._receive, self.seen), self._parts.upload_max or None)
        if body.kind in STORED and entry.quota_bytes:
            room = await self._parts.publisher.room(entry)
            chunks = Fitting(chunks, self._headers, room)
        checksums = self._mounted.format.checksums
        blobs = self._parts.blobs
        if body.kind is BodyKind.DOCUMENT:
            document = await read_document(chunks, self._headers, body.max or IGNORED_MAX)
            return replace(self._request, document=document)
        if body.kind is BodyKind.BLOB:
            limited: AsyncIterator[bytes] = Bounded(chunks, body.max)
            if body.optional:
                first = await anext(limited, b"")
                if not first:
                    return self._request
                limited = Prepended(first, limited)
            blob = await read_blob(limited, blobs, checksums)
            return replace(self._request, body=blob)
        if body.kind in {BodyKind.FORM, BodyKind.DECODED}:
            decoder = decoder_for(body, self._headers)
            form = await read_form(Bounded(chunks, body.max), decoder, blobs, checksums)
            return replace(self._request, form=form)
        if body.kind is BodyKind.SESSION:
            session = self._request.params[body.session]
            return replace(
                self._request, session=await self._parts.sessions.append(session, chunks)
            )
        if self._method in WRITES:
            async for _ in Bounded(chunks, body.max or IGNORED_MAX):
                pass
        return self._request

    async def _fail(self, error: RegistryError) -> None:
        """Tell the error in the format's own words; after the head has gone, only cut off.

        Returning without the rest makes the server break the connection: the client sees that the
        body is short, and nobody mistakes a peer that left for a bug of ours.
        """
        self.seen.error = f"{type(error).__name__}: {error}"
        if error.status >= 500:
            log.warning("request failed", request=self.seen.id, error=self.seen.error)
        if self.responder.started:
            return
        await self._parts.refusals.note(
            error, self.seen, path=self._mounted.mount + self._rest, shown=self._headers
        )
        response = self._mounted.format.error_body(error)
        extra: list[tuple[str, str]] = []
        if isinstance(error, UnauthorizedError):
            extra.append(("www-authenticate", self._challenge(error)))
        if isinstance(error, TooManyRequestsError):
            extra.append(("retry-after", str(max(1, round(error.retry_after)))))
        if isinstance(error, MethodNotAllowedError):
            extra.append(("allow", _allowed(str(error))))
        await self.responder.answer(replace(response, headers=(*response.headers, *extra)))

    def _challenge(self, error: RegistryError) -> str:
        challenge = self._mounted.format.challenge
        if challenge is None:
            return 'Basic realm="Atoll"'
        return challenge(self._request, error)


def _allowed(message: str) -> str:
    _, _, methods = message.partition("(")
    return methods.rstrip(")") or "GET, HEAD"


def sole_error(group: BaseExceptionGroup[BaseException]) -> RegistryError | None:
    """The error to tell when a nursery wrapped registry errors, and nothing else, in a group."""
    wanted, others = group.split(RegistryError)
    if wanted is None or others is not None:
        return None
    error: BaseException = wanted
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, RegistryError) else None


def raw_path(scope: AsgiScope) -> str:
    """The request path as it was sent, still percent-encoded."""
    raw = scope.get("raw_path") or str(scope["path"]).encode()
    text: str = raw.split(b"?", 1)[0].decode("latin-1")
    return text


def headers_of(scope: AsgiScope) -> Mapping[str, str]:
    """Lower-case header names; repeated headers are joined with a comma."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def query_of(scope: AsgiScope) -> Mapping[str, list[str]]:
    """Query parameters, decoded.  Raises RejectedError for more than PARAMETERS_MAX."""
    try:
        pairs = parse_qsl(
            scope.get("query_string", b"").decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=PARAMETERS_MAX,
        )
    except ValueError:
        raise RejectedError(f"more than {PARAMETERS_MAX} query parameters") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
