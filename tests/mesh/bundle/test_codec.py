"""The format: any split gives the same parts, any bytes give parts or the one error."""

from __future__ import annotations

import contextlib
import io
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.bundle.codec import BEGINNING, START, Position, Reader, Writer, advance, encode
from mesh.bundle.parts import (
    MAGIC,
    Blob,
    Chunks,
    Closing,
    Fork,
    Index,
    Omitted,
    Opening,
    Page,
    Part,
    Place,
    Point,
    Reach,
    Records,
    Root,
    Since,
    sign_end,
    sign_head,
)
from mesh.bundle.tail import summary
from store.errors import RejectedError
from tests.store.ledgers import identity

ids = st.binary(min_size=32, max_size=32)
counts = st.integers(0, (1 << 62) - 1)
points = st.lists(st.builds(Point, ids, counts, counts, ids), max_size=4).map(tuple)
places = st.lists(st.builds(Place, ids, counts, counts), max_size=4).map(tuple)
parts = st.one_of(
    st.builds(Since, points),
    st.builds(Root, st.binary(max_size=300)),
    st.builds(Records, st.binary(max_size=300)),
    st.builds(Fork, st.binary(max_size=300)),
    st.builds(Blob, ids, counts, st.binary(max_size=100)),
    st.builds(Page, st.binary(max_size=300)),
    st.builds(Chunks, st.integers(0, 1 << 22), st.integers(1, 1024), st.binary(max_size=3000)),
    st.builds(Omitted, st.integers(1, 255), st.lists(ids, max_size=4).map(tuple)),
    st.builds(Index, counts, places),
    st.builds(Reach, points),
)
SIGNER = identity(1)
OPENING = Opening(
    b"m" * 32, bytes.fromhex(SIGNER.node), 1_700_000_000_000, b"n" * 16, b"", b"", ("*",), True
)


def bundle(middle: list[Part | Chunks]) -> bytes:
    writer = Writer()
    head = sign_head(OPENING, SIGNER)
    data = writer.begin() + writer.write(head)
    reach = 0
    for part in middle:
        reach = reach or (writer.offset if isinstance(part, Reach) else 0)
        data += writer.write(part)
    closing = Closing(head.id, 1, 2, 3, 4, 0, reach, writer.digest)
    return data + writer.finish(sign_end(closing, SIGNER))


@given(st.lists(parts, max_size=6), st.lists(st.integers(1, 200), max_size=40))
def test_any_split_gives_the_same_parts(middle: list[Any], cuts: list[int]) -> None:
    rest = bundle(middle)
    reader, found = Reader(), []
    for cut in [*cuts, len(rest)]:
        reader.feed(rest[:cut])
        rest = rest[cut:]
        found += list(reader)
    assert found[1:-1] == middle
    assert reader.ended


@given(st.lists(parts, min_size=1, max_size=5), st.data())
def test_mutated_bytes_give_parts_or_the_one_error(middle: list[Any], data: Any) -> None:
    damaged = bytearray(bundle(middle))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    reader = Reader()
    with contextlib.suppress(RejectedError):
        reader.feed(damaged)
        list(reader)
        summary(io.BytesIO(damaged))


@given(st.binary(max_size=400))
def test_any_bytes_after_the_magic_do_no_harm(junk: bytes) -> None:
    reader = Reader()
    reader.feed(MAGIC + junk)
    with contextlib.suppress(RejectedError):
        list(reader)


@given(st.lists(parts, min_size=2, max_size=6), st.data())
def test_reading_goes_on_from_any_position(middle: list[Any], data: Any) -> None:
    whole = bundle(middle)
    reader = Reader()
    reader.feed(whole)
    stops = [reader.position for _ in reader]
    assert reader.position.offset == len(whole) - 16
    stop = data.draw(st.sampled_from(stops[:-1]))
    later = Reader(stop)
    later.feed(whole[stop.offset :])
    assert list(later) == [*middle, _last(whole)][stops.index(stop) :]
    assert later.before.digest == reader.before.digest


def _last(whole: bytes) -> Any:
    reader = Reader()
    reader.feed(whole)
    return list(reader)[-1]


def test_what_may_be_skipped_is_but_counts_in_the_digest() -> None:
    writer = Writer()
    data = writer.begin() + writer.write(sign_head(OPENING, SIGNER))
    unknown = b"\x00\x00\x00\x05\xc8junk"
    reader = Reader()
    reader.feed(data + unknown + encode(Root(b"r")))
    assert list(reader)[1:] == [Root(b"r")]
    assert reader.position.digest == advance(advance(writer.digest, unknown), encode(Root(b"r")))
    assert Reader(BEGINNING).position == Position(0, START)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PK\x03\x04\x00\x00\x00\x00\x00", "not a bundle"),
        (MAGIC[:-1] + b"\x02" + bytes(9), "newer version"),
        (MAGIC + b"\xff\xff\xff\xff\x01", "a part of 4294967295 bytes"),
        (MAGIC + encode(Root(b"r")), "head is not the first"),
        (MAGIC + b"\x00\x00\x00\x02\x63\x90", "unknown type 99"),
        (MAGIC + b"\x00\x00\x00\x02\x08\x00", "truncated part"),
    ],
)
def test_what_is_no_bundle_is_refused_with_the_reason(data: bytes, why: str) -> None:
    reader = Reader()
    reader.feed(data)
    with pytest.raises(RejectedError, match=why):
        list(reader)


def test_the_summary_is_read_from_both_ends() -> None:
    point = Point(b"a" * 32, 7, 9, b"r" * 32)
    found = summary(io.BytesIO(bundle([Root(b"x" * 100), Reach((point,)), Reach((point,))])))
    assert found.reach == {((b"a" * 32).hex(), 7): 9}
    assert found.closing.records == 1
    assert found.opening == OPENING
    for cut in (0, 5, 40, 200, 10**6):
        with pytest.raises(RejectedError):
            summary(io.BytesIO(bundle([Root(b"x" * 100)])[: -1 - cut]))


def test_the_golden_bundle() -> None:
    """docs/bundles.md §5 gives these bytes' digest."""
    vector = bundle([Root(b"root"), Blob(b"d" * 32, 5, b""), Chunks(0, 1, b"hello")])
    assert sha256(vector).hexdigest() == (
        "57d54db69fb118d3bf4e36db142b15b9c48f33c54715b0b49f69d8ba36dfdf03"
    )
