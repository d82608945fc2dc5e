"""Upstreams of remote repositories: how they are asked, what is kept, whether they answer."""

from __future__ import annotations

import time
from typing import Any, Protocol

import msgspec

from node.api.contract import Access, Call, Long, Short, Table
from node.directory import RepositoryEntry
from node.upstream.settings import Secrets, Upstream, judge, judge_headers, judge_url
from node.upstream.urls import shown
from store.errors import RegistryError, RejectedError

table = Table("upstreams")


class UpstreamAuth(msgspec.Struct):
    auth_type: Short = "none"
    username: Short = ""
    password: Long = ""


class UpstreamAuthView(msgspec.Struct):
    auth_type: str
    username: str
    has_password: bool


class EgressProxy(msgspec.Struct):
    url: Short = ""
    username: Short = ""
    password: Long = ""


class EgressProxyView(msgspec.Struct):
    url: str
    has_credentials: bool


class Headers(msgspec.Struct):
    headers: dict[str, str] = {}
    user_agent: Short = ""


class HeadersView(msgspec.Struct):
    names: list[str]
    user_agent: str


class CacheSettings(msgspec.Struct):
    """Times in seconds; fields left out stay as they are."""

    index_ttl_seconds: float | None = None
    cache_ttl_seconds: float | None = None
    negative_ttl_seconds: float | None = None
    stale_while_revalidate_seconds: float | None = None
    stale_max_seconds: float | None = None
    patience_seconds: float | None = None
    timeout_seconds: float | None = None
    connections_max: int | None = None
    requests_per_second: float | None = None
    offline: bool | None = None
    immutable_patterns: list[str] | None = None
    mutable_patterns: list[str] | None = None


class CacheView(msgspec.Struct):
    upstream_url: str
    circuit: str
    offline: bool
    under_way: int
    files: int
    size_bytes: int
    requests: int
    errors: int
    bytes_fetched: int
    lookups: dict[str, int]


class Invalidation(msgspec.Struct):
    path: Short = "*"


class Invalidated(msgspec.Struct):
    invalidated: int


class TestResult(msgspec.Struct):
    reachable: bool
    status: int | None
    message: str
    seconds: float


FIELDS = {
    "index_ttl_seconds": "index_ttl",
    "cache_ttl_seconds": "mutable_ttl",
    "negative_ttl_seconds": "negative_ttl",
    "stale_while_revalidate_seconds": "stale_while_revalidate",
    "stale_max_seconds": "stale_max",
    "patience_seconds": "patience",
    "timeout_seconds": "timeout",
    "connections_max": "connections_max",
    "requests_per_second": "rate",
    "offline": "offline",
    "immutable_patterns": "immutable",
    "mutable_patterns": "mutable",
}
PATTERNS_MAX = 100


class Wanted(Protocol):
    """What a request to create a repository says of its upstream."""

    repo_type: str
    format: str
    upstream_url: str
    upstream_auth_type: str
    upstream_username: str
    upstream_password: str


def first(call: Call, body: Wanted) -> Upstream | None:
    """The upstream of a new repository; None for a local one.  Raises RejectedError."""
    if body.repo_type != "remote":
        if body.upstream_url:
            raise RejectedError("upstream_url is of remote repositories only")
        return None
    served = call.core.format_of(body.format)
    if served is None or served.remote is None:
        raise RejectedError(f"{body.format} repositories cannot be remote")
    upstream = Upstream(
        url=body.upstream_url, auth_type=body.upstream_auth_type, username=body.upstream_username
    )
    judge(upstream)
    return upstream


async def move(call: Call, entry: RepositoryEntry, url: str) -> None:
    """Give a repository another upstream.  Its credentials belonged to the old one, and go."""
    found = _upstream(entry)
    judge_url(url, "upstream_url")
    if url == found.url:
        return
    entry.upstream = msgspec.structs.replace(found, url=url, auth_type="none", username="")
    await call.append(call.core.engine.parts.vault.change(entry.key, Secrets()))
    await call.core.engine.forget(entry.key)


