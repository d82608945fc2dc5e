"""The management API as a quart-trio app over the endpoint table."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
import trio
from quart import Response as QuartResponse
from quart import request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from node.access.rates import Rates
from node.api import (
    artifacts,
    auth,
    browse,
    bundles,
    conflicts,
    couriers,
    events,
    invitations,
    members,
    mirrors,
    nodes,
    placement,
    promotions,
    repositories,
    retention,
    roots,
    search,
    transfers,
    uploads,
    upstreams,
    users,
    verification,
    virtuals,
)
from node.api.contract import PREFIX, Access, Call, Endpoint, Raw, decode
from node.api.identity import identify
from node.api.openapi import ErrorBody, document
from node.core import VERSION, Core
from node.http.quart import NodeQuart
from node.packages.app import sole_error
from node.packages.caution import SAFE, judge_origin
from node.packages.urls import ExternalUrl
from store.errors import (
    RegistryError,
    RepositoryUnknownError,
    TooLargeError,
    TooManyRequestsError,
    UnauthorizedError,
)

log = structlog.get_logger(__name__)
BODY_MAX = 1 << 20  # bytes of a JSON body
OPEN_BODY_MAX = 64 << 10  # the same where anybody may send one, and many may at once
TABLES = (
    auth.table,
    bundles.table,
    repositories.table,
    upstreams.table,
    virtuals.table,
    mirrors.table,
    artifacts.table,
    browse.table,
    search.table,
    conflicts.table,
    events.table,
    transfers.table,
    couriers.table,
    uploads.table,
    users.table,
    nodes.table,
    placement.table,
    promotions.table,
    retention.table,
    roots.table,
    members.table,
    invitations.table,
    verification.table,
)
ENDPOINTS: tuple[Endpoint, ...] = tuple(e for table in TABLES for e in table.endpoints)
WORDS = re.compile(r"(?<!^)(?=[A-Z])")
SCOPED = {
    Access.READ: "read",
    Access.WRITE: "write",
    Access.DELETE: "delete",
    Access.ADMIN: "admin",
}


def build(core: Core, urls: ExternalUrl, rates: Rates) -> NodeQuart:
    """Make the app.  ``rates`` are the limits that it shares with package traffic."""
    app = NodeQuart("atoll")
    for index, endpoint in enumerate(ENDPOINTS):
        rule = PREFIX + re.sub(r"\{(\w+):path\}", r"<path:\1>", endpoint.path)
        rule = re.sub(r"\{(\w+)\}", r"<\1>", rule)
        app.add_url_rule(
            rule,
            f"{endpoint.handler.__name__}_{index}",
            _view(core, urls, rates, endpoint),
            methods=[endpoint.method],
        )

    async def openapi() -> QuartResponse:
        return _json(200, document(ENDPOINTS, VERSION, _root(urls)))

    app.add_url_rule(f"{PREFIX}/openapi.json", "openapi", openapi, methods=["GET"])

    async def other(error: Any) -> QuartResponse:
        """What the framework itself refuses, and bugs: they were logged, and nobody is told."""
        code = int(error.code or 500)
        name = re.sub(r"\W+", "_", HTTPStatus(code).phrase).upper()
        response = _json(code, ErrorBody(name, str(error.description)))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["allow"] = ", ".join(sorted(error.valid_methods))
        return response

    app.register_error_handler(HTTPException, other)
    return app


def _root(urls: ExternalUrl) -> str:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return urls.root(
        headers,
        scheme=request.scheme,
        address=request.remote_addr or "",
        server=request.host or "localhost",
    )


def _view(core: Core, urls: ExternalUrl, rates: Rates, endpoint: Endpoint) -> Any:
    async def view(**params: str) -> QuartResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            return await _answer(core, urls, endpoint, params, headers, rates)
        except RegistryError as error:
            return failure(error)
        except BaseExceptionGroup as group:
            inner = sole_error(group)
            if inner is None:
                raise
            return failure(inner)

    return view


async def _answer(
    core: Core,
    urls: ExternalUrl,
    endpoint: Endpoint,
    params: Mapping[str, str],
    headers: Mapping[str, str],
    rates: Rates,
) -> QuartResponse:
    address = urls.client(headers, request.remote_addr or "")
    judge_origin(endpoint.method, headers)
    caller = await identify(core, headers, address)
    if caller.kind != "operator" and (endpoint.searches or endpoint.method not in SAFE):
        rate = rates.searches if endpoint.searches else rates.writes
        rate.take(caller.name or address, trio.current_time())
    call = Call(core, caller, params, dict(request.args.items()), headers, _root(urls))
    call.address = address
    admit(core, endpoint, call)
    if endpoint.streams:
        call.chunks = Received()
    elif endpoint.body is not None:
        limit = OPEN_BODY_MAX if endpoint.access is Access.OPEN else BODY_MAX
        call.body = decode(await _small_body(limit), endpoint.body)
    found = await endpoint.handler(call)
    if isinstance(found, Raw):
        return await _raw(found)
    return _json(endpoint.status, found)


def admit(core: Core, endpoint: Endpoint, call: Call) -> None:
    """Let the call pass the gate, or raise."""
    if "key" in call.params and endpoint.access in SCOPED:
        call.entry = core.entry(call.params["key"])
    if endpoint.access is Access.OPEN:
        return
    if endpoint.access is Access.USER:
        if not call.caller.name:
            raise UnauthorizedError("authentication required")
        return
    if endpoint.access is Access.MANAGE:
        core.gate.require_management(call.caller)
        return
    if call.entry is None:
        if not call.caller.name and endpoint.access is not Access.READ:
            raise UnauthorizedError("authentication required")
        raise RepositoryUnknownError(f"no repository {call.params['key']!r}")
    core.gate.require_action(call.caller, SCOPED[endpoint.access], call.entry)


class Received(AsyncIterator[bytes]):
    """The request body as it arrives."""

    def __init__(self) -> None:
        self._body = aiter(request.body)

    async def __anext__(self) -> bytes:
        return bytes(await anext(self._body))


async def _small_body(limit: int) -> bytes:
    data = bytearray()
    async for chunk in request.body:
        data += chunk
        if len(data) > limit:
            raise TooLargeError(f"a JSON body of more than {limit} bytes")
    return bytes(data)


def _json(status: int, content: object) -> QuartResponse:
    if status == 204 or content is None:
        return QuartResponse(b"", 204 if status == 200 else status)
    return QuartResponse(msgspec.json.encode(content), status, content_type="application/json")


async def _raw(answer: Raw) -> QuartResponse:
    body: Any = answer.body
    if answer.stream is not None and request.method != "HEAD":
        # The head waits for the first byte: until then an error can still be told.
        body = _resumed(await anext(answer.stream, b""), answer.stream)
    response = QuartResponse(body, answer.status, content_type=answer.media_type)
    for name, value in answer.headers.items():
        response.headers[name] = value
    return response


async def _resumed(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    try:
        yield first
        async for chunk in rest:
            yield chunk
    finally:
        await rest.aclose()


def failure(error: RegistryError) -> QuartResponse:
    """Say an error as the API does: ``{"code", "message"}``."""
    name = type(error).__name__.removesuffix("Error")
    response = _json(error.status, ErrorBody(WORDS.sub("_", name).upper(), str(error)))
    if isinstance(error, UnauthorizedError):
        response.headers["www-authenticate"] = 'Bearer realm="Atoll", Basic realm="Atoll"'
    if isinstance(error, TooManyRequestsError):
        response.headers["retry-after"] = str(max(1, round(error.retry_after)))
    return response
