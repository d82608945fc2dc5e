"""Multipart bodies: names in any script, and what is refused."""

from __future__ import annotations

import pytest

from formats.contract import PartData, PartEnd, PartStart
from node.packages.multipart import MultipartDecoder
from store.errors import RejectedError, UnsupportedError

KIND = "multipart/form-data; boundary=XX"


def part(head: str, content: bytes = b"1") -> bytes:
    return b"--XX\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    "name", ["demo.whl", "\N{LATIN SMALL LETTER U WITH DIAERESIS}.whl", "\u0130", "\U0001f600"]
)
@pytest.mark.parametrize("step", [1, 1000])
def test_names_are_utf_8(name: str, step: int) -> None:
    head = f'Content-Disposition: form-data; name="content"; filename="{name}"\r\nX-Other: \u0130'
    body = part(head, b"data") + b"--XX--\r\n"
    decoder, events = MultipartDecoder(KIND), []
    for at in range(0, len(body), step):
        events += list(decoder.feed(body[at : at + step]))
    assert not list(decoder.finish())
    start = events[0]
    assert isinstance(start, PartStart)
    assert (start.name, start.filename, start.headers["x-other"]) == ("content", name, "\u0130")
    assert b"".join(each.data for each in events if isinstance(each, PartData)) == b"data"
    assert isinstance(events[-1], PartEnd)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--XX\r\n\r\n\r\n--XX--\r\n",
        part("Content-Disposition: form-data"),
        part("Content-Disposition: attachment; name=a"),
        part("Content-Disposition: form-data; name*=utf-8''a"),
        part('Content-Disposition: form-data; name="a"'),
        part("X: " + "y" * 20_000),
        part("A: b\r\n" * 20_000),
        b"--YY\r\n",
    ],
)
def test_malformed_bodies_are_refused(body: bytes) -> None:
    decoder = MultipartDecoder(KIND)
    with pytest.raises(RejectedError):
        _ = [*decoder.feed(body), *decoder.finish()]


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=XX",
        "multipart/form-data; boundary=" + "x" * 300,
        "multipart/form-data; boundary*=bogus''XX",
    ],
)
def test_other_content_types_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedError):
        MultipartDecoder(kind)
