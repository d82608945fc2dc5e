"""How formats answer for several repositories: what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from formats import discover
from formats.contract import Response
from formats.virtual import Document, lister
from store.errors import NotFoundError


class Members:
    """Members whose merged answers are kept, and counted."""

    def __init__(self) -> None:
        self.built = 0
        self.kept: dict[str, Response] = {}

    async def merged(
        self, key: str, documents: Sequence[Document], build: Callable[[], Response]
    ) -> Response:
        if key not in self.kept:
            self.built += 1
            self.kept[key] = build()
        return self.kept[key]


def document(member: int, data: bytes) -> Document:
    return Document(member, f"m{member}", data, "text/plain", {}, lambda name: True)


async def test_the_first_that_lists_a_name_gives_it() -> None:
    members = Members()
    documents = [document(0, b"a b"), document(3, b"b c")]

    def listed(each: Document) -> list[str]:
        return each.data.decode().split()

    for name, member in (("a", 0), ("b", 0), ("c", 3)):
        assert await lister(members, documents, listed, [name]) == member  # type: ignore[arg-type]  # a fake of it
    assert await lister(members, documents, listed, ["x", "c"]) == 3  # type: ignore[arg-type]  # a fake of it
    with pytest.raises(NotFoundError):
        await lister(members, documents, listed, ["x"])  # type: ignore[arg-type]  # a fake of it
    assert members.built == 1


def test_normal_forms_are_stable() -> None:
    for each in discover():
        if each.virtual is not None:
            for name in ("a", "My_Thing", "@scope/x", "g:a", "lib*", "[ab]?"):
                once = each.virtual.normalize(name)
                assert each.virtual.normalize(once) == once
