"""What to ask of whom now: the scheduler's plans, turned into messages.  Pure.

Spec: docs/mesh.md §8.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from mesh import bits
from mesh.beliefs import ABSENT, OPEN, OPENING, PeerBelief
from mesh.download import PAGE_TIMEOUT, Download
from mesh.effects import Effect, OpenBulk, Tell
from mesh.messages import PARTIAL, SEEKING, ManifestGet
from mesh.requests import Requests
from mesh.scheduler import ENDGAME_SHARE, RUN_MAX, Ask, Pending, endgame, plan

BUDGET_MAX = 32 * 1024 * 1024  # bytes asked for and not here yet, over all peers


@dataclass(slots=True)
class Asking:
    """Asks for as much as the peers can usefully send."""

    node: bytes
    peers: dict[bytes, PeerBelief]
    downloads: dict[bytes, Download]
    requests: Requests
    rng: random.Random

    def schedule(self, now: float) -> list[Effect]:
        """Plan anew; the most urgent blobs take the room first."""
        effects: list[Effect] = []
        for download in sorted(self.downloads.values(), key=lambda d: (d.priority, d.started)):
            if download.manifest is None:
                effects += self._ask_manifest(download, now)
            elif download.open and not download.finishing and self._budget > 0:
                effects += self._ask_chunks(download, now)
        return effects

    @property
    def _budget(self) -> int:
        return BUDGET_MAX - sum(belief.outstanding for belief in self.peers.values())

    def refill(self, belief: PeerBelief, download: Download, now: float) -> list[Effect]:
        """Plan anew once there is room for a request worth its message."""
        source = belief.source(0, average(download))
        room = source.room >= min(RUN_MAX, source.window) // 2
        return self.schedule(now) if room or not belief.outstanding else []

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

    def _ask_chunks(self, download: Download, now: float) -> Iterator[Effect]:
        sources = []
        for peer, holder in download.holders.items():
            belief, has = self.peers[peer], download.chunks_of(holder)
            if not has & download.missing or not belief.usable(now):
                continue
            if belief.bulk == OPEN:
                sources.append(belief.source(has, average(download)))
            elif belief.bulk == ABSENT and now >= belief.bulk_retry_at:
                belief.bulk = OPENING
                yield OpenBulk(peer)
        if not sources:
            return
        blob = download.view(self.requests.claimed(download), *self._rank(download))
        asks = plan(blob, sources, self._budget, self.rng) if blob.needed else self._late(download)
        for ask in asks:
            yield self.requests.issue(download, ask, now)

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

    def _late(self, download: Download) -> list[Ask]:
        """Everything has been asked for: ask twice for what would come far too late."""
        allowance = max(int(download.size * ENDGAME_SHARE), RUN_MAX) - download.duplicated
        sources = [
            self.peers[peer].source(download.chunks_of(holder), average(download))
            for peer, holder in download.holders.items()
            if self.peers[peer].bulk == OPEN
        ]
        pending = [
            Pending(r.id, r.peer, r.chunks, r.size, r.copies) for r in download.requests.values()
        ]
        view = download.view(self.requests.claimed(download), 0, 1)
        asks = endgame(pending, sources, view, allowance=allowance)
        download.duplicated += sum(ask.size for ask in asks)
        for ask in asks:
            for request in download.requests.values():
                if request.chunks & bits.of(ask.chunks):
                    request.copies = 2
        return asks


def average(download: Download) -> int:
    """Return the usual size of a chunk of this blob."""
    return download.size // max(1, download.count)
