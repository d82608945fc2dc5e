"""multipart/form-data as a push parser (RFC 7578), over python-multipart's state machine."""

from __future__ import annotations

from collections.abc import Iterable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from formats.contract import PartData, PartEnd, PartEvent, PartStart
from store.errors import RejectedError, UnsupportedError

HEADERS_MAX = 16 << 10  # bytes of one part's headers


class MultipartDecoder:
    """Splits a multipart body.  Raises RejectedError on malformed or truncated input."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise UnsupportedError("expected a multipart/form-data body with a boundary")
        self._events: list[PartEvent] = []
        self._name, self._value = bytearray(), bytearray()
        self._headers: dict[str, str] = {}
        self._disposition = b""
        self._size = 0
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> Iterable[PartEvent]:
        """Take bytes, give the events they complete."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise RejectedError(f"malformed multipart body: {error}") from error
        events, self._events = self._events, []
        return events

    def finish(self) -> Iterable[PartEvent]:
        """The body has ended.  Raises RejectedError if its closing boundary is missing."""
        if not self._ended:
            raise RejectedError("the multipart body is cut short")
        return ()

    def _on_part_begin(self) -> None:
        self._headers, self._disposition, self._size = {}, b"", 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._count(end - start)

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._count(end - start)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > HEADERS_MAX:
            raise RejectedError(f"part headers are larger than {HEADERS_MAX} bytes")

    def _on_header_end(self) -> None:
        name = self._name.decode("latin-1").lower()
        self._headers[name] = self._value.decode("utf-8", "replace")
        if name == "content-disposition":
            self._disposition = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)  # bytes: it thinks in latin-1
        if kind != b"form-data" or b"name" not in options:
            raise RejectedError("a part without a form-data name")
        filename = options.get(b"filename")
        self._events.append(
            PartStart(
                options[b"name"].decode("utf-8", "replace"),
                None if filename is None else filename.decode("utf-8", "replace"),
                self._headers,
            )
        )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(PartData(data[start:end]))

    def _on_part_end(self) -> None:
        self._events.append(PartEnd())

    def _on_end(self) -> None:
        self._ended = True
