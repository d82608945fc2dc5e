"""Request bodies: bounded, whole or refused, and nothing left behind."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from formats.contract import Body, BodyKind, PartData, PartEnd, PartEvent, PartStart
from node.packages import bodies
from node.packages.bodies import (
    FIELD_MAX,
    FRAMING_MAX,
    Bounded,
    Fitting,
    Prepended,
    declared_length,
    decoder_for,
    judge_length,
    read_blob,
    read_document,
    read_form,
)
from store.blobs import Ingested
from store.errors import RejectedError, StoreFullError, TooLargeError, UnsupportedError
from store.intake import Intake
from tests.node.packages.test_multipart import BODY, TYPE


class Chunks(AsyncIterator[bytes]):
    """A body in pieces, which may break off."""

    def __init__(self, pieces: Iterable[bytes], error: Exception | None = None) -> None:
        self._pieces, self._error, self.read = iter(pieces), error, 0

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            self.read += len(piece)
            return piece
        if self._error:
            raise self._error
        raise StopAsyncIteration


@dataclass
class Held:
    """One blob on its way."""

    intake: Intake
    data: bytearray = field(default_factory=bytearray)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def result(self) -> Ingested:
        return self.intake.finish()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data
        self.intake.update(memoryview(bytes(data)))


@dataclass
class Into:
    """Where blobs go; notes which were finished and which were dropped."""

    kept: list[bytes] = field(default_factory=list)
    dropped: int = 0

    @asynccontextmanager
    async def ingest(self, *, checksums: Iterable[str] = ()) -> AsyncGenerator[Held]:
        held = Held(Intake(checksums=list(checksums)))
        try:
            yield held
        except BaseException:  # cancelled, too
            self.dropped += 1
            raise
        self.kept.append(bytes(held.data))


def test_declared_lengths() -> None:
    assert declared_length({"content-length": "12"}) == 12
    for text in ("", "-1", "1.5", "x", "²", "0x1"):
        assert declared_length({"content-length": text}) is None
    assert (declared_length({"content-length": "9" * 5000}) or 0) > 1 << 60


def test_what_is_declared_too_large_is_refused_before_it_is_read() -> None:
    judge_length(Body(max=10), {"content-length": "10"})
    judge_length(Body(), {"content-length": "10"})
    judge_length(Body(max=10), {})
    for body, limit in ((Body(max=10), 0), (Body(), 10), (Body(max=99), 10), (Body(max=10), 99)):
        with pytest.raises(TooLargeError, match="at most 10"):
            judge_length(body, {"content-length": "11"}, limit=limit)


async def test_what_turns_out_too_large_is_refused_there() -> None:
    chunks = Chunks([b"12345", b"67890", b"x", b"never"])
    with pytest.raises(TooLargeError):
        async for _ in Bounded(chunks, 10):
            pass
    assert chunks.read == 11
    assert [c async for c in Bounded(Chunks([b"a", b"b"]), None)] == [b"a", b"b"]
    assert [c async for c in Prepended(b"a", Chunks([b"b"]))] == [b"a", b"b"]


async def test_a_quota_refuses_at_once_what_is_declared_and_later_what_is_not() -> None:
    with pytest.raises(StoreFullError, match="5 bytes"):
        Fitting(Chunks([]), {"content-length": str(FRAMING_MAX + 6)}, 5)
    fitting = Fitting(Chunks([bytes(FRAMING_MAX), b"12345", b"6"]), {}, 5)
    assert len(await anext(fitting)) == FRAMING_MAX
    assert await anext(fitting) == b"12345"
    with pytest.raises(StoreFullError):
        await anext(fitting)


async def document(data: bytes, coding: str | None = "gzip", limit: int = 1000) -> bytes:
    headers: Mapping[str, str] = {} if coding is None else {"content-encoding": coding}
    return await read_document(
        Chunks(data[i : i + 7] for i in range(0, len(data), 7)), headers, limit
    )


async def test_documents_may_be_gzipped() -> None:
    assert await document(b"plain", None) == b"plain"
    assert await document(b"plain", "identity") == b"plain"
    assert await document(gzip.compress(b"x" * 1000)) == b"x" * 1000
    assert await document(gzip.compress(b"y"), "X-GZIP") == b"y"


async def test_bombs_and_damage_in_documents_are_refused() -> None:
    with pytest.raises(TooLargeError):
        await document(gzip.compress(bytes(10_000_000)), limit=100_000)
    with pytest.raises(TooLargeError):
        await document(gzip.compress(b"x" * 1001))
    with pytest.raises(TooLargeError):
        await document(b"x" * 1001, None)
    for damaged in (gzip.compress(b"x" * 99)[:-1], b"", b"not gzip", zlib.compress(b"x")):
        with pytest.raises(RejectedError):
            await document(damaged)
    with pytest.raises(UnsupportedError):
        await document(b"x", "br")


async def test_a_blob_is_whole_or_dropped() -> None:
    into = Into()
    blob = await read_blob(Chunks([b"he", b"llo"]), into, ["sha1"])
    assert (blob.size, into.kept, into.dropped) == (5, [b"hello"], 0)
    assert "sha1" in blob.checksums
    with pytest.raises(ConnectionError):
        await read_blob(Chunks([b"he"], ConnectionError()), into, [])
    assert (into.kept, into.dropped) == ([b"hello"], 1)


async def form(pieces: Iterable[bytes], into: Into, error: Exception | None = None) -> object:
    decoder = decoder_for(Body(BodyKind.FORM), {"content-type": TYPE})
    return await read_form(Chunks(pieces, error), decoder, into, [])


async def test_a_form_gives_fields_and_blobs() -> None:
    into = Into()
    decoder = decoder_for(Body(BodyKind.FORM), {"content-type": TYPE})
    found = await read_form(
        Chunks(BODY[i : i + 3] for i in range(0, len(BODY), 3)), decoder, into, []
    )
    assert (found.first("name"), found.first("empty"), found.first("none", "-")) == (
        "démo",
        "",
        "-",
    )
    (file,) = found.files["content"]
    assert (file.filename, file.blob.size) == ("a.whl", len(into.kept[0]))
    assert file.headers["content-type"] == "application/octet-stream"


async def test_a_form_that_breaks_off_leaves_no_blob() -> None:
    inside = BODY.index(b"frontie ") + 3
    for error, expected in ((None, RejectedError), (ConnectionError(), ConnectionError)):
        into = Into()
        with pytest.raises(expected):
            await form([BODY[:inside]], into, error)
        assert (into.kept, into.dropped) == ([], 1)


def part(name: bytes, data: bytes, extra: bytes = b"") -> bytes:
    head = b'Content-Disposition: form-data; name="' + name + b'"' + extra
    return b"--frontier\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


END = b"--frontier--\r\n"


async def test_memory_for_forms_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and headers of thousands of parts count, too."""
    with pytest.raises(TooLargeError, match="a form field"):
        await form([part(b"a", b"x" * (FIELD_MAX + 1)), END], Into())
    monkeypatch.setattr(bodies, "PARTS_MAX", 20)
    with pytest.raises(TooLargeError, match="parts"):
        await form([*[part(b"a", b"") for _ in range(21)], END], Into())
    monkeypatch.setattr(bodies, "FIELDS_MAX", 50_000)
    with pytest.raises(TooLargeError, match="together"):
        await form([*[part(b"n" * 3000, b"") for _ in range(18)], END], Into())
    with pytest.raises(TooLargeError, match="together"):
        await form([*[part(b"a", b"x" * 9000) for _ in range(6)], END], Into())


async def test_a_field_must_be_text() -> None:
    with pytest.raises(RejectedError, match="not UTF-8"):
        await form([part(b"a", b"\xff"), END], Into())


class Loose:
    """A decoder that ends in the midst of a part."""

    def __init__(self, events: list[PartEvent]) -> None:
        self._events = events

    def feed(self, data: bytes) -> Iterable[PartEvent]:
        return self._events

    def finish(self) -> Iterable[PartEvent]:
        return ()


async def test_a_decoder_cannot_leave_a_part_open() -> None:
    into = Into()
    with pytest.raises(RejectedError, match="within part"):
        await read_form(
            Chunks([b"x"]), Loose([PartStart("a", blob=True), PartData(b"y")]), into, []
        )
    assert (into.kept, into.dropped) == ([], 1)
    with pytest.raises(RejectedError, match="before it begins"):
        await read_form(Chunks([b"x"]), Loose([PartEnd()]), Into(), [])


def test_a_route_without_a_decoder_is_a_bug() -> None:
    with pytest.raises(TypeError):
        decoder_for(Body(BodyKind.DECODED), {})
