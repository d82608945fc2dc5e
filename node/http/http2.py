"""An HTTP/2 connection: Hypercorn's, with honest flow control and a guard against resets.

Where Hypercorn would let one slow handler stop all streams of a connection, crash on a body whose
request is answered already, or write a frame a time, this does not.

Spec: RFC 9113 (HTTP/2), §5.2 (flow control), §8.1 (an early answer), §10.5 (denial of service).
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio
from h2.settings import SettingCodes
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.utils import filter_pseudo_headers
from priority.priority import DeadlockError, DuplicateStreamError

from node.http.context import Context
from node.http.head import server_headers
from node.http.outbox import Outbox
from node.http.stream import Http2Stream

if TYPE_CHECKING:
    from hypercorn.protocol.h2 import StreamBuffer

FRAME_SIZE: Final = 64 << 10  # bytes of body a client may put into one frame
BATCH_SIZE: Final = 128 << 10  # bytes of one stream written before another has its turn
WINDOW_DEFAULT: Final = 65_535  # RFC 9113 §6.9.2


class Bell:
    """Hypercorn's event, which plain functions can set as well."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Wake the sender."""
        self._event.set()

    async def set(self) -> None:
        """Wake the sender."""
        self._event.set()

    async def clear(self) -> None:
        """Forget past rings."""
        if self._event.is_set():
            self._event = trio.Event()

    async def wait(self) -> None:
        """Wait for a ring."""
        await self._event.wait()


