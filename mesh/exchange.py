"""The chunk exchange: several blobs from several peers at once.  Pure.  Spec: docs/mesh.md §8.

Messages, answers of the store and the passing of time go in; effects come out, to be performed in
order.  Whatever a peer sends is measured against what it was asked: what does not fit is thrown
away, and the culprit is named.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from mesh import bits
from mesh.asking import Asking
from mesh.beliefs import ABSENT, OPEN, PeerBelief
from mesh.download import Download
from mesh.effects import DropBulk, Effect, Finish, GiveUp, Open, ServeManifest
from mesh.finding import HOPS_MAX, Finding, due
from mesh.journal import COMPLETE, Journal
from mesh.limits import Limits
from mesh.messages import (
    COURIER,
    PARTIAL,
    URGENT,
    Bitfield,
    Find,
    Forget,
    Have,
    HaveBlob,
    ManifestGet,
    ManifestPage,
    Message,
)
from mesh.receiving import Receiving
from mesh.requests import Requests
from store.chunks import Manifest
from store.errors import ManifestInvalidError

KEEP = 600.0  # seconds that a search goes on when nobody waits for it any more
PRIORITIES = ("for a client", "for the ledger", "by policy", "to repair", "to carry on")
TICK = 0.1  # seconds between looks at the clock while chunks are awaited


class Exchange:
    """What one node fetches, and from whom."""

    def __init__(self, node: bytes, rng: random.Random, site: str = "") -> None:
        self.node = node
        self.peers: dict[bytes, PeerBelief] = {}
        self.downloads: dict[bytes, Download] = {}
        self.finding = Finding(node, self.peers, self.downloads)
        self.journal = Journal()
        self.limits = Limits()
        self._requests = Requests(self.peers, self.downloads, journal=self.journal)
        self._asking = Asking(
            node, self.peers, self.downloads, self._requests, rng, site, self.limits
        )
        self._receiving = Receiving(
            self.peers, self.downloads, self._requests, self._asking, self.journal
        )

    # --- links ---------------------------------------------------------------------------------
    def linked(self, peer: bytes, now: float, site: str = "") -> list[Effect]:
        """A control link is up: ask the peer for what we look for."""
        belief = self.peers.setdefault(peer, PeerBelief(peer))
        belief.linked, belief.bulk, belief.bulk_retry_at = True, ABSENT, 0.0
        belief.failures, belief.snubbed, belief.site = 0, False, site
        belief.history.came(now)
        effects: list[Effect] = []
        for download in self.downloads.values():
            effects += self.finding.seek(download, now)
        return effects

    def unlinked(self, peer: bytes, now: float) -> list[Effect]:
        """The control link is gone, and with it all that the peer owed us."""
        belief = self.peers.get(peer)
        if belief is None:
            return []
        self._requests.drop_peer(peer, "the link is gone", now)
        belief.linked, belief.bulk = False, ABSENT
        belief.history.went(now)
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
        self._requests.drop_peer(peer, "its bulk socket is gone", now)
        belief.bulk = ABSENT
        belief.fail(now)
        return self.schedule(now)

    def stuck(self, peer: bytes, now: float) -> list[Effect]:
        """The peer is well, but its bulk socket does not move: try with a fresh one."""
        belief = self.peers.get(peer)
        if belief is None or belief.bulk != OPEN:
            return []
        self._requests.drop_peer(peer, "its bulk socket does not move", now)
        belief.bulk = ABSENT
        belief.fail(now)
        return [DropBulk(peer, "it does not move"), *self.schedule(now)]

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
        self.journal.begin(blob, PRIORITIES[priority], now)
        effects: list[Effect] = []
        if download is None:
            signed = bool(manifest)
            download = Download(blob, size, manifest, signed, now, hops=HOPS_MAX, named=size)
            effects += self._begin(download, now)
        elif (size or manifest) and not download.authenticated:
            effects += self._authenticate(download, size, manifest)
        download.local += 1
        download.path = ()  # we want it for ourselves: everybody may be asked
        download.priority = min(download.priority, priority)
        download.hops = HOPS_MAX
        return [*effects, *self.finding.widen(download, now), *self._asking.plan(download, now)]

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
        """A record names the size, or the manifest too, of what we fetch on hearsay so far."""
        if not download.agrees(size, manifest):
            yield from self._requests.drop_blob(download)
        download.vouch(size, manifest)
        if download.settle_manifest():
            yield from self._open(download)

    def opened(self, manifest: Manifest, have: int, now: float) -> list[Effect]:
        """The partial blob is open; ``have`` chunks are in it already."""
        download = self.downloads.get(manifest.blob.raw)
        if download is None or not download.awaits(manifest.id):
            return []  # it is believed no longer, or nobody waits for it
        download.opening, download.open, download.have, download.opened_at = False, True, have, now
        self.journal.opened(download.blob, download.count, have.bit_count(), now)
        effects = list(self.finding.state_to_all(download, now))
        for holder in download.holders.values():
            if holder.state == PARTIAL:  # its bitfield was of no use before
                holder.asked_at = -1e9
        effects += [*self.finding.seek(download, now), *self._asking.plan(download, now)]
        return effects + self._after_progress(download, now)

    def readers(self, blob: bytes, chunks: Iterable[int], now: float) -> list[Effect]:
        """Waiting clients have come to these chunks."""
        download = self.downloads.get(blob)
        come = tuple(sorted(set(chunks)))
        if download is None or not download.open or come == download.readers:
            return []
        download.readers = come
        return self._asking.plan(download, now)

    def written(
        self,
        blob: bytes,
        peer: bytes,
        span: tuple[int, int],
        bad: Iterable[int],
        now: float,
        *,
        have: int | None = None,
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
        effects: list[Effect] = []
        if wrong:
            reason = f"sent wrong bytes for a chunk of sha256:{blob.hex()}"
            effects += self._receiving.blame(peer, reason, now, blob)
            effects += self._asking.refill(now)  # what a banned peer owed
        return effects + self._after_progress(download, now)

    def finished(self, manifest: Manifest, now: float, *, right: bool) -> list[Effect]:
        """The whole was judged: it is published, or it did not hash to its digest."""
        if (download := self.downloads.get(blob := manifest.blob.raw)) is None:
            return []
        if right:
            self.journal.end(blob, COMPLETE, manifest.size, now)
            del self.downloads[blob]
            off = list(self._requests.drop_blob(download))
            said = self.finding.complete(blob, manifest.size, manifest.id)
            more = self._asking.refill(now) if off else []
            return [*off, *said, *self.finding.forget(download), *more]
        if not download.finishing or download.manifest_id != manifest.id:
            return []  # it is believed no longer: what is fetched now may be right
        effects = list(self._requests.drop_blob(download))
        for culprit in download.forget_manifest():
            effects += self.misled(culprit, blob, "gave a manifest of other bytes", now)
        download.choose_manifest()
        return effects + self.schedule(now)

    def misled(self, peer: bytes, blob: bytes, reason: str, now: float) -> list[Effect]:
        """A peer gave us what it must not give: a strike."""
        return list(self._receiving.blame(peer, reason, now, blob))

    def abandoned(self, blob: bytes, now: float) -> list[Effect]:
        """The store cannot go on with this blob."""
        download = self.downloads.pop(blob, None)
        if download is None:
            return []
        self.journal.end(blob, "given up", download.size, now)
        off = self._requests.drop_blob(download)
        return [*off, *self.finding.gone(download), *self.schedule(now)]

    def looked_up(
        self, peer: bytes, blob: bytes, found: tuple[int, bytes] | None, now: float
    ) -> list[Effect]:
        """Answer of the store to LookUp: (size, manifest id) if the blob is here."""
        effects, relay = self.finding.looked_up(peer, blob, found, now)
        if relay is None:
            return effects
        self.journal.begin(blob, f"by {peer.hex()[:8]}, through us", now)
        return effects + self._begin(relay, now)

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
                return [ServeManifest(peer, message.blob, message.manifest, message.page)]
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
            self.journal.found(message.blob, peer, message.state, now)
            if download.settle_manifest():
                effects += self._open(download)
            effects += self.finding.widen(download, now)
            effects += self._tell_vain(download, now)
        elif isinstance(message, ManifestPage):
            return [*self._hear_page(download, peer, message, now), *self.schedule(now)]
        else:
            freed = self.finding.hear_chunks(download, peer, message, now)
            return self._asking.heard(peer, download, now, freed=freed)
        return [*effects, *self._asking.plan(download, now)]

    def _hear_page(
        self, download: Download, peer: bytes, said: ManifestPage, now: float
    ) -> Iterator[Effect]:
        if said.manifest != download.manifest_id or not download.expects(said.page, peer):
            return
        if not said.data:
            self._receiving.no_manifest(download, peer, now)
            return
        try:
            if download.page(said.page, said.data, peer):
                self.peers[peer].answered(now)
            if download.manifest is not None:
                yield from self._open(download)
        except ManifestInvalidError as error:
            yield from self._receiving.blame(peer, f"gave a bad manifest page: {error}", now)
            if (holder := download.holders.get(peer)) is not None:  # else it has a link anew
                holder.bad = True

    def _open(self, download: Download) -> Iterator[Effect]:
        if not download.opening and not download.open and download.manifest is not None:
            download.opening = True
            yield Open(download.blob, download.manifest)

    def received_bulk(self, peer: bytes, message: Message, now: float) -> list[Effect]:
        """Take a message about a request of ours, from the bulk socket."""
        return self._receiving.received(peer, message, now)

    # --- deciding ------------------------------------------------------------------------------
    def _after_progress(self, download: Download, now: float) -> list[Effect]:
        if download.complete and not download.finishing:
            download.finishing = True
            return [Finish(download.blob, download.manifest_id)]  # which is told of instead
        return list(self._tell_news(download, now))

    def schedule(self, now: float) -> list[Effect]:
        """Ask for as much as our peers can usefully send."""
        return self._asking.schedule(now)

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
                why = f"nothing for {now - belief.progress_at:.1f} s"
                for blob in self._requests.owed_by(belief.node):
                    self.journal.stalled(blob, belief.node, why, now)
        self.finding.expire(now)
        for download in list(self.downloads.values()):
            for holder in download.holders.values():
                holder.forgive(now)
            effects += self._receiving.reconsider(download, now)
            effects += self.finding.seek(download, now)
            effects += self.finding.widen(download, now)
            effects += self._tell_vain(download, now)
            effects += self._tell_news(download, now)
            if self._lapsed(download, now):
                effects += self.abandoned(download.blob, now)
                effects.append(GiveUp(download.blob))
        return effects + self.schedule(now)

    def _tell_news(self, download: Download, now: float) -> Iterator[Effect]:
        """Tell of what has come and of what will, unless that was done a short while ago."""
        if download.open and due(download, self.finding.interests.get(download.blob, ()), now):
            yield from self.finding.news(download, self._requests.claimed(download)[0], now)

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
        if download.local or download.finishing or now < download.wanted_until:
            return False
        holders = download.holders.items()
        return not any(each.gives and self.peers[peer].usable(now) for peer, each in holders)
