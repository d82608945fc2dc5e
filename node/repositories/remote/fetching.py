"""The leader's part of a fetch: ask, check, keep, record.

A body cut off on its way is taken up where it stopped (RFC 9110 §14, If-Range), as often as each
attempt brings more.  Nothing is kept that is empty, short, or other than promised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
import trio

from formats.contract import Format
from formats.remote import DOCUMENT_MAX, Aim, Kept, Origin, Promise, Remote
from node.blobs import Blobs
from node.repositories.remote.checking import (
    declared,
    judge_body,
    judge_head,
    promises_nothing,
    sidecar_digest,
)
from node.repositories.remote.decoding import Decoder, decoder_of
from node.repositories.remote.flight import Flight, checksums_for
from node.repositories.remote.promises import Promises
from node.repositories.remote.recording import Recorder
from node.repositories.remote.spool import WITHHELD, Spool
from node.upstream.client import Client, Reply
from node.upstream.urls import shown
from store.blobs import Ingested
from store.errors import (
    NotFoundError,
    RegistryError,
    RejectedError,
    StoreFullError,
    TooLargeError,
    UpstreamError,
)
from store.facts import METADATA_INLINE_MAX, File

log = structlog.get_logger(__name__)
ATTEMPTS_MAX = 6  # requests for one body, each taking up where the last stopped
FRUITLESS_MAX = 2  # of those in a row that brought nothing
SIDECAR_MAX = 8 << 10  # bytes of a checksum file
GONE = frozenset({404, 410})


class Room(Protocol):
    """What is left of a quota, in bytes; None without one."""

    async def __call__(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What every fetch of a repository uses."""

    repository: str
    format: Format
    remote: Remote
    client: Client
    blobs: Blobs
    promises: Promises
    recorder: Recorder
    folder: Path  # for temporary files, in the blob store's file system
    room: Room


