"""The chunk exchange: several blobs from several peers at once.  Pure.  Spec: docs/mesh.md §8.

Messages, answers of the store and the passing of time go in; effects come out, to be performed in
order.  Whatever a peer sends is measured against what it was asked: what does not fit is thrown
away, and the culprit is named.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from mesh import bits
from mesh.beliefs import ABSENT, OPEN, OPENING, PeerBelief
from mesh.download import PAGE_TIMEOUT, Download, Request
from mesh.effects import (
    DropBulk,
    Effect,
    Finish,
    GiveUp,
    Open,
    OpenBulk,
    ServeManifest,
    Tell,
    TellBulk,
    Write,
)
from mesh.finding import HAVE_INTERVAL, HOPS_MAX, Finding
from mesh.messages import (
    COURIER,
    GONE,
    PARTIAL,
    SEEKING,
    URGENT,
    Bitfield,
    Busy,
    Cancel,
    Data,
    Done,
    Find,
    Forget,
    Have,
    HaveBlob,
    ManifestGet,
    ManifestPage,
    Message,
    Nope,
    Redirect,
    Want,
)
from mesh.scheduler import ENDGAME_SHARE, RUN_MAX, Ask, Pending, endgame, plan
from mesh.wire import CHUNK_MAX
from store.errors import ManifestInvalidError

BUDGET_MAX = 32 * 1024 * 1024  # bytes asked for and not here yet, over all peers
KEEP = 600.0  # seconds that a search goes on when nobody waits for it any more
TICK = 0.1  # seconds between looks at the clock while chunks are awaited
GROUP_TIME = 0.05  # seconds of a path's rate that one Data may carry
GROUP_MIN = 64 * 1024


class Exchange:
    """What one node fetches, and from whom."""

    def __init__(self, node: bytes, rng: random.Random) -> None:
        self.node = node
        self.peers: dict[bytes, PeerBelief] = {}
        self.downloads: dict[bytes, Download] = {}
        self.finding = Finding(node, self.peers, self.downloads)
        self._rng = rng
        self._requests: dict[int, Request] = {}
        self._cancelled: dict[int, int] = {}  # request → chunks that may still come
        self._request_count = 0
        self._news_at = 0.0

    # --- links ---------------------------------------------------------------------------------
    def linked(self, peer: bytes, now: float) -> list[Effect]:
        """A control link is up: ask the peer for what we look for."""
        belief = self.peers.setdefault(peer, PeerBelief(peer))
        belief.linked, belief.bulk, belief.bulk_retry_at = True, ABSENT, 0.0
        belief.failures, belief.snubbed = 0, False
        effects: list[Effect] = []
        for download in self.downloads.values():
            effects += self.finding.seek(download, now)
        return effects

    def unlinked(self, peer: bytes, now: float) -> list[Effect]:
        """The control link is gone, and with it all that the peer owed us."""
        belief = self.peers.get(peer)
        if belief is None:
            return []
        self._drop_requests(peer)
        belief.linked, belief.bulk = False, ABSENT
        self.finding.unlinked(peer)
        return self.schedule(now)

    def bulk_opened(self, peer: bytes, now: float) -> list[Effect]:
        """The bulk socket is up."""
        belief = self.peers.setdefault(peer, PeerBelief(peer))
        belief.bulk = OPEN
        return self.schedule(now)

    def bulk_closed(self, peer: bytes, now: float) -> list[Effect]:
        """The bulk socket is gone, or could not be opened."""
        belief = self.peers.get(peer)
        if belief is None or belief.bulk == ABSENT:
            return []
        self._drop_requests(peer)
        belief.bulk = ABSENT
        belief.fail(now)
        return self.schedule(now)

    # --- what this node wants ------------------------------------------------------------------
    def want(
        self,
        blob: bytes,
        now: float,
        *,
        size: int = 0,
        manifest: bytes = b"",
        priority: int = URGENT,
    ) -> list[Effect]:
        """Fetch a blob: begin, or join the fetch under way.  Balance it with ``unwant``.

        ``manifest`` must come from a signed record; without it, any holder's is tried.
        """
        download = self.downloads.get(blob)
        effects: list[Effect] = []
        if download is None:
            download = Download(blob, size, manifest, bool(manifest), now, hops=HOPS_MAX)
            effects += self._begin(download, now)
        elif manifest and not download.authenticated:
            effects += self._authenticate(download, size, manifest)
        download.local += 1
        download.priority = min(download.priority, priority)
        download.hops = max(download.hops, HOPS_MAX - len(download.path))
        return effects + list(self.finding.widen(download, now)) + self.schedule(now)

    def unwant(self, blob: bytes, now: float) -> None:
        """One waiter less.  The fetch goes on while somebody can serve it."""
        download = self.downloads.get(blob)
        if download is not None:
            download.local = max(0, download.local - 1)
            download.wanted_until = max(download.wanted_until, now + KEEP)
            if not download.local:
                download.readers, download.priority = (), COURIER

    def _begin(self, download: Download, now: float) -> list[Effect]:
        self.downloads[download.blob] = download
        effects = list(self.finding.seek(download, now))
        if download.settle_manifest():
            effects += self._open(download)
        return effects

    def _authenticate(self, download: Download, size: int, manifest: bytes) -> Iterator[Effect]:
        """A signed record names the manifest of what we fetch on hearsay so far."""
        if download.manifest_id != manifest:
            self._drop_blob_requests(download)
            download.forget_manifest()
            download.manifest_id, download.size = manifest, size
        download.authenticated = True
        if download.settle_manifest():
            yield from self._open(download)

    def opened(self, blob: bytes, have: int, now: float) -> list[Effect]:
        """The partial blob is open; ``have`` chunks are in it already."""
        download = self.downloads.get(blob)
        if download is None or download.manifest is None:
            return []
        download.opening, download.open, download.have = False, True, have
        effects = list(self.finding.state_to_all(download, now))
        for peer in list(download.holders):  # their bitfields were of no use before
            download.holders[peer].asked_at = -1e9
        effects += self.finding.seek(download, now)
        return effects + self._after_progress(download, now)

    def readers(self, blob: bytes, chunks: Iterable[int], now: float) -> list[Effect]:
        """Waiting clients have come to these chunks."""
        download = self.downloads.get(blob)
        if download is None or not download.open:
            return []
        download.readers = tuple(sorted(set(chunks)))
        return self.schedule(now)

    def written(
        self,
        blob: bytes,
        peer: bytes,
        span: tuple[int, int],
        bad: Iterable[int],
        now: float,
        *,
        have: int | None = None,
        readers: Iterable[int] | None = None,
    ) -> list[Effect]:
        """The store has judged ``count`` chunks from ``first``; ``bad`` ones did not verify.

        ``have`` replaces what we believe is here, where one chunk filled several places.
        """
        download = self.downloads.get(blob)
        if download is None or not download.open:
            return []
        first, count = span
        wrong = bits.of(bad)
        good = bits.span(first, first + count) & ~wrong
        download.writing &= ~bits.span(first, first + count)
        before = download.have
        download.have = (download.have | good) if have is None else have
        download.news |= download.have & ~before
        if readers is not None:
            download.readers = tuple(sorted(set(readers)))
        effects: list[Effect] = []
        if wrong:
            effects += self._blame(
                peer, f"sent wrong bytes for a chunk of sha256:{blob.hex()}", now
            )
        return effects + self._after_progress(download, now)

    def _blame(self, peer: bytes, reason: str, now: float) -> Iterator[Effect]:
        belief = self.peers.get(peer)
        if belief is None:
            return
        belief.strike(reason, now)
        if now < belief.banned_until:
            self._drop_requests(peer)
            if belief.bulk != ABSENT:
                belief.bulk = ABSENT
                yield DropBulk(peer, reason)

    def finished(self, blob: bytes, now: float, *, right: bool) -> list[Effect]:
        """The whole was judged: it is published, or it did not hash to its digest."""
        download = self.downloads.get(blob)
        if download is None:
            return []
        if right:
            del self.downloads[blob]
            self._drop_blob_requests(download)
            said = self.finding.complete(blob, download.size, download.manifest_id)
            return [*said, *self.finding.forget(download), *self.schedule(now)]
        effects: list[Effect] = []
        for culprit in download.forget_manifest():
            effects += self._blame(culprit, "gave a manifest of other bytes", now)
        download.choose_manifest()
        return effects + self.schedule(now)

    def abandoned(self, blob: bytes, now: float) -> list[Effect]:
        """The store cannot go on with this blob."""
        download = self.downloads.pop(blob, None)
        if download is None:
            return []
        self._drop_blob_requests(download)
        return [*self.finding.gone(download), *self.schedule(now)]

    def looked_up(
        self, peer: bytes, blob: bytes, found: tuple[int, bytes] | None, now: float
    ) -> list[Effect]:
        """Answer of the store to LookUp: (size, manifest id) if the blob is here."""
        effects, relay = self.finding.looked_up(peer, blob, found, now)
        return effects if relay is None else effects + self._begin(relay, now)

    # --- control messages ----------------------------------------------------------------------
    def received(self, peer: bytes, message: Message, now: float) -> list[Effect]:
        """Take a control message.  Raises RemoteProtocolError: then drop the link."""
        match message:
            case Find():
                return list(self.finding.hear_find(peer, message, now))
            case Forget():
                self.finding.drop_interest(peer, message.blob)
                return []
            case ManifestGet():
                asked = ServeManifest(peer, message.blob, message.manifest, message.page)
                return [asked]
            case HaveBlob() | Bitfield() | Have() | ManifestPage():
                download = self.downloads.get(message.blob)
                if download is None:
                    return []
                return self._hear(download, peer, message, now)
            case _:
                return []

    def _hear(
        self,
        download: Download,
        peer: bytes,
        message: HaveBlob | Bitfield | Have | ManifestPage,
        now: float,
    ) -> list[Effect]:
        effects: list[Effect] = []
        if isinstance(message, HaveBlob):
            self.finding.hear_have_blob(download, peer, message)
            if download.settle_manifest():
                effects += self._open(download)
            effects += self.finding.widen(download, now)
            effects += self._tell_vain(download, now)
        elif isinstance(message, ManifestPage):
            effects += self._hear_page(download, peer, message, now)
        else:
            self.finding.hear_chunks(download, peer, message)
        return effects + self.schedule(now)

    def _hear_page(
        self, download: Download, peer: bytes, said: ManifestPage, now: float
    ) -> Iterator[Effect]:
        asked = download.asked_pages.get(said.page)
        if asked is None or asked[0] != peer or said.manifest != download.manifest_id:
            return
        try:
            if said.data:
                download.page(said.page, said.data, peer)
                if download.manifest is not None:
                    yield from self._open(download)
                return
        except ManifestInvalidError as error:
            yield from self._blame(peer, f"gave a bad manifest page: {error}", now)
        download.asked_pages.pop(said.page, None)
        download.holders[peer].bad = True

    def _open(self, download: Download) -> Iterator[Effect]:
        if not download.opening and not download.open and download.manifest is not None:
            download.opening = True
            yield Open(download.blob, download.manifest)

    # --- bulk messages -------------------------------------------------------------------------
    def received_bulk(self, peer: bytes, message: Message, now: float) -> list[Effect]:
        """Take a message about a request of ours."""
        match message:
            case Data():
                return self._hear_data(peer, message, now)
            case Done():
                return self._end_request(peer, message.request, now)
            case Busy():
                self.peers[peer].busy_until = now + min(message.retry_ms, 10_000) / 1000
                return self._end_request(peer, message.request, now)
            case Redirect():
                return self._end_request(peer, message.request, now)
            case Nope():
                return self._refused(peer, message, now)
            case _:
                return []

    def _hear_data(self, peer: bytes, data: Data, now: float) -> list[Effect]:
        belief, request = self.peers[peer], self._requests.get(data.request)
        mask = bits.span(data.first, data.first + data.count)
        if request is None or request.peer != peer:
            return self._hear_unasked(belief, data, mask, now)
        download = self.downloads[request.blob]
        size = len(data.raw)
        if mask & ~request.chunks or size != download.length(data.first, data.count):
            self._forget_request(request)
            return [
                *self._blame(peer, "sent other chunks than asked for", now),
                *self.schedule(now),
            ]
        belief.arrived(size, now)
        request.chunks &= ~mask
        request.size -= size
        if not request.chunks:
            self._forget_request(request)
        effects = list(self._overtake(download, request, mask))
        if mask & ~download.missing:
            belief.wasted += size
            download.refetched += size
        if mask & download.missing:
            download.writing |= mask & download.missing
            effects.append(Write(request.blob, peer, data.first, data.count, data.raw))
        return effects + self._refill(belief, download, now)

    def _hear_unasked(self, belief: PeerBelief, data: Data, mask: int, now: float) -> list[Effect]:
        """Chunks of a request that was cancelled are on their way for a while; others never."""
        belief.wasted += len(data.raw)
        late = self._cancelled.get(data.request, 0)
        if mask & ~late:
            return list(self._blame(belief.node, "sent chunks that nobody asked for", now))
        self._cancelled[data.request] = late & ~mask
        return []

    def _overtake(self, download: Download, winner: Request, mask: int) -> Iterator[Effect]:
        """Call off what other peers still owe of chunks that have come."""
        for other in [r for r in download.requests.values() if r.chunks & mask and r is not winner]:
            gone = other.chunks & mask
            size = sum(download.length(index) for index in bits.members(gone))
            other.chunks &= ~gone
            other.size -= size
            self.peers[other.peer].let_go(size)
            if not other.chunks:
                self._forget_request(other)
                self._cancelled[other.id] = gone
                yield TellBulk(other.peer, Cancel(other.id))

    def _refill(self, belief: PeerBelief, download: Download, now: float) -> list[Effect]:
        """Plan anew once there is room for a request worth its message."""
        source = belief.source(0, download.length(0, download.count) // max(1, download.count))
        room = source.room >= min(RUN_MAX, source.window) // 2
        return self.schedule(now) if room or not belief.outstanding else []

    def _end_request(self, peer: bytes, number: int, now: float) -> list[Effect]:
        request = self._requests.get(number)
        if request is not None and request.peer == peer:
            self._forget_request(request)
        return self.schedule(now)

    def _refused(self, peer: bytes, said: Nope, now: float) -> list[Effect]:
        request, belief = self._requests.get(said.request), self.peers[peer]
        if request is None or request.peer != peer:
            return []
        download = self.downloads[request.blob]
        holder = download.holders.get(peer)
        if said.reason == GONE and holder is not None:
            held = download.chunks_of(holder)
            holder.state, holder.chunks = PARTIAL, held & ~request.chunks
            belief.notes.append(f"said it had chunks of sha256:{request.blob.hex()}, and had not")
        else:
            belief.busy_until = now + 1.0
        self._forget_request(request)
        return self.schedule(now)

    def _forget_request(self, request: Request) -> None:
        self._requests.pop(request.id, None)
        download = self.downloads.get(request.blob)
        if download is not None:
            download.requests.pop(request.id, None)
        self.peers[request.peer].let_go(request.size)
        while len(self._cancelled) > 1024:
            del self._cancelled[next(iter(self._cancelled))]

    def _drop_requests(self, peer: bytes) -> None:
        for request in [r for r in self._requests.values() if r.peer == peer]:
            self._forget_request(request)

    def _drop_blob_requests(self, download: Download) -> None:
        for request in list(download.requests.values()):
            self._cancelled[request.id] = request.chunks
            self._forget_request(request)

    # --- deciding ------------------------------------------------------------------------------
    def _after_progress(self, download: Download, now: float) -> list[Effect]:
        if download.complete and not download.finishing:
            download.finishing = True
            return [Finish(download.blob)]
        return self.schedule(now)

    def schedule(self, now: float) -> list[Effect]:
        """Ask for as much as our peers can usefully send."""
        effects: list[Effect] = []
        budget = BUDGET_MAX - sum(belief.outstanding for belief in self.peers.values())
        order = sorted(self.downloads.values(), key=lambda d: (d.priority, d.started))
        for download in order:
            if download.manifest is None:
                effects += self._ask_manifest(download, now)
            elif download.open and not download.finishing and budget > 0:
                effects += self._ask_chunks(download, budget, now)
                budget = BUDGET_MAX - sum(b.outstanding for b in self.peers.values())
        return effects

    def _ask_manifest(self, download: Download, now: float) -> Iterator[Effect]:
        if not download.manifest_id:
            return
        able = [
            peer
            for peer, holder in download.holders.items()
            if download.usable_holder(holder) and self.peers[peer].usable(now)
        ]
        able.sort(key=lambda peer: (self.peers[peer].rtt.smoothed, peer))
        for number in download.pages_wanted(now) if able else ():
            peer = able[0] if number == 0 else able[number % len(able)]
            wait = PAGE_TIMEOUT + 4 * self.peers[peer].rtt.smoothed
            download.asked_pages[number] = (peer, now + wait)
            yield Tell(peer, ManifestGet(download.blob, download.manifest_id, number))

    def _ask_chunks(self, download: Download, budget: int, now: float) -> Iterator[Effect]:
        average = download.size // max(1, download.count)
        claimed, sources = self._claimed(download), []
        for peer, holder in download.holders.items():
            belief, has = self.peers[peer], download.chunks_of(holder)
            if not has & download.missing or not belief.usable(now):
                continue
            if belief.bulk == OPEN:
                sources.append(belief.source(has, average))
            elif belief.bulk == ABSENT and now >= belief.bulk_retry_at:
                belief.bulk = OPENING
                yield OpenBulk(peer)
        if not sources:
            return
        blob = download.view(claimed, *self._rank(download))
        asks = plan(blob, sources, budget, self._rng) if blob.needed else self._endgame(download)
        for ask in asks:
            yield self._request(download, ask, now)

    def _claimed(self, download: Download) -> int:
        """Return the chunks that are on their way from peers that do not stall."""
        claimed = 0
        for request in download.requests.values():
            if not self.peers[request.peer].snubbed:
                claimed |= request.chunks
        return claimed

    def _rank(self, download: Download) -> tuple[int, int]:
        """Return our place among those who fetch this blob, and how many they are."""
        if not download.local:
            return 0, 1
        fetching = {
            peer
            for peer, holder in download.holders.items()
            if holder.state in (PARTIAL, SEEKING) and self.peers[peer].linked
        }
        order = sorted({*fetching, self.node})
        return order.index(self.node), len(order)

    def _endgame(self, download: Download) -> list[Ask]:
        allowance = max(int(download.size * ENDGAME_SHARE), RUN_MAX) - download.duplicated
        average = download.size // max(1, download.count)
        sources = [
            self.peers[peer].source(download.chunks_of(holder), average)
            for peer, holder in download.holders.items()
            if self.peers[peer].bulk == OPEN
        ]
        pending = [
            Pending(r.id, r.peer, r.chunks, r.size, r.copies) for r in download.requests.values()
        ]
        view = download.view(self._claimed(download), 0, 1)
        asks = endgame(pending, sources, view, allowance=allowance)
        download.duplicated += sum(ask.size for ask in asks)
        for ask in asks:
            for request in download.requests.values():
                if request.chunks & bits.of(ask.chunks):
                    request.copies = 2
        return asks

    def _request(self, download: Download, ask: Ask, now: float) -> Effect:
        belief = self.peers[ask.peer]
        self._request_count += 1
        chunks = bits.of(ask.chunks)
        request = Request(self._request_count, download.blob, ask.peer, chunks, ask.size)
        self._requests[request.id] = download.requests[request.id] = request
        belief.asked(ask.size, now)
        group = int(min(max(belief.rate.average * GROUP_TIME, GROUP_MIN), CHUNK_MAX))
        priority = URGENT if ask.urgent else download.priority
        want = Want(
            request.id,
            download.blob,
            download.manifest_id,
            bits.flat(chunks),
            group,
            0,
            priority,
        )
        return TellBulk(ask.peer, want)

    # --- time ----------------------------------------------------------------------------------
    def busy_with(self, peer: bytes) -> bool:
        """Tell whether work is pending for which this peer could matter."""
        return bool(self.downloads)

    def deadline(self, now: float) -> float | None:
        """Return when ``tick`` must be called, at the latest."""
        if self.downloads:
            return now + TICK
        return now + 5.0 if self.finding.interests else None

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: notice who stalls, renew searches, pass news on, give up."""
        effects: list[Effect] = []
        for belief in self.peers.values():
            if belief.stalled(now):
                belief.snubbed = True
                belief.failures = min(belief.failures + 1, 6)
                belief.notes.append("stalled while it owed us chunks")
        self.finding.expire(now)
        gather = now >= self._news_at + HAVE_INTERVAL
        for download in list(self.downloads.values()):
            effects += self.finding.seek(download, now)
            effects += self.finding.widen(download, now)
            effects += self._tell_vain(download, now)
            if gather and download.news:
                effects += self.finding.news(download)
            if self._lapsed(download, now):
                effects += self.abandoned(download.blob, now)
                effects.append(GiveUp(download.blob))
        if gather:
            self._news_at = now
        return effects + self.schedule(now)

    def _tell_vain(self, download: Download, now: float) -> list[Effect]:
        """Tell those for whom we look when it turns out to be in vain, or no longer."""
        before, download.vain = download.vain, self.finding.hopeless(download, now)
        if download.vain is before or download.local:
            return []
        return list(self.finding.state_to_all(download, now))

    def hopeless(self, blob: bytes, now: float) -> bool:
        """Tell whether a blob that is wanted is nowhere, as far as our neighbours know."""
        download = self.downloads.get(blob)
        return download is not None and self.finding.hopeless(download, now)

    def _lapsed(self, download: Download, now: float) -> bool:
        """Tell whether nobody waits for it any more, and nobody could serve it."""
        if download.local or now < download.wanted_until:
            return False
        return not any(
            holder.gives and self.peers[peer].usable(now)
            for peer, holder in download.holders.items()
        )
