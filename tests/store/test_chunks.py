from __future__ import annotations

import hashlib
from array import array

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.chunking import FAR_OFFSET, KIB
from store.chunks import (
    PAGE_CHUNKS,
    PAGE_SIZE_MAX,
    SHA256_SIZE,
    Chunk,
    Chunks,
    Manifest,
    Root,
    _check_cuts,
)
from store.digest import Digest
from store.errors import ManifestInvalidError

BLOB = Digest.of(b"the blob")


def manifest(count: int) -> Manifest:
    """Return a lawful manifest: chunks of 16 KiB and a little, the last of 5 bytes."""
    chunks = [Chunk(16 * KIB + n, hashlib.sha256(bytes([n % 256])).digest()) for n in range(count)]
    chunks.append(Chunk(5, hashlib.sha256(b"last").digest()))
    return Manifest(BLOB, sum(chunk.length for chunk in chunks), chunks)


MANY = manifest(2100)


def test_encoding_round_trips() -> None:
    again = Manifest.decode(MANY.encode())
    assert again == MANY
    assert again.id == MANY.id == MANY.root.id
    assert hash(again) == hash(MANY)
    assert repr(again) == f"Manifest({BLOB}, {MANY.size}, 2101 chunks)"


def test_the_id_is_frozen() -> None:
    """Peers compare it, and publish records carry it."""
    assert MANY.id.hex() == "f0cf9def8c235eb0a6b2a981e35211be29893b4ebbe627c25659e175527d6bfb"
    assert (
        Manifest.whole(Digest.of(b""), 0).id.hex()
        == "42c9acda6eb1c2efaa7909ecd54cc6c27b3e0cf3f2d2797732e97d8ab36f4e08"
    )


def test_pages_are_judged_one_by_one() -> None:
    root = Root.decode(MANY.root.encode())
    assert root.id == MANY.id
    assert (root.blob, root.size, root.count) == (BLOB, MANY.size, 2101)
    pages = [MANY.page(n) for n in range(MANY.page_count)]
    assert [len(root.page(n, page)) for n, page in enumerate(pages)] == [1024, 1024, 53]
    assert root.page(1, pages[1])[0] == MANY.chunks[PAGE_CHUNKS]
    assert root.assemble(pages) == MANY
    with pytest.raises(ManifestInvalidError, match="not the one"):
        root.page(0, pages[1])
    with pytest.raises(ManifestInvalidError, match="no page 3"):
        root.page(3, pages[0])
    with pytest.raises(ManifestInvalidError, match="missing pages"):
        root.assemble(pages[:2])
    with pytest.raises(ManifestInvalidError, match="no page 3"):
        MANY.page(3)


def test_a_full_page_fits_a_control_frame() -> None:
    assert len(MANY.page(0)) <= PAGE_SIZE_MAX


def test_it_is_compact() -> None:
    """A chunk costs 36 bytes at rest, whatever the number of objects made on the way."""
    assert len(MANY.encode()) < 37 * len(MANY.chunks) + 200
    assert isinstance(MANY.chunks.lengths, array)
    assert isinstance(MANY.chunks.hashes, bytes)


def test_chunks_are_a_sequence() -> None:
    chunks = MANY.chunks
    assert list(chunks)[7] == chunks[7] == Chunk(16 * KIB + 7, hashlib.sha256(b"\7").digest())
    assert chunks[-1].length == 5
    assert chunks[3:5] == Chunks.pack([chunks[3], chunks[4]])
    assert chunks.sha256(9) == chunks[9].sha256
    assert hash(chunks) == hash(Chunks.pack(chunks))
    assert chunks != list(chunks)
    assert MANY != 5
    with pytest.raises(IndexError):
        _ = chunks[2101]


def test_offsets_and_ranges() -> None:
    few = manifest(3)
    starts = [few.offset(n) for n in range(5)]
    assert starts == [0, 16384, 32769, 49155, few.size]
    assert few.locate(0, 1) == range(1)
    assert few.locate(16383, 16385) == range(2)
    assert few.locate(16384, 32769) == range(1, 2)
    assert few.locate(0, few.size * 9) == range(4)
    assert few.locate(-5, few.size) == range(4)
    assert few.locate(7, 7) == range(0)
    assert few.locate(few.size, few.size + 1) == range(0)


