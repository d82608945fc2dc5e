"""Publishing an ingested blob at a path, through the format's own PUT route.

The management API takes files for every format whose clients publish by path; they run the same
inspection as on the native route, so they appear in the native index or are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import quote

from formats.contract import BodyKind, Format, Principal, Publish, Repository, Request, Response
from node.access.gate import Gate
from node.directory import RepositoryEntry
from node.placement.concern import wanted
from node.repositories.publishing import Publisher, refuse_direct
from node.routing import RouteTable
from store.blobs import Ingested
from store.errors import MethodNotAllowedError, RegistryError, UnsupportedError


class Node(Protocol):
    """What native publishing needs of the node."""

    @property
    def gate(self) -> Gate: ...

    @property
    def publisher(self) -> Publisher: ...

    def format_of(self, key: str) -> Format | None: ...

    def open(self, entry: RepositoryEntry) -> Repository: ...


@dataclass(frozen=True, slots=True)
class Put:
    """A file on its way into a repository."""

    entry: RepositoryEntry
    path: str
    caller: Principal
    headers: Mapping[str, str]
    root_url: str


def route_of(node: Node, put: Put) -> tuple[Format, Request]:
    """Find the native route and judge the caller, before a byte of the body is read.

    Raises UnsupportedError where clients of the format do not publish by path.
    """
    served = node.format_of(put.entry.format)
    if served is None:
        raise UnsupportedError(f"no format serves {put.entry.format}")
    if put.entry.repo_type in {"remote", "virtual"}:
        raise MethodNotAllowedError(f"{put.entry.key} is {put.entry.repo_type}: publish elsewhere")
    refuse_direct(put.entry)
    path = "/" + quote(put.path)
    try:
        match = RouteTable(served.routes).match("PUT", path)
    except RegistryError as error:
        raise UnsupportedError(_advice(served)) from error
    if match.route.body.kind is not BodyKind.BLOB:
        raise UnsupportedError(_advice(served))
    node.gate.require(put.caller, match.route.scope, put.entry)
    mount = f"{put.root_url}{served.mounts[0]}/{put.entry.key}"
    request = Request(
        "PUT",
        path,
        mount,
        put.root_url,
        params=match.params,
        headers=put.headers,
        principal=put.caller,
    )
    return served, request


async def publish(node: Node, put: Put, blob: Ingested) -> Response:
    """Hand the blob to the format's handler and commit what it wants."""
    served, request = route_of(node, put)
    match = RouteTable(served.routes).match("PUT", request.path)
    repository = node.open(put.entry)
    request = replace(request, body=blob)
    concern = wanted(put.headers, {}, put.entry.write_concern)
    node.publisher.judge(concern)
    answer = await match.route.handler(request, repository)
    if not isinstance(answer, Publish):
        return answer
    changed = await node.publisher.commit(answer, put.entry, actor=put.caller.name)
    for package, name in answer.unstage:
        await repository.unstage(package, name)
    await node.publisher.secure(answer, concern)
    return answer.response if changed else answer.unchanged or answer.response


def _advice(served: Format) -> str:
    clients = ", ".join(served.client_settings) or "its own client"
    return f"{served.name} is published by its clients ({clients}), not by path"