def _upstream(entry: RepositoryEntry) -> Upstream:
    if entry.upstream is None:
        raise RejectedError(f"{entry.key} is not a remote repository")
    return entry.upstream


async def _change(call: Call, upstream: Upstream, secrets: Secrets | None = None) -> None:
    """Store an upstream's settings, and its secrets if they changed."""
    judge(upstream)
    entry = msgspec.structs.replace(call.repository, upstream=upstream)
    facts: list[Any] = [call.core.directory.change(entry.key, entry)]
    if secrets is not None:
        judge_headers(secrets.headers)
        facts.append(call.core.engine.parts.vault.change(entry.key, secrets))
    await call.append(*facts)
    await call.note("repository.upstream", entry.key)


# --- credentials --------------------------------------------------------------------------------
@table.route("GET", "/repositories/{key}/upstream-auth", Access.ADMIN, answer=UpstreamAuthView)
async def get_auth(call: Call) -> UpstreamAuthView:
    """Show how the upstream is authenticated to; never the password."""
    upstream = _upstream(call.repository)
    stored = await call.core.engine.parts.vault.shown(call.repository.key)
    return UpstreamAuthView(upstream.auth_type, upstream.username, stored.password)


@table.route(
    "PUT",
    "/repositories/{key}/upstream-auth",
    Access.ADMIN,
    body=UpstreamAuth,
    answer=UpstreamAuthView,
)
async def set_auth(call: Call) -> UpstreamAuthView:
    """Set the upstream's credentials; they are sealed, and never shown again."""
    call.core.gate.require_management(call.caller)
    body: UpstreamAuth = call.body
    upstream = msgspec.structs.replace(
        _upstream(call.repository), auth_type=body.auth_type, username=body.username
    )
    secrets = await call.core.engine.parts.vault.open(call.repository.key)
    await _change(call, upstream, msgspec.structs.replace(secrets, password=body.password))
    return UpstreamAuthView(upstream.auth_type, upstream.username, bool(body.password))


@table.route("DELETE", "/repositories/{key}/upstream-auth", Access.ADMIN, status=204)
async def delete_auth(call: Call) -> None:
    """Forget the upstream's credentials."""
    call.core.gate.require_management(call.caller)
    upstream = msgspec.structs.replace(_upstream(call.repository), auth_type="none", username="")
    secrets = await call.core.engine.parts.vault.open(call.repository.key)
    await _change(call, upstream, msgspec.structs.replace(secrets, password=""))


@table.route("GET", "/repositories/{key}/egress-proxy", Access.ADMIN, answer=EgressProxyView)
async def get_proxy(call: Call) -> EgressProxyView:
    """Show the proxy that leads to the upstream."""
    stored = await call.core.engine.parts.vault.shown(call.repository.key)
    return EgressProxyView(_upstream(call.repository).proxy, stored.proxy)


@table.route(
    "PUT",
    "/repositories/{key}/egress-proxy",
    Access.ADMIN,
    body=EgressProxy,
    answer=EgressProxyView,
)
async def set_proxy(call: Call) -> EgressProxyView:
    """Set, or with an empty URL remove, the proxy that leads to the upstream."""
    call.core.gate.require_management(call.caller)
    body: EgressProxy = call.body
    upstream = msgspec.structs.replace(_upstream(call.repository), proxy=body.url)
    secrets = await call.core.engine.parts.vault.open(call.repository.key)
    user, password = (body.username, body.password) if body.url else ("", "")
    secrets = msgspec.structs.replace(secrets, proxy_username=user, proxy_password=password)
    await _change(call, upstream, secrets)
    return EgressProxyView(body.url, bool(user or password))


