"""An HTTP client for one upstream: redirects, credentials, pace and circuit, all bounded.

Spec: RFC 9110.  Imported when a remote repository is first asked: the library is not light.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import certifi
import httpcore
import trio

from node.upstream import auth
from node.upstream.breaker import Breaker, Pace
from node.upstream.guard import Guard
from node.upstream.settings import Secrets, Upstream
from node.upstream.transport import FAILED, make_pool
from node.upstream.urls import Target, join, parse, shown
from store.errors import TooLargeError, UnavailableError, UpstreamDeniedError, UpstreamError

REDIRECTS_MAX = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
AGENT = "Atoll"
CONNECT = 10.0  # seconds
HEADER_MAX = 16 << 10  # characters of one response header that are looked at


@dataclass(frozen=True, slots=True)
class Reply:
    """A response whose body has yet to be read.  ``url`` is where it came from in the end."""

    status: int
    headers: Mapping[str, str]
    url: str
    chunks: AsyncIterator[bytes]

    @property
    def length(self) -> int | None:
        """The declared length of the body."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None

    @property
    def framed(self) -> bool:
        """Whether a body that was cut off could be told from a whole one."""
        return self.length is not None or "transfer-encoding" in self.headers

    async def text(self, limit: int) -> bytes:
        """The whole of a small body.  Raises TooLargeError, UpstreamError."""
        data = bytearray()
        async for chunk in self.chunks:
            data += chunk
            if len(data) > limit:
                raise TooLargeError(f"{shown(self.url)} answers more than {limit} bytes")
        return bytes(data)


class Client:
    """Asks one upstream."""

    def __init__(
        self,
        upstream: Upstream,
        secrets: Secrets,
        guard: Guard,
        *,
        proxy: str = "",
        context: ssl.SSLContext | None = None,
    ) -> None:
        """``proxy`` is the node's own egress proxy, for upstreams that name none."""
        named = secrets.proxy_username, secrets.proxy_password
        self._upstream, self._guard = upstream, guard
        self._proxied = bool(upstream.proxy or proxy)
        self._pool = make_pool(
            guard,
            connections_max=upstream.connections_max,
            proxy=upstream.proxy or proxy,
            proxy_auth=named if upstream.proxy and named[0] else None,
            context=context,
        )
        self._places = trio.CapacityLimiter(upstream.connections_max)
        self._credentials = auth.Credentials(upstream, secrets)
        self._pace = Pace(upstream.rate)
        self.breaker = Breaker()

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    @asynccontextmanager
    async def open(
        self, method: str, reference: str, headers: Mapping[str, str], *, scope: str = ""
    ) -> AsyncGenerator[Reply]:
        """Ask, following redirects.  ``scope`` names what a token is kept for.

        Raises UpstreamError when there is no answer, or one of 5xx; UnavailableError while the
        circuit is open.
        """
        now = trio.current_time()
        if not self.breaker.admits(now, patience=self._upstream.timeout + CONNECT):
            wait = self.breaker.wait(now)
            raise UnavailableError(f"upstream is away; asked again in {wait:.0f} s")
        try:
            async with self._places:
                await trio.sleep(self._pace.delay(trio.current_time()))
                async with self._follow(method, reference, headers, scope) as reply:
                    self._report(reply)
                    yield reply
        except FAILED as error:
            self.breaker.failed(trio.current_time())
            raise UpstreamError(f"upstream failed: {_why(error)}") from None

    def _report(self, reply: Reply) -> None:
        """Tell the circuit how it went.  Raises UpstreamError for an answer that is none."""
        now = trio.current_time()
        if reply.status in {429, 503}:
            after = reply.headers.get("retry-after", "")
            if after.isascii() and after.isdecimal():
                self.breaker.told_to_wait(now, float(after[:6]))
        if reply.status >= 500:
            self.breaker.failed(now)
            raise UpstreamError(f"upstream answers {reply.status} at {shown(reply.url)}")
        self.breaker.succeeded()
        if reply.status == 429:
            raise UpstreamError("upstream asks for fewer requests (429)")

    @asynccontextmanager
    async def _follow(
        self, method: str, reference: str, headers: Mapping[str, str], scope: str
    ) -> AsyncGenerator[Reply]:
        target = parse(join(self._upstream.url, reference))
        secure, asked_token = target.scheme == "https", False
        for _ in range(REDIRECTS_MAX + 2):
            sent = {**headers, **self._credentials.headers(target, scope, trio.current_time())}
            async with self._exchange(method, target, sent) as reply:
                challenge = auth.read_challenge(reply.headers.get("www-authenticate", ""))
                if reply.status == 401 and challenge is not None and not asked_token:
                    asked_token = True
                elif reply.status in REDIRECTS and "location" in reply.headers:
                    target = parse(join(target.url, reply.headers["location"]))
                    if secure and target.scheme != "https":
                        raise UpstreamError(f"upstream redirects to {target.scheme}: {target.host}")
                    continue
                else:
                    yield reply
                    return
            await self._fetch_token(challenge, scope)
        raise UpstreamError(f"upstream redirects more than {REDIRECTS_MAX} times")

    async def _fetch_token(self, challenge: auth.Challenge, scope: str) -> None:
        """Get a bearer token from where the upstream said (the registries' token dance)."""
        self._credentials.forget(scope)
        target = parse(challenge.url)
        sent = {"accept": "application/json", **self._credentials.for_realm(target)}
        async with self._exchange("GET", target, sent) as reply:
            if reply.status != 200:
                raise UpstreamError(f"upstream's token endpoint answers {reply.status}")
            token, life = auth.read_token(await reply.text(auth.TOKEN_SIZE_MAX))
        self._credentials.keep(scope, token, trio.current_time() + 0.9 * life)

    @asynccontextmanager
    async def _exchange(
        self, method: str, target: Target, headers: Mapping[str, str]
    ) -> AsyncGenerator[Reply]:
        """One request and its response; the target is judged even when a proxy will connect."""
        if self._proxied:
            await self._judge_proxied(target)
        timeout = self._upstream.timeout
        named = {
            "host": target.authority,
            "user-agent": self._upstream.user_agent or AGENT,
            "accept": "*/*",
            "accept-encoding": "identity",
            **headers,
        }
        url = httpcore.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        request = httpcore.Request(
            method,
            url,
            headers=[(k.encode(), v.encode("latin-1")) for k, v in named.items()],
            extensions={
                "timeout": {"connect": CONNECT, "read": timeout, "write": timeout, "pool": timeout}
            },
        )
        response = await self._pool.handle_async_request(request)
        try:
            yield Reply(
                response.status, _headers(response.headers), target.url, response.aiter_stream()
            )
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await response.aclose()

    async def _judge_proxied(self, target: Target) -> None:
        """Refuse private targets behind a proxy, too, as far as their names resolve here."""
        try:
            await self._guard.addresses(target.host, target.port)
        except UpstreamDeniedError:
            raise
        except UpstreamError:
            return  # no DNS here: the proxy will know


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names; repeated fields are joined with a comma, but for the length's."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")[:HEADER_MAX]
        if key in found and key != "content-length":
            text = f"{found[key]}, {text}"
        found[key] = text
    return found


def _why(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[:200]


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Trust the system's authorities, those of ``ca_file`` too, and a library's if it has none."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
