"""Chunks at work: ``mesh.exchange`` between the links and the blob store.

One fetch per blob, however many ask; it goes on when they leave.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio

from mesh import bits
from mesh.effects import (
    DropBulk,
    Effect,
    Finish,
    GiveUp,
    LookUp,
    Open,
    OpenBulk,
    ServeManifest,
    Tell,
    TellBulk,
    Write,
)
from mesh.exchange import Exchange
from mesh.messages import URGENT, ManifestPage, Message
from mesh.ports import IndexPort, PartialsPort
from mesh.shell.faults import FAULTS
from mesh.shell.links import Links
from mesh.shell.writing import Fetch, Writing, have
from store.blobs import BlobStore
from store.chunking import WHOLE_MAX
from store.chunks import Manifest
from store.digest import Digest
from store.errors import (
    BlobUnknownError,
    DigestMismatchError,
    NoHolderError,
    RegistryError,
    UnavailableError,
)
from store.partial import PartialBlob
from store.warm import KEPT, WarmFiles

MANIFESTS_MAX = 256  # manifests of local blobs kept at hand
LOOKUPS_MAX = 8  # questions to the store at a time
QUESTIONS_MAX = 64  # of one peer that wait for the store; until then it is read no further
log = structlog.get_logger(__name__)


class Transfers:
    """What is being fetched, and what is known of blobs that are here."""

    def __init__(
        self,
        exchange: Exchange,
        links: Links,
        store: BlobStore,
        index: IndexPort,
        partials: PartialsPort,
    ) -> None:
        self.exchange = exchange
        self.fetches: dict[bytes, Fetch] = {}
        self.store = store
        self._index = index
        self._partials = partials
        self._links = links
        self._start: Callable[..., None] = lambda *_: None
        self._lookups = trio.CapacityLimiter(LOOKUPS_MAX)
        self._questions: Counter[bytes] = Counter()
        self._answered = trio.Event()
        self._writing = Writing(self.fetches, self._written, self._fail)
        self._warm = WarmFiles()
        self._manifests: OrderedDict[bytes, Manifest] = OrderedDict()
        self._wake = trio.Event()
        self.found: Callable[[bytes, bytes], None] = lambda *_: None  # (peer, blob that is here)
        self._asleep_until = math.inf  # when the clock is looked at next
        self._tasks: dict[type[object], Callable[[Any], Awaitable[None]]] = {
            LookUp: self._look_up,
            ServeManifest: self._serve_manifest,
            Open: self._open,
            Finish: self._finish,
            GiveUp: self._give_up,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            self._start = self._writing.start = nursery.start_soon
            task_status.started()
            nursery.start_soon(self._tidy_forever)
            while True:
                self._wake, now = trio.Event(), trio.current_time()
                deadline = self.exchange.deadline(now)
                self._asleep_until = math.inf if deadline is None else deadline
                with trio.move_on_at(self._asleep_until):
                    await self._wake.wait()
                    continue
                self._follow_readers()
                self.perform(self.exchange.tick(trio.current_time()))

    def start(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Start a task that ends with this."""
        self._start(work, *arguments)

    async def _tidy_forever(self) -> None:
        try:
            while True:
                await trio.sleep(KEPT)
                self._warm.tidy(trio.current_time())
        finally:
            self._warm.close()

    # --- for clients ---------------------------------------------------------------------------
    @asynccontextmanager
    async def wanted(
        self, blob: Digest, size: int, manifest_id: bytes, priority: int = URGENT
    ) -> AsyncGenerator[Fetch]:
        """Want a blob for the length of the block; the fetch may outlive it."""
        raw = blob.raw
        if raw not in self.fetches:
            self.fetches[raw] = Fetch(blob)
        fetch = self.fetches[raw]
        now = trio.current_time()
        effects = self.exchange.want(raw, now, size=size, manifest=manifest_id, priority=priority)
        self.perform(effects)
        if fetch.stale(self.exchange.downloads[raw].manifest_id):
            self._hold(fetch, None)  # what a record vouches for is opened anew
        self._links.hurry()
        try:
            yield fetch
        finally:
            self.exchange.unwant(raw, trio.current_time())

    async def drop(self, blob: Digest) -> None:
        """Stop a fetch that nobody waits for; what has come stays on the disk, to be resumed.

        What is being completed already is left to it.
        """
        download = self.exchange.downloads.get(blob.raw)
        if download is None or download.local or download.finishing:
            return
        self.perform(self.exchange.abandoned(blob.raw, trio.current_time()))
        await self._give_up(GiveUp(blob.raw))

    def authenticated(self, blob: Digest) -> bool:
        """Tell whether a signed record vouches for the manifest, so that bytes may flow early."""
        download, fetch = self.exchange.downloads.get(blob.raw), self.fetches.get(blob.raw)
        if download is None or (fetch is not None and fetch.stale(download.manifest_id)):
            return False
        return download.authenticated

    def _hold(self, fetch: Fetch, partial: PartialBlob | None) -> None:
        """Go on with a partial blob, and leave the one of another manifest."""
        if (old := fetch.hold(partial)) is not None:
            self._start(self._partials.leave, old)

    def readers_changed(self, blob: Digest) -> None:
        """A client has begun to read: its bytes go first."""
        fetch = self.fetches.get(blob.raw)
        if fetch is not None and fetch.partial is not None:
            now = trio.current_time()
            self.perform(self.exchange.readers(blob.raw, fetch.partial.wanted, now))

    def _follow_readers(self) -> None:
        for raw, fetch in self.fetches.items():
            if fetch.partial is not None and fetch.partial.active:
                wanted = fetch.partial.wanted
                if wanted:
                    self.perform(self.exchange.readers(raw, wanted, trio.current_time()))

    # --- performing ----------------------------------------------------------------------------
    def perform(self, effects: Iterable[Effect]) -> None:
        """Perform effects in order; those that take time run on their own."""
        for effect in effects:
            self._perform_one(effect)
        deadline = self.exchange.deadline(trio.current_time())
        if deadline is not None and deadline < self._asleep_until:
            self._wake.set()

    def _perform_one(self, effect: Effect) -> None:
        links = self._links
        match effect:
            case Tell(peer, message):
                links.send(peer, message)
            case TellBulk(peer, message):
                links.send_bulk(peer, message)
            case OpenBulk(peer):
                links.open_bulk(peer)
            case DropBulk(peer, reason):
                log.warning("mesh.peer_misbehaves", peer=peer.hex(), why=reason)
                links.close_bulk(peer, reason)
            case Write():
                self._writing.put(effect)
            case LookUp() | ServeManifest():
                self._questions[effect.peer] += 1
                self._start(self._answer, effect)
            case _:
                self._start(self._tasks[type(effect)], effect)

    async def _answer(self, asked: LookUp | ServeManifest) -> None:
        try:
            with FAULTS.contained("question", asked.peer, self._links.hold):
                await self._tasks[type(asked)](asked)
        finally:
            self._questions[asked.peer] -= 1
            self._answered.set()

    async def received(self, peer: bytes, message: Message) -> None:
        """Take a control message; waits while the peer has too many questions open."""
        while self._questions[peer] >= QUESTIONS_MAX:
            if self._answered.is_set():  # several may wait for one event
                self._answered = trio.Event()
            await self._answered.wait()
        self.perform(self.exchange.received(peer, message, trio.current_time()))

    async def received_bulk(self, peer: bytes, message: Message) -> None:
        """Take a message about our requests; waits for the disk, so that a fast peer must too."""
        self.perform(self.exchange.received_bulk(peer, message, trio.current_time()))
        await self._writing.room(peer)

    async def _look_up(self, asked: LookUp) -> None:
        async with self._lookups:
            manifest = await self.manifest(Digest.sha256(asked.blob))
        found = None if manifest is None else (manifest.size, manifest.id)
        if found is not None:
            self.found(asked.peer, asked.blob)  # ahead of the answer: chunks wait for a delta
        now = trio.current_time()
        self.perform(self.exchange.looked_up(asked.peer, asked.blob, found, now))

    async def manifest(self, blob: Digest) -> Manifest | None:
        """Return the manifest of a complete local blob."""
        known = self._manifests.get(blob.raw)
        try:
            size = await self.store.size(blob)
            if known is None:
                small = size <= WHOLE_MAX
                known = Manifest.whole(blob, size) if small else await self._index.manifest(blob)
        except (BlobUnknownError, DigestMismatchError, UnavailableError):
            self._manifests.pop(blob.raw, None)
            return None
        if known is not None:
            self._remember(blob.raw, known)
        return known

    def _remember(self, raw: bytes, manifest: Manifest) -> None:
        self._manifests[raw] = manifest
        self._manifests.move_to_end(raw)
        while len(self._manifests) > MANIFESTS_MAX:
            self._manifests.popitem(last=False)

    async def _serve_manifest(self, asked: ServeManifest) -> None:
        download = self.exchange.downloads.get(asked.blob)
        manifest = download.manifest if download is not None else None
        if manifest is None:
            async with self._lookups:
                manifest = await self.manifest(Digest.sha256(asked.blob))
        data = b""
        if manifest is not None and manifest.id == asked.manifest:
            if asked.page == 0:
                data = manifest.root.encode()
            elif asked.page <= manifest.page_count:
                data = manifest.page(asked.page - 1)
        said = ManifestPage(asked.blob, asked.manifest, asked.page, data)
        self._links.send(asked.peer, said)

    async def _open(self, effect: Open) -> None:
        """Open the partial blob, with all of it that lies on this disk already."""
        raw, manifest = effect.blob, effect.manifest
        try:
            partial = await self._partials.open(manifest)
            if partial.missing:
                await partial.copy_known(self._index, self.store)
        except RegistryError as error:
            if self._awaits(manifest):
                self._fail(raw, error)
            return
        fetch = self.fetches.get(raw)
        if self._awaits(manifest):
            self._hold(fetch or self.fetches.setdefault(raw, Fetch(manifest.blob)), partial)
            self.perform(self.exchange.opened(manifest, have(partial), trio.current_time()))
        elif fetch is None or fetch.partial is not partial:  # another manifest is believed by now
            await self._partials.leave(partial)

    def _awaits(self, manifest: Manifest) -> bool:
        download = self.exchange.downloads.get(manifest.blob.raw)
        return download is not None and download.awaits(manifest.id)

    def _written(self, effect: Write, partial: PartialBlob, bad: list[int]) -> None:
        download = self.exchange.downloads.get(effect.blob)
        if download is None:
            return
        twins = have(partial) if partial.repeats else None  # one chunk fills several places
        span = (effect.first, effect.count)
        now = trio.current_time()
        self.perform(self.exchange.written(effect.blob, effect.peer, span, bad, now, have=twins))

    def poured(
        self, fetch: Fetch, partial: PartialBlob, first: int, stop: int, bad: list[int]
    ) -> None:
        """Take note of chunks that were made here, and of whether they were right."""
        raw = fetch.blob.raw
        if fetch.partial is partial and raw in self.exchange.downloads:
            good = [index for index in range(first, stop) if index not in bad]
            here, now = have(partial), trio.current_time()
            for start, end in bits.runs(bits.of(good)):
                span = (start, end - start)
                self.perform(self.exchange.written(raw, b"", span, (), now, have=here))

    async def _finish(self, effect: Finish) -> None:
        raw = effect.blob
        fetch = self.fetches.get(raw)
        partial = fetch.partial if fetch is not None else None
        if fetch is None or partial is None or partial.manifest.id != effect.manifest:
            return
        try:
            ingested = await partial.complete(self.store)
        except RegistryError as error:
            self._unfinished(fetch, partial, error)
            return
        try:
            await self._index.record(ingested)
        except UnavailableError as error:  # the index can be made again from the blobs
            log.warning("mesh.not_indexed", blob=str(fetch.blob), why=str(error))
        self._remember(raw, ingested.manifest)  # what is asked for already is served without a gap
        for waiting in {fetch, self.fetches.pop(raw, fetch)}:  # it may have been given up meanwhile
            self._hold(waiting, partial)  # it was whole before what was to take its place
            waiting.end()
        self.perform(self.exchange.finished(partial.manifest, trio.current_time(), right=True))

    def _unfinished(self, fetch: Fetch, partial: PartialBlob, error: RegistryError) -> None:
        """What came is not the blob, or the disk refuses; meanwhile another may be on its way."""
        raw, ours = fetch.blob.raw, fetch.partial is partial
        if isinstance(error, DigestMismatchError):
            log.warning("mesh.wrong_manifest", blob=str(fetch.blob), why=str(error))
            if ours:
                self._hold(fetch, None)
            self.perform(self.exchange.finished(partial.manifest, trio.current_time(), right=False))
        elif ours and self.fetches.get(raw) is fetch:
            self._fail(raw, error)

    async def _give_up(self, effect: GiveUp) -> None:
        raw = effect.blob
        fetch = self.fetches.pop(raw, None)
        if fetch is not None:
            fetch.end(NoHolderError(f"{fetch.blob}: nobody reachable has it"))
            if fetch.partial is not None:
                await fetch.partial.close()  # what is here stays, to be resumed

    def _fail(self, raw: bytes, error: RegistryError) -> None:
        """The disk refuses: who waits hears why."""
        log.warning("mesh.fetch_failed", blob=raw.hex(), why=str(error))
        fetch = self.fetches.pop(raw, None)
        if fetch is not None:
            fetch.end(error)
        self.perform(self.exchange.abandoned(raw, trio.current_time()))

    # --- serving -------------------------------------------------------------------------------
    def length(self, blob: bytes, manifest: bytes, index: int) -> int | None:
        """Return the length of a chunk that can be served now, of blobs asked about before."""
        download = self.exchange.downloads.get(blob)
        if download is not None and download.open:
            known = download.manifest
            here = bool(download.have >> index & 1)
        else:
            known, here = self._manifests.get(blob), True
        if not here or known is None or known.id != manifest or index >= len(known.chunks):
            return None  # the numbers of another manifest mean other bytes
        return known.chunks.lengths[index]

    async def read(self, blob: bytes, first: int, count: int) -> bytes:
        """Return the bytes of adjacent chunks.  Raises NotFoundError, NoHolderError."""
        download, fetch = self.exchange.downloads.get(blob), self.fetches.get(blob)
        partial = fetch.partial if fetch is not None else None
        if download is not None and partial is not None and partial.active:
            known = partial.manifest
            return await partial.bytes_here(known.offset(first), known.offset(first + count))
        # One that has just been completed is in the store, and about to be in the index.
        manifest = partial.manifest if partial else self._manifests.get(blob)
        manifest = manifest or await self.manifest(Digest.sha256(blob))
        if manifest is None:
            raise BlobUnknownError("the blob has gone")
        start, stop = manifest.offset(first), manifest.offset(first + count)
        digest, now = manifest.blob, trio.current_time()
        warm = self._warm.read(blob, lambda: self.store.path(digest), start, stop, now)
        if warm is not None:
            await trio.lowlevel.checkpoint()
            return warm
        async with self.store.read(manifest.blob, start=start, stop=stop) as blocks:
            return b"".join([block async for block in blocks])
