"""quart-trio, made fit for the node: three things its stock connection class gets wrong.

- At the end of a response Hypercorn queues an ``http.disconnect``, on which quart-trio cancels its
  own tasks, the one that is still closing or re-arming the connection included: connections that
  should close never do, and idle ones never time out.
- A body is read ahead without bound, however slowly the handler consumes it.
- Bodies over 16 MiB are refused, and what takes a minute is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent
from quart.wrappers import Request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers.request import TrioBody

READ_AHEAD_MAX: Final = 1 << 20
BODY_LIMITS: Final[Mapping[str, Any]] = {
    "MAX_CONTENT_LENGTH": None,  # the server judges declared and streamed lengths, per route
    "BODY_TIMEOUT": None,  # the server drops clients that make no progress
    "RESPONSE_TIMEOUT": None,
}


class BoundedBody(TrioBody):
    """A request body of which only a bounded part is read ahead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._consumed = trio.Event()
        self._wanted_whole = False

    async def __anext__(self) -> bytes:
        data = await super().__anext__()
        self._wake()
        return data

    def __await__(self) -> Any:
        # The whole body at once: the handler has asked for all of it in memory, so do not wait.
        self._wanted_whole = True
        self._wake()
        return super().__await__()

    async def room(self) -> None:
        """Wait until less than READ_AHEAD_MAX bytes are waiting to be consumed."""
        while len(self._data) > READ_AHEAD_MAX and not self._wanted_whole:
            self._consumed = trio.Event()
            await self._consumed.wait()

    def _wake(self) -> None:
        self._consumed.set()


class BoundedRequest(TrioRequest):
    """A request whose body is bounded in memory while it is iterated."""

    body_class = BoundedBody


class Connection(TrioASGIHTTPConnection):
    """One request, with back-pressure, that tells the end of its response from a lost client."""

    _ending = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Run the request."""

        async def send_and_note(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._ending = True
            await send(message)

        await super().__call__(receive, send_and_note)

    async def handle_messages(  # type: ignore[override]  # Quart's has no bound
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Feed the body as the handler consumes it; the client leaving ends the request.

        Once the last send is under way a disconnect is its effect: ``handle_request`` will end
        the request.  Cancelling here would stop the server amid closing the connection.  A shield
        around that send would do too, but let a stalled client outlive the server's drain.
        """
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            if message["type"] == "http.request":
                request.body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    request.body.set_complete()
                elif isinstance(request.body, BoundedBody):
                    await request.body.room()
        if not self._ending:
            nursery.cancel_scope.cancel()


class NodeQuart(QuartTrio):
    """A QuartTrio app with bounded uploads, unbounded durations, and connections that close."""

    asgi_http_class = Connection
    request_class = BoundedRequest

    def __init__(self, import_name: str, **options: Any) -> None:
        super().__init__(import_name, **options)
        self.config.update(BODY_LIMITS)