@given(st.integers(0, MANY.size - 1), st.integers(1, 3 << 20))
def test_located_chunks_cover_the_range_and_no_more(start: int, size: int) -> None:
    stop = min(start + size, MANY.size)
    found = MANY.locate(start, stop)
    assert MANY.offset(found[0]) <= start < MANY.offset(found[0] + 1)
    assert MANY.offset(found[-1]) < stop <= MANY.offset(found[-1] + 1)


def test_a_small_blob_needs_no_manifest() -> None:
    one = Manifest.whole(BLOB, 1000)
    assert list(one.chunks) == [Chunk(1000, BLOB.raw)]
    assert list(Manifest.whole(BLOB, 0).chunks) == []
    assert Manifest.decode(one.encode()) == one
    with pytest.raises(ManifestInvalidError):
        Manifest.whole(BLOB, 256 * KIB + 1)


def encoded(*lengths: int, size: int | None = None) -> bytes:
    chunks = [Chunk(length, bytes(SHA256_SIZE)) for length in lengths]
    return Manifest(BLOB, sum(lengths) if size is None else size, chunks).encode()


@pytest.mark.parametrize(
    "data",
    [
        encoded(100, 200),  # two chunks in a small blob
        encoded(300 * KIB, 10),  # longer than a chunk may be here
        encoded(16 * KIB - 1, 300 * KIB),  # shorter than any but the last may be
        encoded(256 * KIB, 0),  # empty
        encoded(256 * KIB, 100, size=256 * KIB + 101),
        encoded(size=5),
        encoded(5, size=0),
        encoded(5, size=-1),
    ],
)
def test_impossible_cuts_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        Manifest.decode(data)


def test_larger_chunks_are_for_the_far_part_only() -> None:
    near = [256 * KIB] * (FAR_OFFSET // (256 * KIB))
    _check_cuts(array("I", [*near, 1024 * KIB, 1]), FAR_OFFSET + 1024 * KIB + 1)
    with pytest.raises(ManifestInvalidError):
        _check_cuts(array("I", [*near, 32 * KIB, 1]), FAR_OFFSET + 32 * KIB + 1)


def root(
    version: int = 1, blob: bytes = BLOB.raw, size: int = 9, count: int = 1, **other: list
) -> bytes:
    return msgspec.msgpack.encode([version, blob, size, count, other.get("pages", [bytes(32)])])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        root()[:-1],
        root() + b"\0",
        root(version=2),
        root(blob=b"short"),
        root(size=-1),
        root(size=0),
        root(size=1 << 63, count=1 << 62),
        root(count=0),
        root(count=1025),
        root(count=10),
        root(pages=[b"short"]),
        root().replace(b"\x01\xc4", b"\xd0\x01\xc4", 1),  # an integer longer than it need be
        msgspec.msgpack.encode([1, BLOB.raw, 9, 1, [bytes(32)], "more"]),
        msgspec.msgpack.encode({"version": 1}),
        msgspec.msgpack.encode([1, "\udc80".encode("utf-8", "surrogatepass"), 9, 1, []]),
    ],
)
def test_hostile_roots_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        Root.decode(data)
    with pytest.raises(ManifestInvalidError):
        Manifest.decode(msgspec.msgpack.encode([data, []]))


def test_a_page_of_the_wrong_length_is_refused_though_the_root_names_it() -> None:
    page = msgspec.msgpack.encode([bytes(8), bytes(64)])
    lying = Root(BLOB, 1000, 1, (hashlib.sha256(page).digest(),))
    with pytest.raises(ManifestInvalidError, match="does not list 1 chunks"):
        lying.page(0, page)


@settings(max_examples=200)
@given(st.data())
def test_mutations_are_refused_or_harmless(data: st.DataObject) -> None:
    """Whatever changes, decoding gives ManifestInvalidError or a manifest with another id."""
    good = manifest(20).encode()
    position = data.draw(st.integers(0, len(good) - 1))
    piece = data.draw(st.binary(max_size=8))
    bad = good[:position] + piece + good[position + data.draw(st.integers(0, 8)) :]
    try:
        found = Manifest.decode(bad)
    except ManifestInvalidError:
        return
    assert bad == found.encode()
    assert (found.id == manifest(20).id) == (bad == good)