class Http2(H2Protocol):
    """Hypercorn's HTTP/2 with limits, and one writer at a time.

    Apps only queue frames.  The reader and the sender write them, and nothing cancels those two
    but the end of the connection, so that no frame is lost between the state machine and the wire.
    """

    def __init__(self, shared: Context, *args: Any) -> None:
        super().__init__(*args)
        limits = shared.limits
        self._shared = shared
        self._bell = Bell()
        self.has_data = cast("Any", self._bell)
        self._quiet_size = 0
        """Bytes since the last event: h2 keeps a frame, of any length, until it is complete."""
        self._resets: deque[float] = deque(maxlen=limits.resets_max)
        self.connection.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams_max,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.head_size_max,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window,
                SettingCodes.MAX_FRAME_SIZE: FRAME_SIZE,
            },
        )
        self.connection.decoder.max_header_list_size = limits.head_size_max
        self.connection.max_inbound_frame_size = FRAME_SIZE

    async def initiate(
        self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None
    ) -> None:
        """Send our settings, and answer the request that asked for the upgrade, if one did."""
        await super().initiate(headers, settings)
        more = self._shared.limits.connection_window - WINDOW_DEFAULT
        self.connection.increment_flow_control_window(more)
        await self._write_out()

    # Reading

    async def handle(self, event: Event) -> None:
        """Take bytes from the peer, or the end of the connection."""
        if not isinstance(event, RawData):
            await super().handle(event)
            return
        try:
            events = self.connection.receive_data(event.data)
        except h2.exceptions.ProtocolError:
            await self._write_out()  # says why
            await self.send(Closed())
        else:
            self._quiet_size = 0 if events else self._quiet_size + len(event.data)
            if self._quiet_size > self._shared.limits.connection_window:
                await self._calm_down()
                return
            await self._handle_events(events)
            # The reader writes too: a client that only asks and never reads must come to wait.
            await self._write_out()

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                await self._take_data(event)
            elif isinstance(event, h2.events.StreamReset) and self._resets_too_often():
                await self._calm_down()
                return
            else:
                await super()._handle_events([event])

    async def _calm_down(self) -> None:
        """End the connection of a client that costs more than it can mean to."""
        self.connection.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        await self._write_out()
        await self.send(Closed())

    async def _take_data(self, event: h2.events.DataReceived) -> None:
        number, size = event.stream_id or 0, event.flow_controlled_length or 0
        stream = self.streams.get(number)
        if isinstance(stream, Http2Stream):
            await stream.take(event.data or b"", size)
        elif stream is not None:
            await super()._handle_events([event])
        else:  # answered, and forgotten: the bytes only need their window back
            self.connection.acknowledge_received_data(size, number)

    def _resets_too_often(self) -> bool:
        """Count a stream that the client gave up; opening and dropping them is an attack."""
        now = trio.current_time()
        self._resets.append(now)
        full = len(self._resets) == self._resets.maxlen
        return full and now - self._resets[0] < self._shared.limits.resets_period

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        number = request.stream_id or 0
        fields = dict(request.headers or ())
        stream = Http2Stream(
            self._shared,
            self,
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            number,
        )
        self.streams[number] = stream
        outbox = Outbox(self._shared.limits.write_timeout)
        self.stream_buffers[number] = cast("StreamBuffer", outbox)
        with suppress(DuplicateStreamError):  # a PRIORITY frame may have come first
            self.priority.insert_stream(number)
        self.priority.block(number)
        await stream.handle(
            Request(
                stream_id=number,
                headers=filter_pseudo_headers(list(request.headers or ())),
                http_version="2",
                method=fields.get(b":method", b"").decode("latin-1"),
                raw_path=fields.get(b":path", b""),
                state=self.connection_state,
            )
        )

    # Writing

    async def stream_send(self, event: StreamEvent) -> None:
        """Queue what a stream has to say."""
        if isinstance(event, Response):
            # No flush: the head leaves with the first of the body.
            fields = [(b":status", b"%d" % event.status_code), *event.headers]
            names = {name.lower() for name, _ in event.headers}
            stream = self.streams.get(event.stream_id)
            own = server_headers()
            if isinstance(stream, Http2Stream):
                own.append((b"x-request-id", stream.request_id))
            fields += [pair for pair in own if pair[0] not in names]
            try:
                self.connection.send_headers(event.stream_id, fields)
            except h2.exceptions.ProtocolError:
                self.reset(event.stream_id)  # the client was faster
        elif isinstance(event, (Body, EndBody)) and event.stream_id not in self.stream_buffers:
            return
        elif isinstance(event, StreamClosed):
            await self._end_stream(event.stream_id)
        else:
            await super().stream_send(event)

    async def _end_stream(self, number: int) -> None:
        stream = self.streams.get(number)
        if isinstance(stream, Http2Stream) and not stream.body_complete:
            self.reset(number, h2.errors.ErrorCodes.NO_ERROR)  # RFC 9113 §8.1: send no more
        await super().stream_send(StreamClosed(stream_id=number))

    def reset(
        self, number: int, code: h2.errors.ErrorCodes = h2.errors.ErrorCodes.INTERNAL_ERROR
    ) -> None:
        """Give up a stream, in the middle of its response if need be."""
        try:
            self.connection.reset_stream(number, code)
        except (h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            return
        self.wake()

    def acknowledge(self, number: int, size: int) -> None:
        """Give the client back the window of bytes that the app has taken."""
        try:
            self.connection.acknowledge_received_data(size, number)
        except h2.exceptions.ProtocolError:
            return
        self.wake()

    def wake(self) -> None:
        """Have the sender look for frames."""
        self._bell.ring()

    async def _flush(self) -> None:
        self.wake()

    async def send_task(self) -> None:
        """Write what streams and the state machine have, the streams in turn."""
        while not self.closed:
            await self._write_out()
            try:
                number = next(self.priority)
            except DeadlockError:
                await self.has_data.wait()
                await self.has_data.clear()
            else:
                await self._send_data(number)

    async def _write_out(self) -> None:
        data = self.connection.data_to_send()
        if data:
            await self.send(RawData(data))

    async def _send_data(self, stream_id: int) -> None:
        outbox = cast("Outbox | None", self.stream_buffers.get(stream_id))
        if outbox is None:
            self.priority.remove_stream(stream_id)
            return
        try:
            size = min(self.connection.local_flow_control_window(stream_id), BATCH_SIZE)
            data = await outbox.pop(max(0, size))
            frame_size = self.connection.max_outbound_frame_size
            for start in range(0, len(data), frame_size):
                self.connection.send_data(stream_id, data[start : start + frame_size])
            if outbox.complete:
                self.connection.end_stream(stream_id)
                outbox.end()
            elif data:
                return
            else:
                self.priority.block(stream_id)
                return
        except h2.exceptions.ProtocolError:  # the client has reset the stream, or is gone
            await outbox.close()
        del self.stream_buffers[stream_id]
        self.priority.remove_stream(stream_id)
