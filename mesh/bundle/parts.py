"""What a bundle consists of.  This table is the format: extend it here, nowhere else.

Spec: docs/bundles.md §2.  Every part is a MessagePack array of its fields in order, in the
canonical subset of the ledger; fields are only ever appended.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from mesh.messages import ChunkIndex, Count, Id, MaybeId, Signature
from store import canonical, identity
from store.errors import RejectedError

MAGIC = b"\x89ATLB\r\n\x01"  # the last byte is the version
PART_MAX = (1 << 20) + (64 << 10)  # bytes after the length field
RAW_MAX = 1 << 20  # bytes of one Chunks
REACH_MAX = 512  # chains in one Since or Reach
LIST_MAX = 1024  # digests in one Omitted, entries in one Index
PAGE_MAX = 40 << 10
HEAD_CONTEXT, END_CONTEXT = "atoll/bundle/head/1", "atoll/bundle/end/1"
HELD, ABSENT, UNASKED = 1, 2, 3  # Omitted.reason: the target has it; the exporter has not; no blobs

Incarnation = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Bytes = Annotated[bytes, Meta(max_length=PART_MAX)]


class Part(msgspec.Struct, array_like=True, frozen=True):
    """Anything in a bundle."""


class Opening(Part, frozen=True):
    """Who made the bundle, of what and for whom; ``Head`` carries it signed."""

    mesh: Id
    exporter: Id
    created_ms: Count
    nonce: Annotated[bytes, Meta(min_length=16, max_length=16)]
    previous: MaybeId  # the bundle that this one continues
    target: MaybeId  # the member that it is for
    repositories: Annotated[
        tuple[Annotated[str, Meta(max_length=255)], ...], Meta(max_length=1024)
    ]  # globs; empty: all
    blobs: bool


class Head(Part, frozen=True):
    """The first part.  The SHA-256 of ``opening`` is the bundle's id."""

    opening: Annotated[bytes, Meta(max_length=512 << 10)]
    key: Id
    signature: Signature

    @property
    def id(self) -> bytes:
        """The bundle's id."""
        return hashlib.sha256(self.opening).digest()


class Point(Part, frozen=True):
    """A place in one author's chain; ``record`` is empty where only the seq matters."""

    author: Id
    incarnation: Incarnation
    seq: Count
    record: MaybeId = b""


class Since(Part, frozen=True):
    """After what the records of these chains begin; other chains begin at their first record."""

    chains: Annotated[tuple[Point, ...], Meta(max_length=REACH_MAX)]


class Root(Part, frozen=True):
    """A signed root document."""

    document: Bytes


class Records(Part, frozen=True):
    """A batch of one author's records, encoded as on the wire."""

    batch: Annotated[bytes, Meta(max_length=64 << 10)]


class Fork(Part, frozen=True):
    """A proof that a chain forks."""

    proof: Annotated[bytes, Meta(max_length=120 << 10)]


class Blob(Part, frozen=True):
    """Begins a blob.  ``manifest`` is the encoded root of its chunk manifest, "" for one chunk."""

    digest: Id
    size: Count
    manifest: Bytes


class Page(Part, frozen=True):
    """A page of the manifest of the blob that was begun last; in order, before any Chunks."""

    data: Annotated[bytes, Meta(max_length=PAGE_MAX)]


class Run(Part, frozen=True):
    """Which chunks of the blob a Chunks part brings."""

    first: ChunkIndex
    count: Annotated[int, Meta(ge=1, le=1024)]


class Chunks(msgspec.Struct, frozen=True):
    """Adjacent chunks: a Run and their bytes."""

    first: int
    count: int
    raw: bytes


class Omitted(Part, frozen=True):
    """Blobs that the records name and that were left out, and why."""

    reason: Annotated[int, Meta(ge=1, le=255)]
    digests: Annotated[tuple[Id, ...], Meta(max_length=LIST_MAX)]


class Place(Part, frozen=True):
    """Where the Blob part of a blob begins in the file."""

    digest: Id
    size: Count
    offset: Count


class Index(Part, frozen=True):
    """Where blobs are.  ``previous`` is the offset of the Index before it, 0 for none."""

    previous: Count
    places: Annotated[tuple[Place, ...], Meta(max_length=LIST_MAX)]


class Reach(Part, frozen=True):
    """How far chains reach for who has taken this bundle and everything before it."""

    chains: Annotated[tuple[Point, ...], Meta(max_length=REACH_MAX)]


class Closing(Part, frozen=True):
    """Counts, places and the running digest; ``End`` carries it signed."""

    bundle: Id
    records: Count
    blobs: Count
    size: Count  # bytes of chunks
    omitted: Count
    index: Count  # offset of the last Index, 0 for none
    reach: Count  # offset of the first Reach, 0 for none
    digest: Id  # over everything before


class End(Part, frozen=True):
    """The last part."""

    closing: Annotated[bytes, Meta(max_length=4096)]
    signature: Signature


TYPES: dict[int, type[Part]] = {
    1: Head,
    2: Since,
    3: Root,
    4: Records,
    5: Fork,
    6: Blob,
    7: Page,
    8: Run,
    9: Omitted,
    10: Index,
    11: Reach,
    12: End,
}
CODES = {kind: code for code, kind in TYPES.items()}
RUN = CODES[Run]
_opening = msgspec.msgpack.Decoder(Opening)
_closing = msgspec.msgpack.Decoder(Closing)


def sign_head(opening: Opening, signer: identity.Identity) -> Head:
    """Sign the beginning of a bundle."""
    data = canonical.encode(opening)
    return Head(data, signer.key, signer.sign(canonical.encode([HEAD_CONTEXT, data])))


def read_head(head: Head) -> Opening:
    """Open a head whose signature is right; whose key it is remains to be judged.

    Raises RejectedError.
    """
    message = canonical.encode([HEAD_CONTEXT, head.opening])
    if not identity.verify(head.key, message, head.signature):
        raise RejectedError("forged: the signature of the bundle's head is wrong")
    return canonical.decode(head.opening, _opening)


def sign_end(closing: Closing, signer: identity.Identity) -> End:
    """Sign the whole of a bundle."""
    data = canonical.encode(closing)
    return End(data, signer.sign(canonical.encode([END_CONTEXT, data])))


def read_end(end: End, head: Head, digest: bytes | None = None) -> Closing:
    """Open the end of a bundle; with ``digest``, of what has been read.  Raises RejectedError."""
    message = canonical.encode([END_CONTEXT, end.closing])
    if not identity.verify(head.key, message, end.signature):
        raise RejectedError("forged: the signature of the bundle's end is wrong")
    closing = canonical.decode(end.closing, _closing)
    if closing.bundle != head.id or digest not in (None, closing.digest):
        raise RejectedError("this is not the bundle that was signed")
    return closing
