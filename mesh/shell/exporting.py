"""Writing bundles: what a member lacks, as a stream of bytes.  Spec: docs/bundles.md §3.

Memory holds one part, one manifest, and about 150 bytes for each blob to come; everything else is
read as it is written.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mesh.bundle.codec import Writer
from mesh.bundle.parts import (
    ABSENT,
    HELD,
    LIST_MAX,
    RAW_MAX,
    REACH_MAX,
    UNASKED,
    Blob,
    Chunks,
    Closing,
    Fork,
    Index,
    Omitted,
    Opening,
    Page,
    Place,
    Point,
    Reach,
    Records,
    Root,
    Since,
    sign_end,
    sign_head,
)
from mesh.ports import IndexPort, LedgerPort
from store import canonical, facts
from store.authority import in_scope
from store.blobs import BlobStore
from store.chunking import WHOLE_MAX
from store.chunks import Manifest
from store.digest import Digest
from store.errors import BlobUnknownError, RejectedError, UnavailableError
from store.identity import Identity
from store.paging import batched
from store.records import Batch, read_body, read_header
from store.references import parse
from store.root import read_document, read_signed

RUN_MAX = 1024  # chunks in one part
SEEN_MAX = 200_000  # chunks of this bundle that are not written again; about 20 MB
ASKED_MAX = 256  # digests looked up at a time

Key = tuple[str, int]  # author, incarnation


class Named(NamedTuple):
    """What the catalog says of a blob it needs; 0 and an empty id are unknown."""

    size: int
    manifest: bytes


class NamesPort(Protocol):
    """Which blobs the records need."""

    async def named(self, blobs: Iterable[Digest]) -> Mapping[Digest, Named]:
        """Those of the blobs that the catalog needs."""
        ...

    def all(self, repositories: tuple[str, ...]) -> AsyncGenerator[Digest]:
        """Every blob that it needs, of repositories that match a glob; some more than once."""
        ...

    async def held(self, node: str, blobs: Iterable[Digest]) -> set[Digest]:
        """Those of the blobs that a member said it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What exporting reads."""

    identity: Identity
    ledger: LedgerPort
    store: BlobStore
    index: IndexPort
    names: NamesPort


@dataclass(frozen=True, slots=True)
class Wish:
    """What to export.  ``since`` is how far the target's chains reach.

    With ``every``, blobs of older records come along too; else of these only the ``lacking``.
    """

    repositories: tuple[str, ...] = ("*",)
    blobs: bool = True
    since: Mapping[Key, int] = field(default_factory=dict[Key, int])
    every: bool = False
    lacking: tuple[bytes, ...] = ()
    root_version: int = 0
    previous: bytes = b""
    target: str = ""


@dataclass(slots=True)
class Tally:
    """What has been written."""

    records: int = 0
    blobs: int = 0
    size: int = 0
    omitted: int = 0


class Export:
    """One bundle.  ``stream`` it once; ``tally`` and ``id`` may be looked at meanwhile."""

    def __init__(self, parts: Parts, wish: Wish) -> None:
        self._parts, self._wish = parts, wish
        self._writer, self.tally = Writer(), Tally()
        self._reached = dict[Key, Point]()
        self._wanted = dict.fromkeys(wish.lacking)  # blobs that the records name, in their order
        self._seen = dict[bytes, None]()  # chunks, oldest first
        self._places: list[Place] = []
        self._index = 0
        opening = Opening(
            mesh=bytes.fromhex(parts.ledger.mesh),
            exporter=bytes.fromhex(parts.identity.node),
            created_ms=int(time.time() * 1000),
            nonce=secrets.token_bytes(16),
            previous=wish.previous,
            target=bytes.fromhex(wish.target),
            repositories=wish.repositories,
            blobs=wish.blobs,
        )
        self._head = sign_head(opening, parts.identity)
        self.id = self._head.id

    async def stream(self) -> AsyncGenerator[bytes]:
        """The bytes of the bundle, in pieces of at most about 1 MiB."""
        write = self._writer.write
        yield self._writer.begin() + write(self._head)
        heads = await self._parts.ledger.heads()
        for key, (seq, record) in sorted(heads.items()):
            since = min(self._wish.since.get(key, 0), seq)
            self._reached[key] = _point(key, since, record if since == seq else b"")
        for chains in batched([p for p in self._reached.values() if p.seq], REACH_MAX):
            yield write(Since(tuple(chains)))
        for document in await self._parts.ledger.roots():
            if read_document(read_signed(document).document).version >= self._wish.root_version:
                yield write(Root(document))
        for key, (seq, _) in sorted(heads.items()):
            async with aclosing(self._batches(key, seq)) as batches:
                async for batch in batches:
                    yield write(Records(canonical.encode(batch)))
        for proof in await self._parts.ledger.forks():
            yield write(Fork(proof))
        async with aclosing(self._all_blobs()) as blobs:
            async for data in blobs:
                yield data
        yield self._finish()

    # --- records ---------------------------------------------------------------------------------
    async def _batches(self, key: Key, upto: int) -> AsyncGenerator[Batch]:
        """The records of a chain that the target lacks, whole batches of them."""
        while (reach := self._reached[key].seq) < upto:
            batch = await self._parts.ledger.range(*key, reach + 1)
            if batch is None:
                return
            self._reached[key] = _point(key, batch.head.seq, batch.head.record)
            self.tally.records += len(batch.records)
            if not self._wish.every:
                self._wanted |= dict.fromkeys(self._named_by(batch))
            yield batch

    def _named_by(self, batch: Batch) -> Iterator[bytes]:
        for header, body in batch.records:
            if body is None or not in_scope(self._wish.repositories, read_header(header).scope):
                continue
            try:
                said = read_body(body).facts
            except RejectedError:  # it is carried all the same: others may understand it
                continue
            for fact in said:
                for text in texts(fact):
                    if (digest := parse(text)) is not None and digest.algorithm == "sha256":
                        yield digest.raw

    # --- blobs -----------------------------------------------------------------------------------
    async def _all_blobs(self) -> AsyncGenerator[bytes]:
        if self._wish.every:
            async with aclosing(self._parts.names.all(self._wish.repositories)) as named:
                async for digest in named:
                    self._wanted[digest.raw] = None
        for some in batched(self._wanted, ASKED_MAX):
            asked = [Digest.sha256(raw) for raw in some]
            needed = list(await self._parts.names.named(asked))
            left: dict[int, list[bytes]] = {}
            for digest in needed:
                reason = await self._reason(digest)
                if not reason:
                    try:
                        async with aclosing(self._blob(digest)) as blob:
                            async for data in blob:
                                yield data
                    except BlobUnknownError:  # collected just now, before a byte of it
                        reason = ABSENT
                if reason:
                    left.setdefault(reason, []).append(digest.raw)
            for reason, digests in left.items():
                self.tally.omitted += len(digests)
                yield self._writer.write(Omitted(reason, tuple(digests)))

    async def _reason(self, digest: Digest) -> int:
        """Why a blob stays behind, or 0."""
        wish, parts = self._wish, self._parts
        if not wish.blobs:
            return UNASKED
        if wish.target and await parts.names.held(wish.target, [digest]):
            return HELD
        return 0 if await parts.store.has(digest) else ABSENT

    async def _blob(self, digest: Digest) -> AsyncGenerator[bytes]:
        """One blob's parts.  Raises BlobUnknownError before the first of them."""
        size = await self._parts.store.size(digest)
        small = size <= WHOLE_MAX
        manifest = Manifest.whole(digest, size) if small else await self._manifest(digest)
        async with self._parts.store.read(digest) as blocks:
            write = self._writer.write
            self._places.append(Place(digest.raw, size, self._writer.offset))
            yield write(Blob(digest.raw, size, b"" if small else manifest.root.encode()))
            for number in range(0 if small else manifest.page_count):
                yield write(Page(manifest.page(number)))
            taken = Taken(blocks)
            chunks = range(len(manifest.chunks)) if small else self._fresh(manifest)
            for first, stop in runs(manifest, chunks):
                start = manifest.offset(first)
                raw = await taken.bytes(start, manifest.offset(stop))
                self.tally.size += len(raw)
                yield write(Chunks(first, stop - first, raw))
        self.tally.blobs += 1
        if len(self._places) == LIST_MAX:
            yield self._indexed()

    def _fresh(self, manifest: Manifest) -> list[int]:
        """The chunks of a blob that this bundle does not bring already, with another or with it.

        Who takes the bundle finds the others in the blobs before, as any fetch does.
        """
        fresh: list[int] = []
        for index in range(len(manifest.chunks)):
            sha256 = manifest.chunks.sha256(index)
            if sha256 not in self._seen:
                fresh.append(index)
                if len(self._seen) == SEEN_MAX:
                    del self._seen[next(iter(self._seen))]
                self._seen[sha256] = None
        return fresh

    async def _manifest(self, digest: Digest) -> Manifest:
        manifest = await self._parts.index.manifest(digest)
        if manifest is None:
            raise BlobUnknownError(f"no blob {digest}")
        return manifest

    # --- the end ---------------------------------------------------------------------------------
    def _indexed(self) -> bytes:
        offset = self._writer.offset
        data = self._writer.write(Index(self._index, tuple(self._places)))
        self._index, self._places = offset, []
        return data

    def _finish(self) -> bytes:
        write, tally = self._writer.write, self.tally
        data = self._indexed() if self._places else b""
        reach = self._writer.offset if self._reached else 0
        for chains in batched(self._reached.values(), REACH_MAX):
            data += write(Reach(tuple(chains)))
        closing = Closing(
            bundle=self.id,
            records=tally.records,
            blobs=tally.blobs,
            size=tally.size,
            omitted=tally.omitted,
            index=self._index,
            reach=reach,
            digest=self._writer.digest,
        )
        return data + self._writer.finish(sign_end(closing, self._parts.identity))


