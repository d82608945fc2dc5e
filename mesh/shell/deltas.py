"""Deltas at work: a blob is made of an older one that is here, while its own chunks wait.

The delta is fetched as any blob, and applied while it comes; what it makes goes into the partial
blob chunk by chunk, each verified like one from a peer.  So a wrong delta costs what it weighs and
nothing else: the chunks that it did not make are fetched as if it had never been.

Spec: docs/mesh.md §16, docs/delta.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial as bound
from pathlib import Path
from typing import Any, BinaryIO

import structlog
import trio

from mesh.deltas import OFFERS_MAX, TRIES_MAX, Delta, Deltas, Judge, Way, best, patience
from mesh.download import Download
from mesh.messages import COMPLETE, Message
from mesh.ports import ShelfPort
from mesh.shell.faults import FAULTS
from mesh.shell.links import Links
from mesh.shell.transfers import Transfers
from mesh.shell.writing import Fetch
from store.chunking import WHOLE_MAX
from store.delta import Applier, Reader
from store.digest import Digest
from store.errors import DeltaInvalidError, DeltaUnfitError, NoHolderError, RegistryError
from store.partial import PartialBlob

AT_ONCE = 2  # deltas applied at a time: some 40 MB each
STALL = 10.0  # seconds without a byte of a delta, after which the blob's own chunks are fetched
LOOK = 1.0  # seconds between looks at that
POUR = 1 << 20  # bytes written in one go, at least one chunk
log = structlog.get_logger(__name__)


class DeltaShell:
    """Offers deltas to who looks for a blob, and takes those that pay.  Off without a shelf."""

    def __init__(
        self,
        transfers: Transfers,
        links: Links,
        handlers: dict[type[Message], Callable[[bytes, Any], None]],
    ) -> None:
        self.shelf: ShelfPort | None = None
        self.judge = Judge()
        self.used = 0  # blobs made of deltas, since the start
        self.spared = 0  # bytes that did not have to be fetched for that
        self.refused = 0  # deltas that made other bytes
        self._transfers, self._links = transfers, links
        self._exchange = transfers.exchange
        self._busy: set[bytes] = set()
        transfers.found = self.tell
        handlers[Deltas] = self.heard

    # --- offering ------------------------------------------------------------------------------
    def tell(self, peer: bytes, blob: bytes) -> None:
        """A peer looks for a blob that is here: tell it what would do instead."""
        if self.shelf is None:
            return
        self.shelf.asked(blob)
        offers = self.shelf.offers(blob)[:OFFERS_MAX]  # more of them would break the link
        if offers:
            self._links.send(peer, Deltas(blob, tuple(Delta(*each) for each in offers)))

    def made(self, blob: bytes) -> None:
        """There is a new delta: tell everybody who looks for the blob."""
        for peer in list(self._exchange.finding.interests.get(blob, {})):
            self.tell(peer, blob)

    # --- taking --------------------------------------------------------------------------------
    def heard(self, peer: bytes, said: Deltas) -> None:
        """A peer offers deltas of a blob that we look for; its chunks wait until it is judged."""
        download = self._exchange.downloads.get(said.blob)
        if self.shelf is None or download is None:
            return
        if said.blob in self._busy or len(self._busy) >= AT_ONCE:
            return
        offers = self.judge.sane(peer, download, said.offers)
        if offers:
            self._busy.add(said.blob)
            download.delta = offers[0].delta
            consider = bound(FAULTS.run, self._consider, then=self._links.hold)
            self._transfers.start(consider, peer, download, offers)

    async def _consider(self, peer: bytes, download: Download, offers: Iterable[Delta]) -> None:
        offer: Delta | None = None
        try:
            fetch = self._transfers.fetches.setdefault(
                download.blob, Fetch(Digest.sha256(download.blob))
            )
            with trio.move_on_after(STALL):
                offer = await self._chosen(peer, download, fetch, offers)
            if offer is not None:
                self.judge.attempt(download.blob, offer.delta)
                self.judge.turn(peer, download.blob)
                await self._take(peer, download, fetch, offer)
        except DeltaInvalidError as error:
            if offer is not None:
                self.judge.attempt(download.blob, offer.delta, TRIES_MAX)
                self._release(download)
                await self._blame(peer, download, offer, error)
        except (RegistryError, OSError) as error:
            log.info("mesh.delta_failed", blob=download.blob.hex(), why=str(error))
        finally:
            self._busy.discard(download.blob)
            self._release(download)

    def _release(self, download: Download) -> None:
        """Let the blob's own chunks be asked for again."""
        download.delta = b""
        if self._exchange.downloads.get(download.blob) is download:
            self._transfers.perform(self._exchange.schedule(trio.current_time()))

    async def _chosen(
        self, peer: bytes, download: Download, fetch: Fetch, offers: Iterable[Delta]
    ) -> Delta | None:
        """Return the best delta of a blob that is here, if one pays, once chunks are known."""
        store = self._transfers.store
        room = 0 if self.shelf is None else self.shelf.room
        fits = [each for each in offers if each.work <= room]
        here = [each for each in fits if await store.has(Digest.sha256(each.basis))]
        if not here:
            return None
        await fetch.opened.wait()
        if fetch.partial is None or self._exchange.downloads.get(download.blob) is not download:
            return None
        if not download.authenticated:
            return None  # what does not fit a manifest on hearsay may be right
        missing = download.size - download.verified
        found = best(missing, here, self._way(peer, download))
        if found is None:
            why = "offered, but the rest is here as soon by itself"
            self._exchange.journal.note(download.blob, "delta", peer, why, trio.current_time())
        return found

    def _way(self, peer: bytes, download: Download) -> Way:
        """Return how fast the blob would come from those who have it, and the delta from one."""
        now, peers, limits = trio.current_time(), self._exchange.peers, self._exchange.limits
        holders = [
            peers[node]
            for node, holder in download.holders.items()
            if holder.state == COMPLETE and not holder.bad and peers[node].usable(now)
        ]
        own = peers[peer].rate.average
        whole = sum(belief.rate.average for belief in holders) or own
        metered = limits.terms(peer, peers[peer].site).metered
        return Way(whole, own, metered)

    async def _take(self, peer: bytes, download: Download, fetch: Fetch, offer: Delta) -> None:
        """Fetch the delta and apply it.  Raises DeltaInvalidError, RegistryError, OSError."""
        shelf, partial = self.shelf, fetch.partial
        digest, basis = Digest.sha256(offer.delta), Digest.sha256(offer.basis)
        path = self._transfers.store.path(basis)
        if shelf is None or partial is None or path is None:
            return
        missing, now = download.size - download.verified, trio.current_time()
        download.delta = offer.delta
        why = f"{offer.size:,} bytes make {missing:,} of {basis.hex[:12]}"
        self._exchange.journal.note(download.blob, "delta", peer, why, now)
        if digest.raw in self._exchange.downloads or not await shelf.expect(digest):
            return
        limit = patience(missing, offer, self._way(peer, download))
        try:
            with trio.move_on_after(limit) as scope:
                async with self._coming(digest, offer.size, download, fetch) as blocks:
                    await self._apply(partial, fetch, (basis, path), offer.work, blocks)
            if scope.cancelled_caught:
                raise NoHolderError("the delta takes too long")
            await shelf.keep(digest)
        finally:
            await shelf.unexpect(digest)
        self.used += 1
        self.spared += missing - offer.size
        now = trio.current_time()
        self._exchange.journal.note(download.blob, "delta", peer, "all of it is made", now)

    @asynccontextmanager
    async def _coming(
        self, digest: Digest, size: int, download: Download, fetch: Fetch
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open the delta's bytes in order, as they come.  Raises NoHolderError if they do not."""
        transfers = self._transfers
        if not await transfers.store.has(digest):
            async with self._wanted(digest, download.priority) as coming:
                fetch.behind = coming
                try:
                    await self._patiently(coming, coming.opened)
                    if coming.error is not None:
                        raise coming.error
                    partial = coming.partial
                    if partial is not None and partial.manifest.size != size:
                        raise NoHolderError("the delta has another size than was offered")
                    if partial is not None and partial.active:
                        async with partial.read() as blocks:
                            transfers.readers_changed(digest)
                            yield Patient(blocks)
                        await self._patiently(coming, coming.done)
                        return
                    await self._patiently(coming, coming.done)
                finally:
                    fetch.behind = None
        async with transfers.store.read(digest) as blocks:
            yield blocks

    @asynccontextmanager
    async def _wanted(self, digest: Digest, priority: int) -> AsyncGenerator[Fetch]:
        """Fetch the delta for the length of the block; what is left of it then is not awaited.

        By its digest alone: what the offerer says of its size must keep no honest holder out.
        """
        coming = Fetch(digest)
        try:
            async with self._transfers.wanted(digest, 0, b"", priority) as coming:
                yield coming
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STALL):
                await self._transfers.drop(digest)
                await coming.done.wait()  # where it lies is decided when it is complete

    async def _patiently(self, coming: Fetch, event: trio.Event) -> None:
        seen, since = -1, trio.current_time()
        while not event.is_set():
            with trio.move_on_after(LOOK):
                await event.wait()
            if coming.here != seen:
                seen, since = coming.here, trio.current_time()
            hopeless = self._exchange.hopeless(coming.blob.raw, trio.current_time())
            if hopeless or trio.current_time() > since + STALL:
                raise NoHolderError("the delta does not come")

    # --- applying ------------------------------------------------------------------------------
    async def _apply(
        self,
        partial: PartialBlob,
        fetch: Fetch,
        basis: tuple[Digest, Path],
        work: int,
        blocks: AsyncIterator[bytes],
    ) -> None:
        reader, pour = Reader(), Pour(self._transfers, fetch, partial)
        file = await trio.to_thread.run_sync(basis[1].open, "rb")
        applier: Applier | None = None
        try:
            async for block in blocks:
                for frame in reader.feed(block):
                    if applier is None:
                        applier = await self._applier(reader, partial, (basis[0], work), file)
                    await pour.add(await trio.to_thread.run_sync(applier.apply, frame))
                    if not partial.active:
                        return  # it has come another way
            reader.finish()
            if applier is not None:
                applier.finish()
            await pour.end()
        finally:
            if applier is not None:
                applier.close()
            file.close()

    async def _applier(
        self, reader: Reader, partial: PartialBlob, offered: tuple[Digest, int], file: BinaryIO
    ) -> Applier:
        header = reader.header
        whole = partial.manifest
        if header is None or header.target != whole.blob:
            raise DeltaInvalidError("a delta of another blob than it was offered for")
        if (header.basis, header.work) != offered:
            raise DeltaInvalidError(
                "a delta of another basis, or of more work, than it was offered for"
            )
        if header.size != whole.size:
            raise DeltaInvalidError("a delta of another size than its blob")
        shelf = self.shelf
        if shelf is None:
            raise NoHolderError("deltas are off")
        beat = trio.from_thread.check_cancelled  # so that a node's stop does not wait for it
        make = bound(Applier, header, file, shelf.folder, room=shelf.room, beat=beat)
        return await trio.to_thread.run_sync(make)

    async def _blame(
        self, peer: bytes, download: Download, offer: Delta, error: DeltaInvalidError
    ) -> None:
        """A delta was none.  A strike, unless it may be our own disk's fault, or our zlib's.

        What is malformed whatever the basis is the offerer's fault; of anything else only what
        needs no packer, from a basis that is sound.  A delta of several chunks is applied before
        its digest is known to be right: what was wrong with it may come from another holder.
        """
        self.refused += 1
        self.judge.blame(peer)
        exchange, now = self._exchange, trio.current_time()
        reason = f"gave a delta that is none: {error}"
        log.warning("mesh.bad_delta", peer=peer.hex(), blob=download.blob.hex(), why=str(error))
        unfit = isinstance(error, DeltaUnfitError)
        doubtful = offer.size > WHOLE_MAX or (unfit and offer.work > 0)
        if doubtful or (unfit and not await self._sound(offer.basis)):
            exchange.journal.bad(download.blob, peer, reason, now)
            if peer in exchange.peers:
                exchange.peers[peer].notes.append(reason)
            return
        self._transfers.perform(exchange.misled(peer, download.blob, reason, now))

    async def _sound(self, basis: bytes) -> bool:
        """Tell whether the older blob still is what its name says."""
        digest, hashed = Digest.sha256(basis), hashlib.sha256()
        try:
            async with self._transfers.store.read(digest) as blocks:
                async for block in blocks:
                    await trio.to_thread.run_sync(hashed.update, block)
        except (RegistryError, OSError):
            return False
        return hashed.digest() == basis


