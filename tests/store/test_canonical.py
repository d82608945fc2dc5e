"""Canonical MessagePack: one form per value, and nothing else gets in."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from store import canonical
from store.errors import RejectedError
from store.records import Body, read_batch, read_body, read_header
from store.root import read_document, read_signed

scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1)
scalars |= st.text(max_size=40) | st.binary(max_size=40)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=20)


def depth(value: object) -> int:
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(st.lists(values, max_size=5))
def test_what_is_encoded_is_read_back(value: list[object]) -> None:
    data = canonical.encode(value)
    if depth(value) <= canonical.DEPTH_MAX:
        assert canonical.parse(data) == value
    else:
        with pytest.raises(RejectedError):
            canonical.parse(data)


@pytest.mark.parametrize(
    "data",
    [
        "91cc01",  # an integer in two bytes that fits one
        "91d101ff",  # signed where unsigned is shorter
        "91d90161",  # a string with a longer header than needed
        "91c5000161",  # the same for binary
        "dc000101",  # the same for the array itself
        "9180",  # a map
        "91ca3f800000",  # a float
        "91cb7ff8000000000000",  # NaN
        "91d6ff00000000",  # a timestamp
        "91d40100",  # an extension
        "91a1ff",  # not UTF-8
        "01",  # no array
        "9101c0",  # bytes left over
        "92",  # cut short
        "",
        "91" * 9 + "01",  # too deep
        "91" * 100_000,  # far too deep
    ],
)
def test_other_forms_are_refused(data: str) -> None:
    with pytest.raises(RejectedError):
        canonical.parse(bytes.fromhex(data))


@pytest.mark.parametrize("read", [read_header, read_body, read_batch, read_signed, read_document])
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(read, data: bytes) -> None:
    try:
        read(data)
    except RejectedError:
        return


@given(value=values, position=st.integers(0, 400), byte=st.integers(0, 255))
def test_mutated_bodies_are_read_or_refused(value: object, position: int, byte: int) -> None:
    data = bytearray(canonical.encode(["me", [[1, "r", "p", "1", [], False], [2, value]]]))
    data[position % len(data)] = byte
    try:
        body = read_body(bytes(data))
    except RejectedError:
        return
    assert isinstance(body, Body)


def test_newer_versions_may_append_and_add_skippable_types() -> None:
    point = [2, "r", "p", "latest", b"1", [], "appended later"]
    body = canonical.encode(["me", [point, [0x81, "unknown"]], "appended too"])
    read = read_body(body)
    assert read.actor == "me"
    assert [fact.name for fact in read.facts] == ["latest"]
    with pytest.raises(canonical.UnknownTagError):
        read_body(canonical.encode(["me", [[0x7F, "unknown"]]]))


def test_older_versions_may_leave_out_what_came_later() -> None:
    (fact,) = read_body(canonical.encode(["me", [[2, "r", "p", "latest", None]]])).facts
    assert msgspec.structs.asdict(fact)["seen"] == ()