def texts(fact: object) -> list[str | bytes]:
    """Every text in a fact that may name a blob."""
    if isinstance(fact, facts.Publish | facts.Cached):
        return [text for file in fact.files for text in (file.digest, file.metadata_digest)]
    return [fact.value] if isinstance(fact, facts.Point) and fact.value else []


def runs(manifest: Manifest, chunks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Cut rising chunk indexes into runs of adjacent ones that fit one part: first, stop."""
    first = stop = size = 0
    for index in chunks:
        length = manifest.chunks.lengths[index]
        if index != stop or size + length > RAW_MAX or stop - first == RUN_MAX:
            if stop > first:
                yield first, stop
            first, size = index, 0
        stop, size = index + 1, size + length
    if stop > first:
        yield first, stop


class Taken:
    """Ranges of a stream, in rising order; what lies between them is passed over."""

    def __init__(self, blocks: AsyncIterator[bytes]) -> None:
        self._blocks, self._offset, self._held = blocks, 0, bytearray()

    async def bytes(self, start: int, stop: int) -> bytes:
        """The bytes ``[start, stop)``.  Raises UnavailableError where the stream ends early."""
        while self._offset + len(self._held) < stop:
            block = await anext(self._blocks, b"")
            if not block:
                raise UnavailableError("a blob is shorter than its manifest")
            self._held += block
            gap = min(len(self._held), max(0, start - self._offset))
            del self._held[:gap]
            self._offset += gap
        del self._held[: start - self._offset]
        data = bytes(self._held[: stop - start])
        del self._held[: stop - start]
        self._offset = stop
        return data


def _point(key: Key, seq: int, record: bytes = b"") -> Point:
    return Point(bytes.fromhex(key[0]), key[1], seq, record)