class Patient(AsyncIterator[bytes]):
    """Blocks as they come; NoHolderError when none has for STALL seconds."""

    def __init__(self, blocks: AsyncIterator[bytes]) -> None:
        self._blocks = blocks

    async def __anext__(self) -> bytes:
        with trio.move_on_after(STALL):
            return await anext(self._blocks)
        raise NoHolderError("the delta does not come")


class Pour:
    """Writes a blob's bytes, as they are made from its beginning on, into its partial."""

    def __init__(self, transfers: Transfers, fetch: Fetch, partial: PartialBlob) -> None:
        self._transfers, self._fetch, self._partial = transfers, fetch, partial
        self._buffer = bytearray()
        self._next = 0  # the chunk that the buffer begins with

    async def add(self, data: bytes) -> None:
        """Take the next bytes.  Raises DeltaUnfitError if a chunk does not verify."""
        self._buffer += data
        manifest = self._partial.manifest
        base, count = manifest.offset(self._next), len(manifest.chunks)
        while self._next < count:
            stop = self._next
            while stop < count and manifest.offset(stop + 1) - base <= len(self._buffer):
                stop += 1
                if manifest.offset(stop) - base >= POUR:
                    break
            if stop == self._next:
                break
            size = manifest.offset(stop) - base
            await self._write(self._next, stop, bytes(self._buffer[:size]))
            del self._buffer[:size]
            self._next, base = stop, manifest.offset(stop)

    async def end(self) -> None:
        """Judge whether that was all.  Raises DeltaUnfitError."""
        await trio.lowlevel.checkpoint()
        if self._buffer or self._next < len(self._partial.manifest.chunks):
            raise DeltaUnfitError("a delta of another size than its blob")

    async def _write(self, first: int, stop: int, data: bytes) -> None:
        if not self._partial.active:
            return
        try:
            wrong = await self._partial.write_runs([(first, stop, data)])
        except RegistryError as error:  # chunks that were told of may be lost with these
            await self._partial.abandon(error)
            raise
        self._transfers.poured(self._fetch, self._partial, first, stop, wrong)
        if wrong:
            raise DeltaUnfitError("it makes other bytes")