@table.route(
    "PUT", "/repositories/{key}/upstream-headers", Access.ADMIN, body=Headers, answer=HeadersView
)
async def set_headers(call: Call) -> HeadersView:
    """Set the headers that the upstream gets beside our own; their values are sealed."""
    call.core.gate.require_management(call.caller)
    body: Headers = call.body
    upstream = msgspec.structs.replace(_upstream(call.repository), user_agent=body.user_agent)
    secrets = await call.core.engine.parts.vault.open(call.repository.key)
    await _change(call, upstream, msgspec.structs.replace(secrets, headers=body.headers))
    return HeadersView(sorted(body.headers), body.user_agent)


# --- the cache ----------------------------------------------------------------------------------
def _settings(upstream: Upstream) -> CacheSettings:
    values = {name: getattr(upstream, field) for name, field in FIELDS.items()}
    return msgspec.convert(values, CacheSettings, strict=False)


@table.route("GET", "/repositories/{key}/cache-ttl", Access.READ, answer=CacheSettings)
async def get_cache_settings(call: Call) -> CacheSettings:
    """Show how long what is kept is believed."""
    return _settings(_upstream(call.repository))


@table.route(
    "PUT",
    "/repositories/{key}/cache-ttl",
    Access.ADMIN,
    body=CacheSettings,
    answer=CacheSettings,
)
async def set_cache_settings(call: Call) -> CacheSettings:
    """Change how long what is kept is believed, and how hard the upstream is asked."""
    values = {
        FIELDS[name]: tuple(value) if isinstance(value, list) else value
        for name, value in msgspec.structs.asdict(call.body).items()
        if value is not None
    }
    for name in ("immutable", "mutable"):
        patterns = values.get(name, ())
        if len(patterns) > PATTERNS_MAX or any(len(each) > 500 for each in patterns):
            raise RejectedError(f"more than {PATTERNS_MAX} patterns, or a very long one")
    upstream = msgspec.structs.replace(_upstream(call.repository), **values)
    await _change(call, upstream)
    return _settings(upstream)


@table.route("GET", "/repositories/{key}/cache", Access.READ, answer=CacheView)
async def get_cache(call: Call) -> CacheView:
    """Show what is kept of the upstream, and how asking it has gone since this node started."""
    key, engine = call.repository.key, call.core.engine
    upstream = _upstream(call.repository)
    found = await call.core.catalog.statistics(key)
    tally = engine.parts.counts.of(key)
    return CacheView(
        shown(upstream.url),
        engine.circuit(key),
        upstream.offline or engine.local.offline,
        sum(owner == key for owner, _ in engine.flights),
        found.files,
        found.size,
        tally.requests,
        tally.errors,
        tally.bytes,
        tally.results,
    )


@table.route(
    "POST",
    "/repositories/{key}/cache/invalidate",
    Access.ADMIN,
    body=Invalidation,
    answer=Invalidated,
)
async def invalidate(call: Call) -> Invalidated:
    """Have documents, and paths said to be missing, asked for again: all, or those of a pattern.

    What can never change stays: DELETE removes such a file.
    """
    upstream = _upstream(call.repository)
    pattern = call.body.path or "*"
    number = call.core.engine.states.forget(call.repository.key, pattern)
    await call.note("repository.invalidate", f"{call.repository.key} {pattern}"[:300])
    del upstream
    return Invalidated(number)


@table.route("POST", "/repositories/{key}/test-upstream", Access.ADMIN, answer=TestResult)
async def test_upstream(call: Call) -> TestResult:
    """Ask the upstream once, now."""
    _upstream(call.repository)
    began = time.monotonic()
    try:
        client = await call.core.engine.client(call.repository)
        async with client.open("GET", "", {}) as reply:
            status = reply.status
    except RegistryError as error:
        return TestResult(False, None, str(error), time.monotonic() - began)
    known = status < 400 or status in {404, 405}
    message = "the upstream answers" if known else f"the upstream answers {status}"
    return TestResult(known, status, message, time.monotonic() - began)
