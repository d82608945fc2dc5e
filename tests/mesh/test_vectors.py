"""The page of vectors is what the code says, and the specification names every message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesh.handshake import hello_is_genuine, join_is_genuine
from mesh.messages import Data, Hello, Join
from mesh.wire import ALL, BULK_FRAME_MAX, Decoder, encode
from tests.mesh import vectors

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_code_makes() -> None:
    assert (DOCS / "mesh-vectors.md").read_text("utf-8") == vectors.pages()


@pytest.mark.parametrize("code", sorted(ALL))
def test_every_example_is_read_back(code: int) -> None:
    message = vectors.example(ALL[code])
    decoder = Decoder(BULK_FRAME_MAX)
    decoder.feed(encode(message))
    assert list(decoder) == [message]
    assert isinstance(message, Data) or encode(message)[4] == code


def test_the_specification_has_every_message_under_its_number() -> None:
    rows = re.findall(
        r"^\| ([0-9, ]+) \| ([A-Za-z, ]+) \|", (DOCS / "mesh.md").read_text("utf-8"), re.MULTILINE
    )
    told = {
        int(number): name.strip()
        for numbers, names in rows
        for number, name in zip(numbers.split(","), names.split(","), strict=True)
    }
    assert told == {code: kind.__name__ for code, kind in ALL.items()}


def test_the_signed_examples_are_genuine() -> None:
    found: list[object] = []
    for title, data in vectors.signed():
        if title.startswith(("Hello", "Join")):
            decoder = Decoder()
            decoder.feed(data)
            found += list(decoder)
    hello, join = found
    assert isinstance(hello, Hello)
    assert isinstance(join, Join)
    assert hello_is_genuine(hello, vectors.NONCE, vectors.TWO.key)
    assert join_is_genuine(join, vectors.SECRET, vectors.NONCE, vectors.TWO.key)
