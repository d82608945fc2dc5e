"""A remote repository's answer to a request: find, judge, fetch, respond."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urljoin

import msgspec
import trio

from formats.contract import BlobContent, Format, Request, Response
from formats.remote import DOCUMENT_MAX, Aim, Freshness, Kept, Origin, Promise
from node.directory import RepositoryEntry
from node.repositories.remote import freshness
from node.repositories.remote.engine import Engine, remote_of, upstream_of
from node.repositories.remote.flight import Flight, unlike
from node.repositories.remote.freshness import Verdict
from node.repositories.remote.spool import Following
from node.upstream.urls import join
from store.errors import (
    NoHolderError,
    NotFoundError,
    RegistryError,
    UnavailableError,
    UpstreamError,
)
from store.rows import Artifact

STALE_WARNING = '110 - "Response is Stale"'
FAILED_WARNING = '111 - "Revalidation Failed"'
LOOK_AGAIN = 5.0  # seconds after which an index may lack what is new
THREAD_FROM = 256 << 10  # bytes of a document whose rewriting is left to a thread


@dataclass(frozen=True, slots=True)
class Found:
    """What there is for an aim, and how it was come by."""

    result: str  # hit | miss | stale | revalidated
    artifact: Artifact | None = None
    flight: Flight | None = None  # still arriving
    age: float = 0.0
    warning: str = ""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What the client is told of it."""
        told = [("x-cache", self.result.upper())]
        if self.result != "miss":
            told.append(("age", str(max(0, int(self.age)))))
        if self.warning:
            told.append(("warning", self.warning))
        return tuple(told)


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

    async def prefetch(self, aim: Aim) -> Found:
        """Have something here that nobody has asked for yet; returns once it is whole."""
        found = await self.obtain(aim)
        if found.flight is None:
            return found
        await found.flight.done.wait()
        found.flight.check()
        return Found(found.result, found.flight.artifact)

    # --- obtaining -------------------------------------------------------------------------------
    async def obtain(self, aim: Aim) -> Found:
        """What there is for an aim, fetched or refreshed as its class asks."""
        held = await self._held(aim)
        kind = freshness.classify(aim.path, self._remote.classify(aim.path), self._upstream)
        if held is not None and kind is Freshness.IMMUTABLE:
            return await self._found_here(aim, held)
        if held is None and self._missing(aim):
            self._engine.parts.counts.lookup(self._entry.key, "negative")
            raise NotFoundError(f"upstream has no {aim.path[:200]}")
        promise = await self.promise(aim)
        if held is None:
            return await self._fetch(aim, promise)
        if promise.digests and not unlike(held, promise):
            return await self._found_here(aim, held)
        age = self._age(aim, held)
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

    async def _found_here(self, aim: Aim, held: Artifact) -> Found:
        """Something kept that holds; its bytes may be a peer's or the upstream's."""
        blobs = self._engine.parts.blobs
        if await blobs.store.has(held.digest):
            return Found("hit", held, age=self._age(aim, held))
        try:
            with trio.fail_after(self._upstream.timeout):
                await blobs.swarm.fetch(held.digest, size=held.size, manifest_id=held.manifest_id)
        except (NoHolderError, trio.TooSlowError):
            promise = Promise(digests={held.digest.algorithm: held.digest.hex}, size=held.size)
            told = await self._told_again(aim)
            return await self._fetch(aim, replace(told, digests=promise.digests, size=held.size))
        return Found("hit", held, age=self._age(aim, held))

    async def _told_again(self, aim: Aim) -> Promise:
        """Where the upstream has what nobody of us holds any more."""
        try:
            return await self.promise(aim)
        except (NotFoundError, UpstreamError, UnavailableError):
            return aim.promise

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
        """A document, rewritten; the same for everybody who asks in the same way."""
        if found.artifact is None:
            raise UpstreamError(f"{aim.path[:200]} was not kept")
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
            kind = self._remote.classify(aim.path)
            return replace(
                response,
                content=BlobContent(held.digest, held.size, held.manifest_id),
                etag=str(held.digest),
                modified=held.published,
                immutable=kind is Freshness.IMMUTABLE,
            )
        flight = found.flight
        if flight is None or flight.spool is None:
            raise UpstreamError(f"{aim.path[:200]} was not kept")
        response = self._remote.respond(request, aim, Kept(flight.origin))
        sha256 = flight.promise.digests.get("sha256", "")
        return replace(
            response, content=Following(flight.spool), etag=f"sha256:{sha256}" if sha256 else ""
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
        if size is None:
            return replace(response, content=b"")
        return replace(response, headers=(*response.headers, ("content-length", str(size))))


def based(aim: Aim, base: str) -> Aim:
    """The aim with absolute URLs."""
    index = based(aim.index, base) if aim.index is not None else None
    sidecars = tuple((algorithm, join(base, url)) for algorithm, url in aim.sidecars)
    return replace(aim, url=join(base, aim.url), index=index, sidecars=sidecars)


def absolute(promise: Promise, base: str) -> Promise:
    """The promise with an absolute URL, resolved where its document was found."""
    return replace(promise, url=urljoin(base, promise.url)) if promise.url else promise


def origin_of(artifact: Artifact) -> Origin:
    """Where kept bytes came from, if that is what their metadata says."""
    try:
        return msgspec.json.decode(artifact.metadata, type=Origin)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Origin()
