"""Request bodies, ingested as they arrive: documents, blobs, forms, decoded bodies."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, Self

from formats.contract import (
    Body,
    BodyDecoder,
    BodyKind,
    Form,
    FormFile,
    PartData,
    PartEnd,
    PartEvent,
    PartStart,
)
from node.packages.multipart import MultipartDecoder
from store.blobs import Ingest, Ingested
from store.errors import (
    RegistryError,
    RejectedError,
    StoreFullError,
    TooLargeError,
    UnsupportedError,
)

FIELD_MAX = 1 << 20  # bytes of one form field
FIELDS_MAX = 16 << 20  # bytes of all form fields together
PARTS_MAX = 10_000
IGNORED_MAX = 64 << 10  # bytes of an unwanted body that are read away
FRAMING_MAX = 1 << 20  # bytes of a body that may be framing and fields rather than files
LENGTH_DIGITS_MAX = 19  # longer numbers exceed every limit, and Python refuses the longest


class Ingester(Protocol):
    """What bodies are poured into."""

    def ingest(self, *, checksums: Iterable[str] = ()) -> AbstractAsyncContextManager[Ingest]: ...


def declared_length(headers: Mapping[str, str]) -> int | None:
    """The Content-Length, or None."""
    text = headers.get("content-length", "")
    if not (text.isascii() and text.isdecimal()):
        return None
    return int(text) if len(text) <= LENGTH_DIGITS_MAX else 10**LENGTH_DIGITS_MAX


def judge_length(body: Body, headers: Mapping[str, str], *, limit: int = 0) -> None:
    """Refuse a body that is declared too large, before a byte of it is read."""
    length = declared_length(headers)
    limits = [each for each in (body.max, limit or None) if each is not None]
    if length is not None and limits and length > min(limits):
        raise TooLargeError(f"a body of {length} bytes; at most {min(limits)} are taken here")


class Bounded(AsyncIterator[bytes]):
    """Passes chunks on.  Raises TooLargeError past ``limit`` bytes.

    An object rather than a generator: a body that is left half-read needs no cleaning up.
    """

    def __init__(self, chunks: AsyncIterator[bytes], limit: int | None) -> None:
        self._chunks, self._limit, self._total = chunks, limit, 0

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._total += len(chunk)
        if self._limit is not None and self._total > self._limit:
            raise self._refusal()
        return chunk

    def _refusal(self) -> RegistryError:
        return TooLargeError(f"the body is larger than {self._limit} bytes")


class Prepended(AsyncIterator[bytes]):
    """A chunk that was looked at already, then the others."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes]) -> None:
        self._first, self._rest = first, rest

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await anext(self._rest)


class Fitting(Bounded):
    """Passes chunks on while they may fit into a quota with ``room`` bytes left.

    Raises StoreFullError, at once if the declared length says so.  Coarse: what is framing and what
    is files only shows later, and the commit judges the files themselves.
    """

    def __init__(self, chunks: AsyncIterator[bytes], headers: Mapping[str, str], room: int) -> None:
        super().__init__(chunks, room + FRAMING_MAX)
        if (declared_length(headers) or 0) > room + FRAMING_MAX:
            raise self._refusal()

    def _refusal(self) -> RegistryError:
        room = (self._limit or FRAMING_MAX) - FRAMING_MAX
        return StoreFullError(f"the repository's quota leaves room for {room} bytes")


async def read_document(
    chunks: AsyncIterator[bytes], headers: Mapping[str, str], limit: int
) -> bytes:
    """Collect a small body; a gzip coding is undone within the same limit."""
    coding = headers.get("content-encoding", "identity").lower()
    if coding not in {"identity", "gzip", "x-gzip", ""}:
        raise UnsupportedError(f"unsupported Content-Encoding {coding[:40]!r}")
    inflate = zlib.decompressobj(31) if "gzip" in coding else None
    data = bytearray()
    async for chunk in Bounded(chunks, limit):
        try:
            data += inflate.decompress(chunk, limit + 1 - len(data)) if inflate else chunk
        except zlib.error as error:
            raise RejectedError(f"the gzip body is damaged: {error}") from error
        if len(data) > limit:
            raise TooLargeError(f"the body is larger than {limit} bytes")
    if inflate and not inflate.eof:
        raise RejectedError("the gzip body is cut short")
    return bytes(data)


