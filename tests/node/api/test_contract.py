"""What every endpoint shares: paging arithmetic, numbers, bounded bodies."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from node.access.gate import Caller
from node.api.app import ENDPOINTS
from node.api.contract import Call, decode, pagination
from store.errors import RejectedError, RepositoryUnknownError


def call(**query: str) -> Call:
    return Call(cast("Any", None), Caller(), {"key": "k"}, query, {}, "http://node.test")


@pytest.mark.parametrize(
    ("total", "size", "pages"), [(0, 10, 1), (10, 10, 1), (11, 10, 2), (5, 1, 5)]
)
def test_pagination(total: int, size: int, pages: int) -> None:
    found = pagination(1, size, total)
    assert found == {"page": 1, "per_page": size, "total": total, "total_pages": pages}


def test_numbers_are_small_and_decimal() -> None:
    assert call().number("n", 7) == 7
    assert call(n="12").number("n", 7) == 12
    assert call(n="99999").number("n", 7, 50) == 50
    for text in ("", "-1", "1.5", "x", "²", "١", "9" * 5000):
        with pytest.raises(RejectedError):
            call(n=text).number("n", 7)


def test_no_repository_is_said_so() -> None:
    with pytest.raises(RepositoryUnknownError):
        _ = call().repository


class Model(msgspec.Struct):
    a: int = 0


@pytest.mark.parametrize("data", [b"{", b"\xff", b"1", b'{"a": "x"}', b"[" * 100_000])
def test_what_is_no_such_json_is_rejected(data: bytes) -> None:
    with pytest.raises(RejectedError):
        decode(data, Model)


def test_no_body_is_an_empty_object() -> None:
    assert decode(b"", Model) == Model()


def test_text_that_travels_is_bounded() -> None:
    """Every string of a body goes to every node of the mesh; none may be endless."""
    for endpoint in ENDPOINTS:
        if endpoint.body is None:
            continue
        _, components = msgspec.json.schema_components([endpoint.body])
        for name, model in components.items():
            for field, stated in model["properties"].items():
                for each in [stated, *stated.get("anyOf", ()), stated.get("items", {})]:
                    if each.get("type") == "string":
                        assert "maxLength" in each or field in ENDLESS, (name, field)


ENDLESS = {"checksum_sha256", "invitation"}  # parsed at once, and not stored as they are
