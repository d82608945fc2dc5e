"""The first ASGI app a request meets: packages, health, metrics, or the management API.

The management API is a quart-trio app; importing it takes most of a second, so that happens after
the node is ready, in the background, or with the first request that needs it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import trio

from node.http.asgi import App, Message, Receive, Scope, Send
from node.metrics import CONTENT_TYPE, Metrics
from node.packages.app import PackageApp, headers_of, raw_path
from node.packages.observe import Observation, Observer
from node.packages.serving import SECURITY
from store.errors import RegistryError

Check = Callable[[], Awaitable[None]]
LIVE = frozenset({"/livez"})
HEALTH = frozenset({"/health", "/healthz"})
FRESH = 1.0  # seconds for which a health report is repeated
READY = frozenset({"/ready", "/readyz"})
API_HEADERS = (*SECURITY, (b"cache-control", b"no-store"))


@dataclass(slots=True)
class Health:
    """Named checks; each raises RegistryError when its part is not well."""

    version: str
    checks: dict[str, Check] = field(default_factory=dict[str, Check])
    _turn: trio.Lock = field(default_factory=trio.Lock)
    _latest: tuple[bool, dict[str, object]] = (False, {})
    _until: float = -math.inf

    async def report(self) -> tuple[bool, dict[str, object]]:
        """What the checks found within the last second: anybody may ask, and they cost."""
        async with self._turn:
            if trio.current_time() >= self._until:
                self._latest = await self._check()
                self._until = trio.current_time() + FRESH
            well, found = self._latest
            return well, dict(found)

    async def _check(self) -> tuple[bool, dict[str, object]]:
        """Run every check, each for at most two seconds."""
        found: dict[str, object] = {}
        for name, check in self.checks.items():
            found[name] = "slow"
            with trio.move_on_after(2):
                try:
                    await check()
                    found[name] = "ok"
                except RegistryError as error:
                    found[name] = str(error)
        well = all(each == "ok" for each in found.values())
        return well, {"status": "healthy" if well else "unhealthy", "checks": found}


class LazyApp:
    """An ASGI app that is built when first needed, once."""

    def __init__(self, build: Callable[[], App]) -> None:
        self._build = build
        self._app: App | None = None
        self._lock = trio.Lock()

    async def load(self) -> App:
        """Build it now; the imports run in a worker thread."""
        async with self._lock:
            if self._app is None:
                self._app = await trio.to_thread.run_sync(self._build)
            return self._app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the built app."""
        app = self._app or await self.load()
        await app(scope, receive, send)


class Front:
    """Dispatches by path."""

    def __init__(
        self,
        packages: PackageApp,
        api: LazyApp,
        health: Health,
        metrics: Metrics,
        may_see_metrics: Callable[[dict[str, str], str], Awaitable[bool]],
        observer: Observer,
    ) -> None:
        self._packages, self._api, self._health = packages, api, health
        self._metrics, self._may_see_metrics = metrics, may_see_metrics
        self._observer = observer

    async def warm(self) -> None:
        """Build the management API before somebody waits for it."""
        await self._api.load()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = raw_path(scope)
        place = self._packages.find(path)
        if place is not None:
            await self._packages(scope, receive, send, place)
        elif path.startswith("/api/") or path == "/api":
            await self._observed("api", scope, receive, send)
        else:
            await self._plain(path, scope, send)

    async def _observed(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the API, and count it."""
        seen = Observation.of(scope, name)
        seen.address = str((scope.get("client") or ("",))[0])

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                named = {name for name, _ in message["headers"]}
                extra = [pair for pair in API_HEADERS if pair[0] not in named]
                message = {**message, "headers": [*message["headers"], *extra]}
            seen.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._api(scope, receive, note)
        finally:
            self._observer(seen)

    async def _plain(self, path: str, scope: Scope, send: Send) -> None:
        clean = path.rstrip("/") or "/"
        if clean in LIVE:
            await answer(send, scope, 200, {"status": "alive"})
        elif clean in HEALTH or clean in READY:
            well, report = await self._health.report()
            report["version"] = self._health.version
            await answer(send, scope, 200 if well else 503, report)
        elif clean == "/metrics":
            address = str((scope.get("client") or ("",))[0])
            if await self._may_see_metrics(dict(headers_of(scope)), address):
                await answer(send, scope, 200, await self._metrics.text(), CONTENT_TYPE)
            else:
                extra = [(b"www-authenticate", b'Basic realm="Atoll"')]
                await answer(send, scope, 401, {"error": "authentication required"}, extra=extra)
        elif clean == "/":
            await answer(send, scope, 200, {"name": "atoll", "version": self._health.version})
        else:
            await answer(send, scope, 404, {"error": "no such route", "message": path[:200]})


async def _lifespan(receive: Receive, send: Send) -> None:
    """The node opens and closes its parts itself; the server only wants to hear "go on"."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def answer(
    send: Send,
    scope: Scope,
    status: int,
    content: object,
    media_type: str = "application/json",
    *,
    extra: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """Send a small answer."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *SECURITY,
        *(extra or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
