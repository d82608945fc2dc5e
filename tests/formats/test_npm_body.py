"""The incremental publish decoder: it agrees with a whole-document parser, however it is fed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.contract import DOCUMENT_MAX, PartData, PartEnd, PartStart
from formats.npm.body import ATTACHMENT, DOCUMENT, PIECE, PackumentDecoder
from store.errors import ManifestInvalidError, RejectedError, TooLargeError


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at, turn = 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        yield data[at : at + size]
        at, turn = at + size, turn + 1


def decode(data: bytes, sizes: list[int] | None = None) -> tuple[bytes, dict[str, bytes]]:
    """The document, and the attachments by name."""
    decoder = PackumentDecoder({})
    document, found = bytearray(), dict[str, bytes]()
    current: PartStart | None = None
    content = bytearray()
    events = (e for piece in pieces(data, sizes or []) for e in decoder.feed(piece))
    for event in [*events, *decoder.finish()]:
        match event:
            case PartStart():
                assert current is None, "parts never nest"
                current, content = event, bytearray()
            case PartData():
                content += event.data
            case PartEnd():
                assert current is not None
                if current.name == DOCUMENT:
                    assert len(content) <= 1 << 20
                    content.decode()
                    document += content
                else:
                    assert (current.name, current.blob) == (ATTACHMENT, True)
                    assert current.filename is not None
                    found[current.filename] = bytes(content)
                current = None
    assert current is None
    return bytes(document), found


def publication(attachments: dict[str, bytes], **more: Any) -> dict[str, Any]:
    held = {
        name: {"content_type": "x", "data": base64.b64encode(data).decode(), "length": len(data)}
        for name, data in attachments.items()
    }
    return {**more, "_attachments": held, "after": [1]}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6) | st.just("data"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "_attachments", "a", '"', "\\", "é"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda n: not n.endswith(".sigstore")),
        st.binary(max_size=40),
        max_size=3,
    ),
    st.dictionaries(st.sampled_from(["a", "versions", "data", "x_attachments"]), JSON_VALUES),
    st.lists(st.integers(1, 30), max_size=4),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_any_document_split_anywhere(
    attachments: dict[str, bytes],
    more: dict[str, Any],
    sizes: list[int],
    ascii_only: bool,
    indent: int | None,
) -> None:
    sent = publication(attachments, **more)
    text = json.dumps(sent, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
    document, found = decode(text, sizes)
    assert found == attachments
    expected = json.loads(text)
    for each in expected["_attachments"].values():
        each["data"] = ""
    assert json.loads(document) == expected


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_documents_are_decoded_or_refused(data: st.DataObject) -> None:
    text = bytearray(json.dumps(publication({"a.tgz": b"some bytes"}, b={"c": '\\"'})).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    whole = bytes(text)
    outcomes = set()
    for sizes in ([], [1], data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))):
        decoder = PackumentDecoder({})
        try:
            events = [e for piece in pieces(whole, sizes) for e in decoder.feed(piece)]
            events += decoder.finish()
            kept = b"".join(e.data for e in events if isinstance(e, PartData))
            outcomes.add(kept if events else b"")
        except RejectedError as error:
            outcomes.add(type(error).__name__.encode())
    assert len(outcomes) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'"x"',
        b"{",
        b'{"a": "',
        b"{]",
        b"}",
        b"{}{}",
        b"[" * 300,
        b'{"_attachments":{"a":{"data":"AAAA',
        b'{"_attachments":{"a":{"data":"AAA"}}}',
        b'{"_attachments":{"a":{"data":"AA==AAAA"}}}',
        b'{"_attachments":{"a":{"data":"AA\\nA"}}}',
        b'{"_attachments":{"a":{"data":"AAAA","data":"AAAA"}}}',
        b'{"_attachments":{' + b",".join(b'"%d":{"data":""}' % n for n in range(9)) + b"}}",
        b'{"' + b"k" * 2000 + b'": 1}',
        b'{"\\ux": 1}',
        b'{"a":' + b"[" * 250 + b"]" * 250 + b"}",
    ],
)
def test_malformed_documents_are_refused(text: bytes) -> None:
    for sizes in ([], [1]):
        with pytest.raises(ManifestInvalidError):
            decode(text, sizes)


def test_escapes_are_understood() -> None:
    text = rb'{"_attach\u006dents":{"a\u002etgz":{"data":"\/\/\/\/"}},"x":"\\\""}'
    for sizes in ([], [1]):
        document, found = decode(text, sizes)
        assert found == {"a.tgz": b"\xff\xff\xff"}
        assert json.loads(document) == {"_attachments": {"a.tgz": {"data": ""}}, "x": '\\"'}


def test_only_the_right_place_is_an_attachment() -> None:
    sent = {
        "data": "x",
        "_attachments": {"a.sigstore": {"data": "{}"}, "b": {"other": "data", "data": ["AAAA"]}},
        "versions": {"_attachments": {"c": {"data": "!"}}},
        "list": [{"_attachments": {"d": {"data": "!"}}}],
    }
    document, found = decode(json.dumps(sent).encode(), [3])
    assert found == {}
    assert json.loads(document) == sent


def test_a_large_tarball_never_gathers() -> None:
    decoder = PackumentDecoder({})
    head = b'{"_attachments":{"a.tgz":{"data":"'
    count = sum(len(e.data) for e in decoder.feed(head) if isinstance(e, PartData))
    piece = base64.b64encode(bytes(3 << 16))
    for _ in range(40):
        for event in decoder.feed(piece):
            assert isinstance(event, PartData)
            count += len(event.data)
        assert len(decoder._document) < 100
    list(decoder.feed(b'"}}}'))
    list(decoder.finish())
    assert count == 40 * (3 << 16)


def test_documents_come_in_pieces_cut_between_characters() -> None:
    text = json.dumps({"readme": "€" * PIECE}, ensure_ascii=False).encode()
    for sizes in ([], [65536], [PIECE * 2]):
        document, _ = decode(text, sizes)
        assert document == text


def test_long_strings_anywhere_are_not_keys() -> None:
    long = "x" * 5000
    for sent in ({"a": {"b": long}}, {"a": {"b": {"c": long}}}, {"a": {long: [long, {long: 1}]}}):
        text = json.dumps(sent).encode()
        for sizes in ([], [100], [1]):
            assert decode(text, sizes) == (text, {})


def test_the_parts_of_a_document_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("formats.npm.body.TOKENS_MAX", 100)
    with pytest.raises(TooLargeError):
        decode(b'{"a":[' + b"[]," * 100 + b"[]]}")


def test_the_document_is_bounded() -> None:
    decoder = PackumentDecoder({})
    list(decoder.feed(b'{"a":"'))
    for _ in range(DOCUMENT_MAX // 65536 - 1):
        list(decoder.feed(b"x" * 65536))
    with pytest.raises(TooLargeError):
        list(decoder.feed(b"x" * 65536))
