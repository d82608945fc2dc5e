"""One POST to a place that an administrator named: guarded, bounded, never redirected.

Names are resolved and judged here and the connection goes to the address that was judged, as for
upstreams (``node.upstream.guard``).  A redirect is an answer that does not take the event: its
target was named by nobody who may name one.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from node.events.webhooks import Answer
from node.upstream.guard import Guard
from node.upstream.urls import parse
from store.errors import RejectedError, UpstreamDeniedError, UpstreamError

if TYPE_CHECKING:
    import httpcore

TIMEOUT = 15.0  # seconds for each step
WHOLE = 30.0  # seconds for all of it
URL_MAX = 2000  # characters
ANSWER_MAX = 16 << 10  # bytes of an answer that are read, so that the connection may be kept
CONNECTIONS_MAX = 16


def judge_url(url: str) -> None:
    """Refuse what no event can be sent to.  Raises RejectedError.

    Whether its address may be asked is judged at each delivery: names move.
    """
    try:
        parts = urlsplit(url)
        parse(url)
    except (ValueError, UpstreamError):
        raise RejectedError("url is not an absolute http or https URL") from None
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise RejectedError("url holds a user name or a fragment")
    if len(url) > URL_MAX:
        raise RejectedError(f"url is longer than {URL_MAX} characters")


class GuardedSender:
    """Sends requests; its library is imported with the first."""

    def __init__(self, guard: Guard, *, proxy: str = "", ca_file: str = "") -> None:
        self._guard, self._proxy, self._ca_file = guard, proxy, ca_file
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._context: ssl.SSLContext | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send one request.  Raises UpstreamDeniedError, UpstreamError for a name unknown."""
        import httpcore

        from node.upstream.transport import FAILED

        target = parse(url)
        if self._proxy:
            await self._judge(target.host, target.port)
        pool = await self._opened()
        sent = {
            "host": target.authority,
            "user-agent": "Atoll",
            "content-length": str(len(body)),
            **headers,
        }
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT)
        request = httpcore.Request(
            "POST",
            httpcore.URL(
                scheme=target.scheme.encode(),
                host=target.host.encode(),
                port=target.port,
                target=target.path.encode(),
            ),
            headers=[(k.encode(), v.encode("latin-1", "replace")) for k, v in sent.items()],
            content=body,
            extensions={"timeout": timeout},
        )
        try:
            with trio.fail_after(WHOLE):
                return await self._exchange(pool, request)
        except trio.TooSlowError:
            return Answer(0, "no answer in time")
        except FAILED as error:
            return Answer(0, f"{type(error).__name__}: {error}"[:200])

    async def _exchange(
        self, pool: httpcore.AsyncConnectionPool, request: httpcore.Request
    ) -> Answer:
        response = await pool.handle_async_request(request)
        try:
            size = 0
            async for part in response.aiter_stream():
                size += len(part)
                if size > ANSWER_MAX:
                    break
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await response.aclose()
        status = response.status
        return Answer(status, "" if 200 <= status < 300 else f"answered {status}")

    async def _judge(self, host: str, port: int) -> None:
        """Refuse private targets behind a proxy, too, as far as their names resolve here."""
        try:
            await self._guard.addresses(host, port)
        except UpstreamDeniedError:
            raise
        except UpstreamError:
            return  # no DNS here: the proxy will know

    async def _opened(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            from node.upstream.client import tls_context
            from node.upstream.transport import make_pool

            self._context = await trio.to_thread.run_sync(tls_context, self._ca_file)
            self._pool = make_pool(
                self._guard,
                connections_max=CONNECTIONS_MAX,
                proxy=self._proxy,
                context=self._context,
            )
        return self._pool

    async def close(self) -> None:
        """Close what is open."""
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None
