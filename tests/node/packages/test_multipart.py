"""multipart/form-data, cut anywhere, broken anyhow."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.contract import PartData, PartEnd, PartEvent, PartStart
from node.packages.multipart import HEADERS_MAX, MultipartDecoder
from store.errors import RegistryError, RejectedError, UnsupportedError

TYPE = "multipart/form-data; boundary=frontier"
BODY = (
    b'--frontier\r\nContent-Disposition: form-data; name="name"\r\n\r\nd\xc3\xa9mo\r\n'
    b'--frontier\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n'
    b'--frontier\r\nContent-Disposition: form-data; name="content"; filename="a.whl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
    b"\r\n--frontie \r\n-- \x00\xff\r\n--frontier--\r\n"
)


def decode(pieces: Iterable[bytes]) -> list[PartEvent]:
    """All events, data of one part joined."""
    decoder = MultipartDecoder(TYPE)
    events: list[PartEvent] = []
    for piece in pieces:
        events += decoder.feed(piece)
    events += decoder.finish()
    joined: list[PartEvent] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, PartData) and isinstance(last, PartData):
            joined[-1] = PartData(last.data + event.data)
        elif event != PartData(b""):
            joined.append(event)
    return joined


def test_parts_come_with_names_files_and_bytes() -> None:
    found = decode([BODY])
    starts = [each for each in found if isinstance(each, PartStart)]
    assert [(s.name, s.filename) for s in starts] == [
        ("name", None),
        ("empty", None),
        ("content", "a.whl"),
    ]
    assert [each.data for each in found if isinstance(each, PartData)] == [
        "démo".encode(),
        b"\r\n--frontie \r\n-- \x00\xff",
    ]
    assert sum(isinstance(each, PartEnd) for each in found) == 3


def test_it_may_be_cut_at_any_byte() -> None:
    whole = decode([BODY])
    assert decode(BODY[at : at + 1] for at in range(len(BODY))) == whole
    for at in range(len(BODY)):
        assert decode([BODY[:at], BODY[at:]]) == whole


def test_every_truncation_is_refused() -> None:
    for at in range(len(BODY) - 2):  # the last line break is not needed
        with pytest.raises(RejectedError):
            decode([BODY[:at]])


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "multipart/form-data",
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 201,
    ],
)
def test_other_content_types_are_unsupported(kind: str) -> None:
    with pytest.raises(UnsupportedError):
        MultipartDecoder(kind)


@pytest.mark.parametrize(
    "head",
    [
        b"X: y",
        b"Content-Disposition: attachment; name=x",
        b"Content-Disposition: form-data",
        b"Content-Disposition: form-data; name=x\r\nX: " + b"y" * HEADERS_MAX,
        b"no header at all",
        b": y",
    ],
)
def test_parts_with_broken_heads_are_refused(head: bytes) -> None:
    with pytest.raises(RejectedError):
        decode([b"--frontier\r\n" + head + b"\r\n\r\nx\r\n--frontier--\r\n"])


@settings(max_examples=150)
@given(st.data())
def test_any_bytes_give_parts_or_a_refusal(data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.sampled_from(re.findall(rb"\r\n|--|\w+|.", BODY, re.DOTALL))))
    raw = b"".join(pieces) + data.draw(st.binary(max_size=30))
    try:
        decode([raw])
    except RegistryError:
        return


def test_an_epilogue_is_ignored_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """A line in the log for each of its bytes would be a way to fill a disk."""
    assert decode([BODY, b"epilogue" * 1000]) == decode([BODY])
    assert len(caplog.records) < 10
