"""What to ask of whom now: the scheduler's plans, turned into messages.  Pure.

Spec: docs/mesh.md §8.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from mesh import bits
from mesh.beliefs import ABSENT, OPEN, OPENING, PeerBelief
from mesh.claims import CLAIM_MAX
from mesh.download import PAGE_TIMEOUT, Download
from mesh.effects import Effect, OpenBulk, Tell
from mesh.limits import Limits, Terms
from mesh.messages import PARTIAL, POLICY, SEEKING, ManifestGet
from mesh.requests import Requests
from mesh.scheduler import (
    ALONE,
    ENDGAME_SHARE,
    RUN_MAX,
    Ask,
    Blob,
    Pending,
    Place,
    Source,
    endgame,
    half_used,
    plan,
)

CLAIM_MIN = 2.0  # seconds that what others await is left to them, at least
EARLY_MAX = 4  # bulk sockets opened before it is known which chunks their peers have
BUDGET_MAX = 32 * 1024 * 1024  # bytes asked for and not here yet, over all peers


@dataclass(slots=True)
class Asking:
    """Asks for as much as the peers can usefully send."""

    node: bytes
    peers: dict[bytes, PeerBelief]
    downloads: dict[bytes, Download]
    requests: Requests
    rng: random.Random
    site: str = ""
    limits: Limits = field(default_factory=Limits)

    def schedule(self, now: float) -> list[Effect]:
        """Plan anew; the most urgent blobs take the room first."""
        return self._plan_all(self.downloads.values(), now)

    def refill(self, now: float) -> list[Effect]:
        """Plan anew what lacks chunks that nobody was asked for: there may be room for them."""
        return self._plan_all((d for d in self.downloads.values() if self._lacks(d)), now)

    def arrived(self, belief: PeerBelief, download: Download, now: float) -> list[Effect]:
        """Plan anew once a peer has room for a request worth its message.

        Costs a look at every blob under way, and plans those only of which something was asked of
        nobody: to plan thousands of small ones for every chunk would be most of the work.
        """
        if not self._has_room(belief, download, now) and not self._awaited(download):
            return []
        effects: list[Effect] = []
        lacking = [d for d in self.downloads.values() if d is download or self._lacks(d)]
        full = False  # for whatever is no more urgent, too
        for each in sorted(lacking, key=lambda d: (d.priority, d.started)):
            unknown = each.manifest is None  # its pages take no room
            full = full or (not unknown and half_used(self._source(each, belief, 0, now)))
            if unknown or each is download or not full:
                effects += self.plan(each, now)
        return effects

    def heard(self, peer: bytes, download: Download, now: float, *, freed: bool) -> list[Effect]:
        """Plan anew once a peer has told of chunks, if it has room: what is given makes some.

        ``freed``: it awaits some no longer, which were left to it, so that others may have room.
        """
        belief = self.peers.get(peer)
        if belief is None or belief.bulk != OPEN or not download.open or freed:
            return self.plan(download, now)
        worth = self._has_room(belief, download, now) or self._awaited(download)
        return self.plan(download, now) if worth else []

    def _has_room(self, belief: PeerBelief, download: Download, now: float) -> bool:
        """Tell whether a peer has room for a request worth its message, or owes us nothing."""
        return not half_used(self._source(download, belief, 0, now))

    def _awaited(self, download: Download) -> bool:
        """Tell whether a client needs a chunk next that nobody was asked for.

        That is worth a small request.
        """
        if not (next_ones := download.needed_next):
            return False
        free = download.missing & ~self.requests.claimed(download)[0]
        return bool(free & bits.of(next_ones))

    def plan(self, download: Download, now: float) -> list[Effect]:
        """Plan one blob anew, of which there is news: the others find no more room than before."""
        if download.manifest is None:
            return list(self._ask_manifest(download, now))
        waits = download.delta or not download.open or download.finishing  # a delta makes it
        if waits or self._budget <= 0:
            return []
        return list(self._ask_chunks(download, now))

    def _plan_all(self, downloads: Iterable[Download], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for download in sorted(downloads, key=lambda d: (d.priority, d.started)):
            effects += self.plan(download, now)
        return effects

    def _lacks(self, download: Download) -> bool:
        """Tell whether there is something of a blob that nobody who gives was asked for."""
        if download.manifest is None:
            return True
        if download.delta or not download.open or download.finishing:
            return False
        return bool(download.missing & ~self.requests.claimed(download)[0])

    @property
    def _budget(self) -> int:
        return BUDGET_MAX - sum(belief.outstanding for belief in self.peers.values())

    def _ask_manifest(self, download: Download, now: float) -> Iterator[Effect]:
        if not download.manifest_id:
            return
        able = [
            peer
            for peer, holder in download.holders.items()
            if download.usable_holder(holder) and self.peers[peer].usable(now)
        ]
        for peer in download.lapse(now):
            self.peers[peer].let_wait(now)
        late = {peer: self.peers[peer].late(now) for peer in able}
        if not all(late.values()):  # these were asked only because nobody else had answered yet
            download.release({peer for peer in able if late[peer]})
        able.sort(key=lambda peer: (late[peer], self.peers[peer].rtt.smoothed, peer))
        yield from self._open_early(download, able, now)
        prompt = [peer for peer in able if not late[peer]] or able[:1]
        for number in download.pages_wanted() if able else ():
            peer = prompt[0] if download.root is None else prompt[number % len(prompt)]
            wait = PAGE_TIMEOUT + 4 * self.peers[peer].rtt.smoothed
            download.asked_pages[number], download.tried = (peer, now + wait), True
            yield Tell(peer, ManifestGet(download.blob, download.manifest_id, number))

    def _open_early(
        self, download: Download, able: Sequence[bytes], now: float
    ) -> Iterator[Effect]:
        """Get bulk sockets while the manifest comes: each costs four round trips."""
        for belief in [self.peers[peer] for peer in able[:EARLY_MAX]]:
            able_now = belief.bulk == ABSENT and now >= belief.bulk_retry_at
            if able_now and self.may(download, belief, now):
                belief.bulk = OPENING
                yield OpenBulk(belief.node)

    def _ask_chunks(self, download: Download, now: float) -> Iterator[Effect]:
        sources = []
        for peer, holder in download.holders.items():
            belief = self.peers[peer]
            has = download.chunks_of(holder) & ~holder.deferring(now)
            if not has & download.missing or not belief.usable(now):
                continue
            if not self.may(download, belief, now):
                continue
            if belief.bulk == OPEN:
                sources.append(self._source(download, belief, has, now))
            elif belief.bulk == ABSENT and now >= belief.bulk_retry_at:
                belief.bulk = OPENING
                yield OpenBulk(peer)
        if not sources:
            return
        self._spare_the_stalled(download, sources)
        claimed, twice = self.requests.claimed(download)
        blob = download.view(claimed, self._place(download))
        self._spare_the_awaited(download, sources, bits.of(blob.readers), now)
        asks = plan(blob, sources, self._budget, self.rng)
        for ask in [*asks, *self._late(download, blob, asks, sources, twice)]:
            cap = self._terms(self.peers[ask.peer]).down
            if cap is not None:
                cap.spend(ask.size, now)
            yield from self.requests.issue(download, ask, now)

    def _spare_the_awaited(
        self, download: Download, sources: Sequence[Source], urgent: int, now: float
    ) -> None:
        """Ask nobody for what is on its way to others, who will give it on.

        For four times as long as the source itself would take, never for one who stalls, and never
        what a waiting client needs next.
        """
        claims = [
            (at, chunks & ~holder.chunks & ~urgent)
            for peer, holder in download.holders.items()
            if holder.state == PARTIAL and holder.manifest == download.manifest_id
            if not holder.bad and self.peers[peer].usable(now) and self.peers[peer].trusted(now)
            for at, chunks in download.claims.of(peer)
        ]
        for source in sources:
            since = now - min(max(CLAIM_MIN, 4 * source.eta(0)), CLAIM_MAX)
            source.spared = reduce(or_, (chunks for at, chunks in claims if at > since), 0)
        left = reduce(or_, (source.spared & source.has for source in sources), 0)
        download.claims.leave(left & download.missing, now)

    def _spare_the_stalled(self, download: Download, sources: Sequence[Source]) -> None:
        """Ask nobody who stalls for what another one stalls with, if somebody else has it.

        Two who stall could otherwise hand the last chunk to each other for ever.
        """
        stalled, able = self.requests.stalled(download), 0
        for source in sources:
            able |= 0 if source.snubbed else source.has
        for source in sources:
            if source.snubbed:
                source.has &= ~(stalled & able)

    def _terms(self, belief: PeerBelief) -> Terms:
        return self.limits.terms(belief.node, belief.site)

    def _source(self, download: Download, belief: PeerBelief, has: int, now: float) -> Source:
        return belief.source(
            has,
            average(download),
            self.site,
            terms=self._terms(belief),
            now=now,
            background=download.priority >= POLICY,
        )

    def may(self, download: Download, belief: PeerBelief, now: float) -> bool:
        """Tell whether a peer may be asked for what nobody waits for, if this is such a blob."""
        if download.priority < POLICY:
            return True
        return now >= belief.background_until and self._terms(belief).background(self.limits.clock)

    def _place(self, download: Download) -> Place:
        """Return our place among those who fetch this blob, by site and by node."""
        if not download.local:
            return ALONE
        fetching = {
            peer: self.peers[peer].site
            for peer, holder in download.holders.items()
            if holder.state in (PARTIAL, SEEKING) and self.peers[peer].linked
        }
        sites = sorted({*fetching.values(), self.site})
        mates = sorted({self.node, *(p for p, site in fetching.items() if site == self.site)})
        return Place(sites.index(self.site), len(sites), mates.index(self.node), len(mates))

    def _late(
        self,
        download: Download,
        blob: Blob,
        asks: Sequence[Ask],
        sources: Sequence[Source],
        twice: int,
    ) -> list[Ask]:
        """Ask twice for what would come far too late, from whoever has nothing better to give."""
        allowance = max(int(download.size * ENDGAME_SHARE), RUN_MAX) - download.duplicated
        if allowance <= 0 or not download.requests:
            return []
        asked = bits.of(index for ask in asks for index in ask.chunks)
        pending = [
            Pending(r.peer, r.chunks & ~twice)
            for r in download.requests.values()
            if not self.peers[r.peer].snubbed
        ]
        again = endgame(pending, sources, blob, blob.needed & ~asked, allowance=allowance)
        download.duplicated += sum(ask.size for ask in again)
        return again


def average(download: Download) -> int:
    """Return the usual size of a chunk of this blob."""
    return download.size // max(1, download.count)