async def read_blob(
    chunks: AsyncIterator[bytes], into: Ingester, checksums: Sequence[str]
) -> Ingested:
    """Pour the body into a blob."""
    async with into.ingest(checksums=checksums) as ingest:
        async for chunk in chunks:
            await ingest.write(chunk)
    return ingest.result


async def read_form(
    chunks: AsyncIterator[bytes],
    decoder: BodyDecoder,
    into: Ingester,
    checksums: Sequence[str],
) -> Form:
    """Split a body into fields and blobs, one part at a time."""
    form = FormReader(into, checksums)
    async with form:
        async for chunk in chunks:
            for event in decoder.feed(chunk):
                await form.take(event)
        for event in decoder.finish():
            await form.take(event)
        form.judge_end()
    return form.result()


class FormReader:
    """Collects decoded parts; a part that is a file is ingested while it arrives."""

    def __init__(self, into: Ingester, checksums: Sequence[str]) -> None:
        self._into, self._checksums = into, checksums
        self._fields: dict[str, list[str]] = {}
        self._files: dict[str, list[FormFile]] = {}
        self._part: PartStart | None = None
        self._field = bytearray()
        self._fields_size = self._parts = 0
        self._open: AbstractAsyncContextManager[Ingest] | None = None
        self._ingest: Ingest | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            await opened.__aexit__(kind, error, trace)

    def judge_end(self) -> None:
        """Refuse a body whose last part did not end.  Raises RejectedError."""
        if self._part is not None:
            raise RejectedError(f"the body ends within part {self._part.name[:80]!r}")

    async def take(self, event: PartEvent) -> None:
        """Follow the decoder."""
        if isinstance(event, PartStart):
            await self._start(event)
        elif isinstance(event, PartData):
            await self._data(event.data)
        elif isinstance(event, PartEnd):
            await self._end()

    async def _start(self, part: PartStart) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise TooLargeError(f"more than {PARTS_MAX} parts")
        self._part, self._field = part, bytearray()
        self._count(len(part.name) + sum(len(n) + len(v) for n, v in part.headers.items()))
        if part.filename is not None or part.blob:
            self._open = self._into.ingest(checksums=self._checksums)
            self._ingest = await self._open.__aenter__()

    async def _data(self, data: bytes) -> None:
        if self._ingest is not None:
            await self._ingest.write(data)
            return
        self._field += data
        self._count(len(data))
        if len(self._field) > FIELD_MAX:
            raise TooLargeError(f"a form field is larger than {FIELD_MAX} bytes")

    def _count(self, size: int) -> None:
        """Count what stays in memory: fields, names and headers of parts."""
        self._fields_size += size
        if self._fields_size > FIELDS_MAX:
            raise TooLargeError(f"form fields are larger than {FIELDS_MAX} bytes together")

    async def _end(self) -> None:
        part, self._part = self._part, None
        if part is None:
            raise RejectedError("a part ends before it begins")
        if self._open is None or self._ingest is None:
            try:
                text = self._field.decode("utf-8")
            except UnicodeDecodeError:
                raise RejectedError(f"form field {part.name!r} is not UTF-8") from None
            self._fields.setdefault(part.name, []).append(text)
            return
        opened, ingest = self._open, self._ingest
        self._open = self._ingest = None
        await opened.__aexit__(None, None, None)
        file = FormFile(part.filename or "", part.headers, ingest.result)
        self._files.setdefault(part.name, []).append(file)

    def result(self) -> Form:
        """Everything that came."""
        return Form(self._fields, self._files)


def decoder_for(body: Body, headers: Mapping[str, str]) -> BodyDecoder:
    """The push parser a route's body needs."""
    if body.kind is BodyKind.FORM:
        return MultipartDecoder(headers.get("content-type", ""))
    if body.decoder is None:
        raise TypeError("a DECODED route names no decoder")
    return body.decoder(headers)
