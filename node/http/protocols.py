"""Hypercorn's protocols, for what ``Http1`` does not speak: HTTP/2 and WebSocket."""

from __future__ import annotations

from typing import Any

import h11
from hypercorn.events import Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import (
    H2CProtocolRequiredError,
    H2ProtocolAssumedError,
    H11Protocol,
)
from hypercorn.typing import H11SendableEvent

from node.http.context import Context
from node.http.head import reason_phrase
from node.http.http2 import Http2


class UpgradingHttp1(H11Protocol):
    """Hypercorn's HTTP/1.1, which here only ever upgrades a connection to something else."""

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if isinstance(event, (h11.InformationalResponse, h11.Response)):
            reason = event.reason or reason_phrase(event.status_code)
            event = type(event)(status_code=event.status_code, headers=event.headers, reason=reason)
        await super()._send_h11_event(event)


class Protocols(ProtocolWrapper):
    """Hypercorn's choice of protocol, with our HTTP/2."""

    def __init__(self, shared: Context, *args: Any) -> None:
        super().__init__(*args)
        self._shared = shared
        self._args = args[:-1]  # all but the protocol's name
        if isinstance(self.protocol, H2Protocol):
            self.protocol = Http2(shared, *self._args)
        else:
            self.protocol = UpgradingHttp1(*self._args)

    async def handle(self, event: Event) -> None:
        """Pass an event on, switching to HTTP/2 where the client asks for it."""
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as request:
            self.protocol = Http2(self._shared, *self._args)
            await self.protocol.initiate()
            await self.protocol.handle(RawData(request.data))
        except H2CProtocolRequiredError as request:
            self.protocol = Http2(self._shared, *self._args)
            await self.protocol.initiate(request.headers, request.settings)
            if request.data:
                await self.protocol.handle(RawData(request.data))
