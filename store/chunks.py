"""Chunks: content-defined views into blobs, and the manifests that list them.

A manifest travels as a *root* and *pages*.  The root names the blob and the SHA-256 of each page;
its own SHA-256 is the manifest id, so a page can be judged alone, from whoever it came.  Whoever
holds the blob can make the manifest again: the cuts are fixed by CDC_VERSION.

Encodings are MessagePack arrays (design.md ruling 5) and have one form only:
  root  [CDC_VERSION, blob (32 bytes), size, number of chunks, [page SHA-256, …]]
  page  [lengths (u32 big-endian, concatenated), chunk SHA-256s (concatenated)], 1024 chunks each
  whole [root, [page, …]]

Spec: mesh.md B.1; design.md section 4.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, overload

import msgspec

from store.chunking import CDC_VERSION, WHOLE_MAX, sizes_at
from store.digest import Digest
from store.errors import DigestInvalidError, ManifestInvalidError

PAGE_CHUNKS = 1024
PAGE_SIZE_MAX = 40 << 10  # bytes of an encoded page: fits a control frame (ruling 6)
PAGES_MAX = 30_000  # a root still fits a bulk frame; at least 1.8 TiB of blob
SHA256_SIZE = 32
LENGTH_SIZE = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Chunk:
    """``length`` bytes of a blob and their SHA-256."""

    length: int
    sha256: bytes


class Chunks(Sequence[Chunk]):
    """The chunks of one blob, packed: 36 bytes each, made into objects only when looked at."""

    __slots__ = ("hashes", "lengths")

    def __init__(self, lengths: array[int], hashes: bytes) -> None:
        self.lengths = lengths
        self.hashes = hashes

    @classmethod
    def pack(cls, chunks: Iterable[Chunk]) -> Chunks:
        """Pack loose chunks."""
        lengths, hashes = array("I"), bytearray()
        for chunk in chunks:
            lengths.append(chunk.length)
            hashes += chunk.sha256
        return cls(lengths, bytes(hashes))

    def sha256(self, index: int) -> bytes:
        """Return the digest of one chunk, without making an object of it."""
        return self.hashes[index * SHA256_SIZE : (index + 1) * SHA256_SIZE]

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Chunk: ...
    @overload
    def __getitem__(self, index: slice) -> Chunks: ...
    def __getitem__(self, index: int | slice) -> Chunk | Chunks:
        if isinstance(index, slice):
            return Chunks.pack(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]
        return Chunk(self.lengths[index], self.sha256(index))

    def __iter__(self) -> Iterator[Chunk]:
        for index, length in enumerate(self.lengths):
            yield Chunk(length, self.sha256(index))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Chunks):
            return NotImplemented
        return self.lengths == other.lengths and self.hashes == other.hashes

    def __hash__(self) -> int:
        return hash(self.hashes)


@dataclass(frozen=True, slots=True)
class Root:
    """The head of a manifest: what a receiver asks for first.  ``pages`` are their SHA-256s."""

    blob: Digest
    size: int
    count: int
    pages: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the bytes whose SHA-256 is the manifest id."""
        return _encode([CDC_VERSION, self.blob.raw, self.size, self.count, self.pages])

    @property
    def id(self) -> bytes:
        """The manifest id."""
        return hashlib.sha256(self.encode()).digest()

    @classmethod
    def decode(cls, data: bytes) -> Root:
        """Read a root from a stranger.  Raises ManifestInvalidError."""
        version, blob, size, count, pages = _decode(data, _ROOT)
        if version != CDC_VERSION:
            raise ManifestInvalidError(f"unknown chunk manifest version {version}")
        if len(pages) != -(-count // PAGE_CHUNKS) or len(pages) > PAGES_MAX or count > size:
            raise ManifestInvalidError("chunk manifest with a wrong number of pages")
        if size < 0 or (size > 0) != (count > 0):
            raise ManifestInvalidError("chunk manifest with an impossible size")
        if any(len(page) != SHA256_SIZE for page in pages):
            raise ManifestInvalidError("chunk manifest with a malformed page digest")
        try:
            return cls(Digest.sha256(blob), size, count, tuple(pages))
        except DigestInvalidError as error:
            raise ManifestInvalidError("chunk manifest without a blob digest") from error

    def page(self, number: int, data: bytes) -> Chunks:
        """Judge page ``number`` alone.  Raises ManifestInvalidError if it is not the one named."""
        if not 0 <= number < len(self.pages):
            raise ManifestInvalidError(f"chunk manifest has no page {number}")
        if hashlib.sha256(data).digest() != self.pages[number]:
            raise ManifestInvalidError(f"page {number} is not the one the root names")
        packed, hashes = _decode(data, _PAGE)
        expected = min(PAGE_CHUNKS, self.count - number * PAGE_CHUNKS)
        if len(packed) != expected * LENGTH_SIZE or len(hashes) != expected * SHA256_SIZE:
            raise ManifestInvalidError(f"page {number} does not list {expected} chunks")
        return Chunks(_big_endian(array("I", packed)), hashes)

    def assemble(self, pages: Iterable[bytes]) -> Manifest:
        """Put the encoded pages together.  Raises ManifestInvalidError if they are not a blob."""
        lengths, hashes, number = array("I"), bytearray(), -1
        for number, data in enumerate(pages):
            page = self.page(number, data)
            lengths += page.lengths
            hashes += page.hashes
        if number + 1 != len(self.pages):
            raise ManifestInvalidError("chunk manifest with missing pages")
        _check_cuts(lengths, self.size)
        return Manifest(self.blob, self.size, Chunks(lengths, bytes(hashes)))


class Manifest:
    """The chunk manifest of one blob.  Immutable; 44 bytes a chunk once offsets were asked for."""

    def __init__(self, blob: Digest, size: int, chunks: Iterable[Chunk]) -> None:
        self.blob = blob
        self.size = size
        self.chunks = chunks if isinstance(chunks, Chunks) else Chunks.pack(chunks)

    @classmethod
    def whole(cls, blob: Digest, size: int) -> Manifest:
        """Return the manifest of a blob of at most WHOLE_MAX bytes, which needs no asking."""
        if not 0 <= size <= WHOLE_MAX:
            raise ManifestInvalidError(f"a blob of {size} bytes is more than one chunk")
        return cls(blob, size, [Chunk(size, blob.raw)] if size else [])

    @cached_property
    def root(self) -> Root:
        """The head: blob, size and page digests."""
        digests = (hashlib.sha256(self.page(n)).digest() for n in range(self.page_count))
        return Root(self.blob, self.size, len(self.chunks), tuple(digests))

    @cached_property
    def id(self) -> bytes:
        """The SHA-256 of the encoded root."""
        return self.root.id

    @property
    def page_count(self) -> int:
        """The number of pages."""
        return -(-len(self.chunks) // PAGE_CHUNKS)

    def page(self, number: int) -> bytes:
        """Return page ``number``, encoded."""
        first = number * PAGE_CHUNKS
        if not 0 <= first < len(self.chunks):
            raise ManifestInvalidError(f"chunk manifest has no page {number}")
        lengths = _big_endian(self.chunks.lengths[first : first + PAGE_CHUNKS]).tobytes()
        end = (first + PAGE_CHUNKS) * SHA256_SIZE
        return _encode([lengths, self.chunks.hashes[first * SHA256_SIZE : end]])

    def encode(self) -> bytes:
        """Return root and pages in one piece, for storage."""
        return _encode([self.root.encode(), [self.page(n) for n in range(self.page_count)]])

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read what encode() made.  Raises ManifestInvalidError, whatever the bytes."""
        root, pages = _decode(data, _WHOLE)
        return Root.decode(root).assemble(pages)

    def offset(self, index: int) -> int:
        """Return where chunk ``index`` begins; the number of chunks gives the blob's size."""
        return self._offsets[index]

    def locate(self, start: int, stop: int) -> range:
        """Return the indexes of the chunks that bytes ``[start, stop)`` lie in."""
        start, stop = max(0, start), min(stop, self.size)
        if start >= stop:
            return range(0)
        return range(bisect_right(self._offsets, start) - 1, bisect_right(self._offsets, stop - 1))

    @cached_property
    def _offsets(self) -> array[int]:
        return array("Q", itertools.accumulate(self.chunks.lengths, initial=0))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        mine, theirs = (self.blob, self.size), (other.blob, other.size)
        return mine == theirs and self.chunks == other.chunks

    def __hash__(self) -> int:
        return hash(self.blob)

    def __repr__(self) -> str:
        return f"Manifest({self.blob}, {self.size}, {len(self.chunks)} chunks)"


_ROOT = msgspec.msgpack.Decoder(tuple[int, bytes, int, int, list[bytes]])
_PAGE = msgspec.msgpack.Decoder(tuple[bytes, bytes])
_WHOLE = msgspec.msgpack.Decoder(tuple[bytes, list[bytes]])
_encode = msgspec.msgpack.Encoder().encode


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    """Decode hostile bytes that must have the one canonical form."""
    try:
        value = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalidError("undecodable chunk manifest") from error
    if _encode(value) != data:
        raise ManifestInvalidError("chunk manifest not in canonical form")
    return value


def _big_endian(lengths: array[int]) -> array[int]:
    """Swap between the machine's order and the wire's, in either direction."""
    if sys.byteorder == "little":
        lengths = lengths[:]
        lengths.byteswap()
    return lengths


def _check_cuts(lengths: array[int], size: int) -> None:
    """Refuse lengths that no cutter makes: they would only inflate the index."""
    offset, last = 0, len(lengths) - 1
    for index, length in enumerate(lengths):
        sizes = sizes_at(offset)
        if not (sizes.min if index < last else 1) <= length <= sizes.max:
            raise ManifestInvalidError(f"chunk {index} has an impossible length")
        offset += length
    if offset != size or (size <= WHOLE_MAX and last > 0):
        raise ManifestInvalidError("the chunks do not add up to the blob")