class Fetching:
    """Carries one flight through."""

    def __init__(self, means: Means, flight: Flight) -> None:
        self._means, self._flight = means, flight
        self._aim, self._promise = flight.aim, flight.promise
        self._claims: Mapping[str, str] = {}
        self._received = 0
        self._whole = True  # whether the end of the body could be told from a cut

    @property
    def received(self) -> int:
        """Bytes that came over the wire."""
        return self._received

    async def run(self) -> None:
        """Fetch.  Raises UpstreamError, NotFoundError, UnavailableError, StoreFullError."""
        flight = self._flight
        try:
            await self._ask_until_whole()
            if not flight.unchanged:
                await self._keep()
        finally:
            if flight.spool is not None:
                await flight.spool.close()

    # --- asking ----------------------------------------------------------------------------------
    async def _ask_until_whole(self) -> None:
        fruitless = 0
        for attempt in range(ATTEMPTS_MAX):
            before = self._flight.spool.written if self._flight.spool else 0
            try:
                await self._ask()
            except UpstreamError as error:
                spool = self._flight.spool
                brought = (spool.written if spool else 0) > before
                fruitless = 0 if brought else fruitless + 1
                if not self._resumable() or fruitless >= FRUITLESS_MAX:
                    raise
                log.info("taking up a fetch", path=self._aim.path[:200], why=str(error))
                await trio.sleep(0.1 * 2**attempt if fruitless else 0)
            else:
                return
        raise UpstreamError(f"upstream breaks {self._aim.path[:200]} off again and again")

    def _resumable(self) -> bool:
        spool, origin = self._flight.spool, self._flight.origin
        return spool is not None and spool.written > 0 and bool(_strong(origin)) and self._whole

    async def _ask(self) -> None:
        """One request.  An answer to be continued leaves by UpstreamError."""
        flight, spool = self._flight, self._flight.spool
        reference = self._promise.url or self._aim.url
        async with self._means.client.open(
            "GET", reference, self._headers(), scope=self._aim.scope
        ) as reply:
            if reply.status == 304 and flight.held is not None and spool is None:
                flight.unchanged = True
                return
            self._judge_status(reply)
            if spool is not None:
                await self._resume(reply, spool)
            else:
                await self._begin(reply)

    def _headers(self) -> dict[str, str]:
        held, spool = self._flight.held_origin, self._flight.spool
        headers = {"accept": self._aim.accept or "*/*"}
        if spool is not None:
            headers["range"] = f"bytes={spool.written}-"
            headers["if-range"] = _strong(self._flight.origin)
            return headers
        if self._aim.document:
            headers["accept-encoding"] = "gzip"
        if self._flight.held is not None:
            if held.etag:
                headers["if-none-match"] = held.etag
            if held.last_modified:
                headers["if-modified-since"] = held.last_modified
        return headers

    def _judge_status(self, reply: Reply) -> None:
        wanted = {200, 206} if self._flight.spool is not None else {200}
        if reply.status in GONE:
            raise NotFoundError(f"upstream has no {self._aim.path[:200]}")
        if reply.status in {401, 403, 407}:
            raise UpstreamError(f"upstream refuses our credentials, or their lack ({reply.status})")
        if reply.status not in wanted:
            raise UpstreamError(f"upstream answers {reply.status} at {shown(reply.url)}")

    async def _begin(self, reply: Reply) -> None:
        flight, aim = self._flight, self._aim
        headers = reply.headers
        limit = DOCUMENT_MAX if aim.document else None
        decoder = decoder_of(
            headers.get("content-encoding", ""), aim.path, limit, document=aim.document
        )
        length = reply.length if decoder is None else None
        judge_head(aim, self._promise, headers.get("content-type", ""), length)
        room = await self._means.room()
        if room is not None and (length or 0) > room:
            raise StoreFullError(f"{self._means.repository} has {room} bytes left of its quota")
        self._claims = declared(headers) if decoder is None else {}
        flight.origin = _origin(reply)
        size = length if length is not None else self._promise.size
        own = self._means.format.checksums
        sums = checksums_for(own, aim, self._promise, list(self._claims))
        flight.spool = Spool(self._means.folder, sums, size)
        self._whole = reply.framed and decoder is None
        await self._pour(reply, flight.spool, decoder, limit)
        if not reply.framed and not (self._promise.digests or self._claims):
            raise UpstreamError("upstream sends neither a length nor a digest: it may be cut off")

    async def _pour(
        self, reply: Reply, spool: Spool, decoder: Decoder | None, limit: int | None
    ) -> None:
        async for chunk in reply.chunks:
            self._received += len(chunk)
            for piece in decoder.feed(chunk) if decoder else [chunk]:
                await self._add(spool, piece, limit)
        if decoder is not None:
            decoder.finish()

    async def _add(self, spool: Spool, piece: bytes, limit: int | None) -> None:
        if limit is not None and spool.written + len(piece) > limit:
            raise TooLargeError(f"{self._aim.path[:200]} is larger than {limit} bytes")
        await spool.write(piece)
        if spool.written > WITHHELD:
            self._flight.opened.set()

    async def _resume(self, reply: Reply, spool: Spool) -> None:
        """Go on where it stopped; a whole answer must begin with the bytes that are here."""
        skip = 0
        if reply.status == 206:
            wanted = f"bytes {spool.written}-"
            if not reply.headers.get("content-range", "").startswith(wanted):
                raise UpstreamError("upstream continues at another place than asked")
        else:
            skip = spool.written
        at = 0
        async for chunk in reply.chunks:
            self._received += len(chunk)
            known = chunk[: max(0, skip - at)]
            if known and spool.prefix(at, len(known)) != known:
                self._whole = False  # what was sent on is of another file: no use to ask again
                raise UpstreamError(f"upstream changed {self._aim.path[:200]} meanwhile")
            at += len(known)
            if len(known) < len(chunk):
                await self._add(spool, chunk[len(known) :], None)
        if spool.size is not None and spool.written != spool.size:
            raise UpstreamError(f"upstream sends {spool.written} bytes, not {spool.size}")

    # --- keeping ---------------------------------------------------------------------------------
    async def _keep(self) -> None:
        flight, aim, means = self._flight, self._aim, self._means
        spool = flight.spool
        if spool is None or (not spool.written and not promises_nothing(self._promise)):
            raise UpstreamError(f"upstream answers with nothing for {aim.path[:200]}")
        got = await spool.seal()
        judge_body(aim, self._promise, self._claims, got)
        await self._judge_sidecars(got)
        data = spool.prefix(0, spool.written) if aim.document else b""
        kept = Kept(flight.origin, data)
        self._judge_document(kept)
        await self._store(spool, got)
        spool.finish()
        flight.opened.set()
        await self._scan(got)
        file = File(
            aim.path,
            aim.role,
            str(got.digest),
            got.size,
            manifest_id=got.manifest.id,
            checksums=tuple(sorted(got.checksums.items())),
            metadata=self._promise.metadata or msgspec.json.encode(flight.origin),
        )
        file = await self._thin(file)
        try:
            await means.recorder.record(
                means.remote.facts(means.repository, self._dated(), file, kept)
            )
        except RegistryError as error:
            log.warning("kept without a record", path=aim.path[:200], error=str(error))

    def _dated(self) -> Aim:
        version = self._promise.version or self._aim.version
        return replace(self._aim, version=version)

    async def _judge_sidecars(self, got: Ingested) -> None:
        """Compare with the checksum files beside it; a missing one says nothing."""
        if self._promise.digests or self._claims:
            return
        for algorithm, url in self._aim.sidecars:
            try:
                async with self._means.client.open("GET", url, {}, scope=self._aim.scope) as reply:
                    if reply.status != 200:
                        continue
                    told = sidecar_digest(await reply.text(SIDECAR_MAX), algorithm)
            except TooLargeError:
                continue
            if told:
                judge_body(self._aim, Promise(), {algorithm: told}, got)
                return

    def _judge_document(self, kept: Kept) -> None:
        if not self._aim.document:
            return
        try:
            self._means.remote.check(self._aim, kept)
        except RejectedError as error:
            raise UpstreamError(f"upstream's {self._aim.path[:200]}: {error}") from None

    async def _store(self, spool: Spool, got: Ingested) -> None:
        blobs = self._means.blobs
        if got.size == 0:
            async with blobs.ingest() as ingest:
                await ingest.write(b"")
        elif not await blobs.store.has(got.digest):
            await blobs.store.adopt(spool.take_file(), got.digest)
        await blobs.index.record(got)

    async def _scan(self, got: Ingested) -> None:
        """Have a large index read for what it promises."""
        means = self._means
        if means.remote.scan is not None and self._aim.role == "index":
            path = means.blobs.path(got.digest)
            await means.promises.take(
                means.repository, self._aim, got.digest, means.remote.scan, path
            )

    async def _thin(self, file: File) -> File:
        """Move large metadata to a blob, as a publish does."""
        if len(file.metadata) <= METADATA_INLINE_MAX:
            return file
        async with self._means.blobs.ingest() as ingest:
            await ingest.write(file.metadata)
        digest = str(ingest.result.digest)
        return msgspec.structs.replace(file, metadata=b"", metadata_digest=digest)


def _strong(origin: Origin) -> str:
    """The validator that proves two answers to be parts of one (RFC 9110 §13.1.5), or ""."""
    if origin.etag and not origin.etag.startswith("W/"):
        return origin.etag
    return "" if origin.etag else origin.last_modified


def _origin(reply: Reply) -> Origin:
    """What is remembered of an answer: nothing secret, nothing long."""
    headers = reply.headers
    return Origin(
        shown(reply.url),
        headers.get("content-type", "")[:200],
        headers.get("etag", "")[:200],
        headers.get("last-modified", "")[:60],
        headers.get("link", "")[:1000],
    )
