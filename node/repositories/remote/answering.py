"""A remote repository's answer to a request: find, judge, fetch, respond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import trio

from formats.contract import BlobContent, Format, Request, Response
from formats.remote import DOCUMENT_MAX, Aim, Freshness, Kept, Origin, Promise, Wish
from node.directory import RepositoryEntry
from node.repositories.remote import freshness
from node.repositories.remote.aiming import (
    Announced,
    Found,
    absolute,
    based,
    made_up,
    nothing,
    origin_of,
)
from node.repositories.remote.engine import Engine, remote_of, upstream_of
from node.repositories.remote.flight import unlike
from node.repositories.remote.freshness import Verdict
from node.repositories.remote.spool import Following
from store.blobs import BlobRange
from store.errors import (
    BlobUnknownError,
    NoHolderError,
    NotFoundError,
    RegistryError,
    UnavailableError,
    UpstreamError,
)
from store.rows import Artifact

STALE_WARNING = '110 - "Response is Stale"'
FAILED_WARNING = '111 - "Revalidation Failed"'
RECORD_WAIT = 5.0  # seconds for a record that a neighbour has written
LOOK_AGAIN = 5.0  # seconds after which an index may lack what is new
THREAD_FROM = 256 << 10  # bytes of a document whose rewriting is left to a thread


class RemoteAnswers:
    """Answers for one remote repository."""

    def __init__(self, engine: Engine, entry: RepositoryEntry, served: Format) -> None:
        self._engine, self._entry, self._format = engine, entry, served
        self._remote, self._upstream = remote_of(served), upstream_of(entry)

    async def answer(self, request: Request) -> Response | None:
        """Answer a read; None for what the cached facts answer by themselves.

        Raises NotFoundError, UpstreamError, UnavailableError.
        """
        base = self._remote.base(self._upstream.url)
        aim = self._remote.aim(request, base, self._entry.options)
        if aim is None:
            return None
        aim = based(aim, base)
        if request.method == "HEAD" and not (aim.document or aim.whole):
            return await self._head(request, aim)
        await self._leave_to_neighbour(request, aim)
        try:
            found = await self.prefetch(aim) if aim.whole else await self.obtain(aim)
        except (NotFoundError, UpstreamError, UnavailableError):
            if aim.optional:
                return None
            raise
        self._engine.parts.counts.lookup(self._entry.key, found.result)
        await self._read_index(aim, found)
        if aim.document or aim.whole:
            response = await self._document(request, aim, found)
        else:
            response = self._file(request, aim, found)
        return replace(response, headers=(*response.headers, *found.headers))

    def wishes(self, name: str, text: str) -> Sequence[Wish]:
        """What a list or lock file names.  Raises RejectedError."""
        return self._remote.wishes(name, text)

    async def wish(self, wish: Wish) -> Sequence[Wish]:
        """Have something here that nobody has asked for yet; return what belongs to it.

        Raises NotFoundError, UpstreamError, UnavailableError.
        """
        base = self._remote.base(self._upstream.url)
        request = made_up(self._format, wish.path, wish.accept)
        aim = self._remote.aim(request, base, self._entry.options)
        if aim is None:
            raise NotFoundError(f"{wish.path[:200]} is nothing that upstream has")
        aim = based(aim, base)
        await self._leave_to_neighbour(request, aim)
        found = await self.prefetch(aim)
        await self._read_index(aim, found)
        if found.artifact is None:
            raise UpstreamError(f"{wish.path[:200]} was not kept")
        await self._engine.parts.blobs.inspect(found.artifact.digest, nothing)  # the bytes, too
        reads = replace(aim, whole=not (aim.document or wish.reads))
        return self._remote.follow(wish, await self._load(reads, found))

    async def prefetch(self, aim: Aim) -> Found:
        """Have something here that nobody has asked for yet; returns once it is whole."""
        found = await self.obtain(aim)
        if found.flight is None:
            return found
        await found.flight.done.wait()
        found.flight.check()
        return Found(found.result, found.flight.artifact)

    async def errand(self, path: str, accept: str) -> bool:
        """Fetch for a neighbour, who takes it from the ledger and the swarm; whether it is here."""
        base = self._remote.base(self._upstream.url)
        try:
            request = made_up(self._format, path, accept)
            aim = self._remote.aim(request, base, self._entry.options)
            if aim is None:
                return False
            found = await self.prefetch(based(aim, base))
        except RegistryError:
            return False
        return found.artifact is not None and found.result != "stale"

    async def _leave_to_neighbour(self, request: Request, aim: Aim) -> None:
        """Let the node of this site that a path falls to ask the upstream for it."""
        errands, key = self._engine.errands, self._entry.key
        if errands is None or self._upstream.offline or self._engine.local.offline:
            return
        peer = errands.chosen(f"{key}\n{aim.path}")
        if peer is None:
            return
        async with self._engine.sharing.of((key, aim.path)):
            held = await self._held(aim)
            if not self._lacking(aim, held) or self._engine.under_way(key, aim.path):
                return
            path, accept = request.path, request.headers.get("accept", "")
            with trio.move_on_after(self._upstream.patience if held else float("inf")):
                if await errands.ask(peer, key, path, accept):
                    await self._arrival(aim, held)

    def _lacking(self, aim: Aim, held: Artifact | None) -> bool:
        """Whether the upstream would have to be asked."""
        if held is None:
            return not self._missing(aim)
        age, kind = self._age(aim, held), self._class(aim)
        return freshness.judge(age, kind, self._upstream) is not Verdict.FRESH

    async def _arrival(self, aim: Aim, held: Artifact | None) -> None:
        """Wait for the record of what a neighbour fetched, and believe it as if it were our own."""
        ledger = self._engine.parts.publisher.ledger
        with trio.move_on_after(RECORD_WAIT), ledger.subscribe() as grown:
            while held is None and await self._held(aim) is None:
                await grown.receive()
        for each in (aim, aim.index):
            if each is not None:
                self._engine.states.checked(self._entry.key, each.path, self._engine.clock())

    # --- obtaining -------------------------------------------------------------------------------
    async def obtain(self, aim: Aim) -> Found:
        """What there is for an aim, fetched or refreshed as its class asks."""
        held, kind = await self._held(aim), self._class(aim)
        if held is not None and not await self._within_reach(held):
            return await self._fetch_lost(aim, held, kind)
        if held is not None and kind is Freshness.IMMUTABLE:
            return Found("hit", held, age=self._age(aim, held))
        if held is None and self._missing(aim):
            self._engine.parts.counts.lookup(self._entry.key, "negative")
            raise NotFoundError(f"upstream has no {aim.path[:200]}")
        promise = await self.promise(aim)
        if held is None:
            return await self._fetch(aim, promise)
        age = self._age(aim, held)
        if promise.digests and not unlike(held, promise):
            return Found("hit", held, age=age)
        verdict = freshness.judge(age, kind, self._upstream)
        if promise.digests and not self._upstream.offline:
            verdict = Verdict.STALE  # its index says that there is another one now
        if verdict is Verdict.FRESH or self._engine.local.offline:
            return Found("hit", held, age=age)
        return await self._refresh(aim, promise, held, kind, verdict)

    async def promise(self, aim: Aim) -> Promise:
        """What is promised of an aim: by its path, its index, or an index read before."""
        if aim.index is None:
            told = await self._engine.parts.promises.find(self._entry.key, aim.path)
            return told if told is not None and not aim.promise.digests else aim.promise
        found = await self.obtain(aim.index)
        kept = await self._load(aim.index, found)
        listed = self._remote.find(aim.index, kept, aim.path)
        if listed is None and found.result == "hit" and found.age > LOOK_AGAIN:
            # The index may be older than what it should list: look once more before saying no.
            self._engine.states.expire(self._entry.key, [aim.index.path])
            kept = await self._load(aim.index, await self.obtain(aim.index))
            listed = self._remote.find(aim.index, kept, aim.path)
        if listed is None:
            raise NotFoundError(f"upstream's index does not list {aim.path[:200]}")
        return absolute(listed, kept.origin.url)

    def _class(self, aim: Aim) -> Freshness:
        return freshness.classify(aim.path, self._remote.classify(aim.path), self._upstream)

    async def _held(self, aim: Aim) -> Artifact | None:
        return await self._engine.parts.catalog.find(self._entry.key, aim.path)

    def _missing(self, aim: Aim) -> bool:
        ttl, now = self._upstream.negative_ttl, self._engine.clock()
        return self._engine.states.missing(self._entry.key, aim.path, now, ttl)

    def _age(self, aim: Aim, held: Artifact) -> float:
        """Seconds since anybody we know of asked the upstream for it."""
        state = self._engine.states.get(self._entry.key, aim.path)
        checked = held.published if state is None else state.checked
        return self._engine.clock() - checked

    async def _within_reach(self, held: Artifact) -> bool:
        """Whether kept bytes are here, or a peer has begun to give them."""
        blobs = self._engine.parts.blobs
        if await blobs.store.has(held.digest):
            return True
        first = BlobRange(held.digest, held.size, held.manifest_id, stop=1)
        try:
            async with blobs.read(first) as chunks:
                await anext(chunks, b"")
        except (NoHolderError, BlobUnknownError):
            return False
        return True

    async def _fetch_lost(self, aim: Aim, held: Artifact, kind: Freshness) -> Found:
        """Fetch again what nobody of us holds any more; what cannot change must be the same."""
        try:
            promise = await self.promise(aim)
        except (NotFoundError, UpstreamError, UnavailableError):
            promise = aim.promise
        if kind is Freshness.IMMUTABLE:
            digests = {held.digest.algorithm: held.digest.hex}
            promise = replace(promise, digests=digests, size=held.size)
        return await self._fetch(aim, promise)

    async def _fetch(self, aim: Aim, promise: Promise) -> Found:
        """Fetch what is not kept: sent on as soon as there is enough of it."""
        flight = self._engine.start(self._entry, self._format, aim, promise)
        event = flight.done if aim.document else flight.opened
        await event.wait()
        flight.check()
        if flight.done.is_set() or flight.spool is None or flight.spool.complete:
            await flight.done.wait()
            flight.check()
            return Found("miss", flight.artifact)
        return Found("miss", flight=flight)

    async def _refresh(
        self, aim: Aim, promise: Promise, held: Artifact, kind: Freshness, verdict: Verdict
    ) -> Found:
        """Ask again about something kept; who can be given it as it is does not wait for long."""
        age = self._age(aim, held)
        stale = freshness.may_be_stale(age, kind, self._upstream) and not promise.digests
        error: RegistryError | None = None
        try:
            flight = self._engine.start(
                self._entry, self._format, aim, promise, held, origin_of(held)
            )
            if verdict is Verdict.REFRESH:
                return Found("hit", held, age=age)
            with trio.move_on_after(self._upstream.patience if stale else float("inf")):
                await flight.done.wait()
            if flight.done.is_set():
                flight.check()
                if flight.unchanged:
                    return Found("revalidated", held)
                return Found("miss", flight.artifact or held)
        except NotFoundError:
            raise
        except RegistryError as failed:
            error = failed
            if promise.digests:  # perhaps its index is the older one of the two
                self._engine.states.expire(self._entry.key, aim.siblings)
        if error is not None and not stale:
            raise error
        return Found("stale", held, age=age, warning=FAILED_WARNING if error else STALE_WARNING)

    async def _read_index(self, aim: Aim, found: Found) -> None:
        """Know what an index says before it is sent, also of one that a peer fetched."""
        scan, held = self._remote.scan, found.artifact
        if scan is not None and held is not None and aim.role == "index":
            parts = self._engine.parts
            path = parts.blobs.path(held.digest)
            await parts.promises.take(self._entry.key, aim, held.digest, scan, path)

    # --- responding ------------------------------------------------------------------------------
    async def _document(self, request: Request, aim: Aim, found: Found) -> Response:
        """A document, rewritten: kept in memory, for who asks in the same way again."""
        artifact = found.artifact
        if artifact is None:
            raise UpstreamError(f"{aim.path[:200]} was not kept")
        query = tuple((name, tuple(values)) for name, values in sorted(request.query.items()))
        asked = (request.path, request.base_url, request.headers.get("accept", ""), query)
        key = (self._entry.key, f"{artifact.record.hex()} {aim.path} {asked!r}")

        async def build() -> Response:
            return await self._rewrite(request, aim, found)

        return await self._engine.shelf.get(key, lambda: 0, build)

    async def _rewrite(self, request: Request, aim: Aim, found: Found) -> Response:
        kept = await self._load(aim, found)
        if len(kept.data) > THREAD_FROM:
            return await trio.to_thread.run_sync(self._remote.respond, request, aim, kept)
        return self._remote.respond(request, aim, kept)

    async def _load(self, aim: Aim, found: Found) -> Kept:
        """A kept document's bytes, from here or from a peer."""
        artifact = found.artifact
        if artifact is None:
            raise UpstreamError(f"{aim.path[:200]} was not kept")
        load = self._engine.parts.blobs.load
        data = b"" if aim.whole else await load(artifact.digest, limit=DOCUMENT_MAX)
        return Kept(origin_of(artifact), data, artifact)

    def _file(self, request: Request, aim: Aim, found: Found) -> Response:
        """A file, kept or arriving."""
        if found.artifact is not None:
            held = found.artifact
            response = self._remote.respond(request, aim, Kept(origin_of(held), b"", held))
            return replace(
                response,
                content=BlobContent(held.digest, held.size, held.manifest_id, held),
                etag=str(held.digest),
                modified=held.published,
                immutable=self._class(aim) is Freshness.IMMUTABLE,
            )
        flight = found.flight
        if flight is None or flight.spool is None:
            raise UpstreamError(f"{aim.path[:200]} was not kept")
        response = self._remote.respond(request, aim, Kept(flight.origin))
        return replace(
            response,
            content=Following(flight.spool, lambda: flight.artifact),
            etag=_etag(flight.promise),
        )

    async def _head(self, request: Request, aim: Aim) -> Response:
        """HEAD of a file: what is kept tells; else the upstream is asked for its head alone."""
        held = await self._held(aim)
        flight = self._engine.under_way(self._entry.key, aim.path)
        offline = self._upstream.offline or self._engine.local.offline
        if held is not None or flight is not None or offline:
            found = await self.obtain(aim)
            return self._file(request, aim, found)
        if self._missing(aim):
            raise NotFoundError(f"upstream has no {aim.path[:200]}")
        promise = await self.promise(aim)
        client = await self._engine.client(self._entry)
        reference = promise.url or aim.url
        headers = {"accept": aim.accept or "*/*"}
        async with client.open("HEAD", reference, headers, scope=aim.scope) as reply:
            status, length, kind = reply.status, reply.length, reply.headers.get("content-type", "")
        if status in {404, 410}:
            self._engine.states.checked(
                self._entry.key, aim.path, self._engine.clock(), missing=True
            )
            raise NotFoundError(f"upstream has no {aim.path[:200]}")
        if status != 200:
            raise UpstreamError(f"upstream answers {status}")
        response = self._remote.respond(request, aim, Kept(Origin(media_type=kind)))
        size = promise.size if promise.size is not None else length
        return replace(response, content=Announced(size), etag=_etag(promise))


def _etag(promise: Promise) -> str:
    """The ETag that content will have once it is kept, where its digest was promised."""
    sha256 = promise.digests.get("sha256", "")
    return f"sha256:{sha256}" if sha256 else ""
