"""Who has a blob, and who wants to know what we have of it.  Pure.  Spec: docs/mesh.md §8.

A blob is looked for among the neighbours first.  Only if they cannot give all of it are they asked
to look further on their own behalf: then each node on the way fetches the blob itself, keeps it,
and serves it while it arrives, so that every link carries each chunk once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from mesh import bits
from mesh.beliefs import PeerBelief
from mesh.download import Download, Holder
from mesh.effects import Effect, LookUp, Tell
from mesh.messages import (
    COMPLETE,
    COURIER,
    NONE,
    PARTIAL,
    SEEKING,
    Bitfield,
    Find,
    Forget,
    Have,
    HaveBlob,
)
from store.errors import RemoteProtocolError

HOPS_MAX = 4
INTEREST_TTL = 30.0  # seconds that a Find holds
FIND_REPEAT = 10.0  # seconds between Finds for what is still wanted
ANSWER_WAIT = 0.5  # seconds, and two round trips, that a neighbour has to answer
HOP_WAIT = 1.5  # seconds per hop until a search that finds nothing counts as vain
HAVE_INTERVAL = 0.1  # seconds over which news of chunks are gathered, at most
HAVE_MIN = 0.02  # and at least
HAVE_EACH = 0.005  # or so much for each that is told, if that is more
HAVE_SHARE = 0.1  # of the time since a blob was begun, and of that until it is here
HASTY_MAX = 64  # times that news of one blob are told sooner than after HAVE_INTERVAL
BITFIELD_BYTES = 32 * 1024
HAVE_EDGES = 2048  # of runs in one Have
INTERESTS_MAX = 4096  # blobs that one peer may ask about at a time
RELAYS_MAX = 64  # blobs fetched for others at a time
RELAYS_PER_PEER = 16  # of them for one neighbour, so that none can take all


@dataclass(slots=True)
class Interest:
    """One peer's wish to hear of one blob."""

    expires: float
    find: Find


@dataclass(slots=True)
class Finding:
    """Searches of ours, and the interests of others."""

    node: bytes
    peers: dict[bytes, PeerBelief]
    downloads: dict[bytes, Download]
    interests: dict[bytes, dict[bytes, Interest]] = field(
        default_factory=dict[bytes, dict[bytes, Interest]]
    )
    counts: dict[bytes, int] = field(default_factory=dict[bytes, int])

    # --- our own searches ----------------------------------------------------------------------
    def seek(self, download: Download, now: float) -> Iterator[Effect]:
        """Ask whoever should be asked now."""
        for peer, belief in self.peers.items():
            if not belief.linked or peer in download.path:
                continue
            holder = download.holders.setdefault(peer, Holder())
            due = min(holder.asked_at + FIND_REPEAT, holder.again_at) <= now
            if holder.asked_hops < 0 or due or holder.asked_hops < self._reach(download):
                yield self._find(download, peer, holder, self._reach(download), now)

    def _find(
        self, download: Download, peer: bytes, holder: Holder, hops: int, now: float
    ) -> Effect:
        if holder.asked_hops != hops:
            holder.answered = False
        holder.asked_at, holder.asked_hops, holder.again_at = now, hops, math.inf
        path = (*download.path, self.node)
        start = download.serve_from
        if download.local and download.manifest is not None and download.readers:
            start = download.manifest.offset(min(download.readers))
        manifest = download.manifest_id
        return Tell(peer, Find(download.blob, download.size, manifest, hops, path, start))

    def _reach(self, download: Download) -> int:
        """Return how far neighbours shall look: not at all before all of them have been asked."""
        return download.hops if download.widened else 0

    def widen(self, download: Download, now: float) -> Iterator[Effect]:
        """Let the neighbours look further, once it is clear that they cannot give it all."""
        if download.widened or not download.hops or self._covered(download, now):
            return
        waiting = [
            holder
            for peer, holder in download.holders.items()
            if not holder.answered
            and self.peers[peer].linked
            and now < holder.asked_at + ANSWER_WAIT + 2 * self.peers[peer].rtt.smoothed
        ]
        if not waiting and any(belief.linked for belief in self.peers.values()):
            download.widened, download.widened_at = True, now
            yield from self.seek(download, now)

    def _covered(self, download: Download, now: float) -> bool:
        """Tell whether the neighbours give all of it; who stalls or is banned gives nothing."""
        union = 0
        for peer, holder in download.holders.items():
            belief = self.peers[peer]
            if not belief.linked or not belief.trusted(now) or not download.usable_holder(holder):
                continue
            if holder.state == COMPLETE:
                return True
            union |= holder.chunks
        if download.manifest is None:
            return False
        return not bits.full(download.count) & ~(union | download.have)

    def hopeless(self, download: Download, now: float) -> bool:
        """Tell whether the neighbours have looked as far as they may, and found nothing.

        Searches can wait for each other in a circle, so time decides as well: the farther a node
        is from who asked first, the fewer hops it has left, and the earlier it says no.
        """
        linked = [peer for peer, belief in self.peers.items() if belief.linked]
        if linked and download.hops and not download.widened:
            return False
        holders = [
            download.holders.get(peer)
            for peer in linked
            if peer not in download.path and now >= self.peers[peer].banned_until
        ]
        if any(holder is not None and holder.gives for holder in holders):
            return False
        answered = all(h is not None and h.answered and h.state == NONE for h in holders)
        return answered or now > download.widened_at + HOP_WAIT * max(1, download.hops)

    def hear_have_blob(self, download: Download, peer: bytes, said: HaveBlob) -> None:
        """A peer tells what it has."""
        holder = download.holders.setdefault(peer, Holder())
        holder.answered = True
        if said.manifest != holder.manifest and math.isinf(holder.forgiven_at):
            holder.bad = said.manifest in download.refused  # it was so by the manifest it believed
        has = said.state in (COMPLETE, PARTIAL)
        if has and download.authenticated and download.size not in (0, said.size):
            self.peers[peer].notes.append("claims another size for a blob than its publisher")
            holder.bad = True
        if said.state != PARTIAL or said.manifest != holder.manifest:
            holder.chunks = 0  # the numbers of another manifest mean other bytes
        holder.state, holder.size, holder.manifest = said.state, said.size, said.manifest
        download.choose_manifest()

    def hear_chunks(
        self, download: Download, peer: bytes, said: Bitfield | Have, now: float
    ) -> bool:
        """A peer has chunks, or will.  Return whether it awaits some no longer, and has them not.

        Raises RemoteProtocolError if they cannot exist.
        """
        holder = download.holders.get(peer)
        if holder is None or download.manifest is None or said.manifest != download.manifest_id:
            return False
        if isinstance(said, Bitfield):
            found: int | None = bits.from_bytes(said.bits, said.start)
        else:
            found = bits.from_flat(said.runs, download.count)
        if found is None or found >> download.count:
            raise RemoteProtocolError("chunks beyond the end of the blob")
        if holder.state != COMPLETE:
            holder.chunks = holder.chunks if holder.manifest == said.manifest else 0
            holder.state, holder.manifest = PARTIAL, said.manifest
        holder.chunks |= found
        if isinstance(said, Bitfield):
            return False
        coming = bits.from_flat(said.coming, download.count)
        if coming is None:
            raise RemoteProtocolError("awaits chunks beyond the end of the blob")
        return download.claims.hear(peer, coming, download.missing & ~holder.chunks, now)

    # --- the interests of others ---------------------------------------------------------------
    def hear_find(self, peer: bytes, find: Find, now: float) -> Iterator[Effect]:
        """A peer looks for a blob."""
        of_blob = self.interests.setdefault(find.blob, {})
        if peer not in of_blob:
            if self.counts.get(peer, 0) >= INTERESTS_MAX:
                yield Tell(peer, HaveBlob(find.blob, NONE, 0, b""))
                return
            self.counts[peer] = self.counts.get(peer, 0) + 1
        of_blob[peer] = Interest(now + INTEREST_TTL, find)
        download = self.downloads.get(find.blob)
        if download is None:
            yield LookUp(peer, find.blob)
        else:
            download.wanted_until = max(download.wanted_until, now + INTEREST_TTL)
            if not download.local:
                download.serve_from = find.start
            # Others want it too: whoever is not asked for the sake of one may be for the other's.
            download.path = tuple(node for node in download.path if node in find.path)
            hops = min(find.hops - 1, HOPS_MAX)
            if download.hops < hops:
                download.hops, download.widened = hops, False
            yield from self.state(download, peer, now)

    def looked_up(
        self, peer: bytes, blob: bytes, found: tuple[int, bytes] | None, now: float
    ) -> tuple[list[Effect], Download | None]:
        """The store has answered a LookUp.  Return what to say, and a search to begin."""
        interest = self.interests.get(blob, {}).get(peer)
        if found is not None:
            return [Tell(peer, HaveBlob(blob, COMPLETE, *found))], None
        if blob in self.downloads:
            return [*self.state(self.downloads[blob], peer, now)], None
        find = interest.find if interest else None
        if find is None or not find.hops or self.node in find.path or self._burdened(peer):
            return [Tell(peer, HaveBlob(blob, NONE, 0, b""))], None
        relay = Download(
            blob=blob,
            size=find.size,
            manifest_id=find.manifest,
            authenticated=False,  # a peer's word is never more than that
            started=now,
            path=find.path,
            hops=min(find.hops - 1, HOPS_MAX),
            priority=COURIER,
            wanted_until=now + INTEREST_TTL,
            serve_from=find.start,
            relay_for=peer,
        )
        return [Tell(peer, HaveBlob(blob, SEEKING, 0, b""))], relay

    def _burdened(self, peer: bytes) -> bool:
        """Tell whether we fetch enough for others already, or for this one."""
        relays = [download for download in self.downloads.values() if not download.local]
        its = sum(download.relay_for == peer for download in relays)
        return len(relays) >= RELAYS_MAX or its >= RELAYS_PER_PEER

    def state(self, download: Download, peer: bytes, now: float) -> Iterator[Effect]:
        """Tell one peer what we have of a blob that is on its way."""
        lost = not download.local and not download.have and self.hopeless(download, now)
        if not download.open or download.manifest is None or lost:
            yield Tell(peer, HaveBlob(download.blob, NONE if lost else SEEKING, 0, b""))
            return
        blob, manifest = download.blob, download.manifest_id
        yield Tell(peer, HaveBlob(blob, PARTIAL, download.size, manifest))
        for start in range(0, download.count, BITFIELD_BYTES * 8):
            count = min(BITFIELD_BYTES * 8, download.count - start)
            packed = bits.to_bytes(download.have, start, count)
            if any(packed):
                yield Tell(peer, Bitfield(blob, manifest, start, packed))

    def state_to_all(self, download: Download, now: float) -> Iterator[Effect]:
        """Tell everybody interested what we have."""
        for peer in self.interests.get(download.blob, {}):
            yield from self.state(download, peer, now)

    def news(self, download: Download, coming: int, now: float) -> Iterator[Effect]:
        """Tell everybody interested of the chunks that have come, and of those that will."""
        if not download.news and coming == download.told:
            return
        download.hasty += now < download.told_at + HAVE_INTERVAL
        download.told_at = now
        fresh, download.news, download.told = download.news, 0, coming
        edges, awaited = bits.flat(fresh), bits.flat(coming)[:HAVE_EDGES]
        for peer in self.interests.get(download.blob, {}):
            for start in range(0, max(1, len(edges)), HAVE_EDGES):
                part = edges[start : start + HAVE_EDGES]
                yield Tell(peer, Have(download.blob, download.manifest_id, part, awaited))

    def complete(self, blob: bytes, size: int, manifest: bytes) -> Iterator[Effect]:
        """Tell everybody interested that all of it is here."""
        for peer in self.interests.get(blob, {}):
            yield Tell(peer, HaveBlob(blob, COMPLETE, size, manifest))

    def gone(self, download: Download) -> Iterator[Effect]:
        """Tell everybody interested that we have given up, and those we asked that we have."""
        for peer in self.interests.get(download.blob, {}):
            yield Tell(peer, HaveBlob(download.blob, NONE, 0, b""))
        yield from self.forget(download)

    def forget(self, download: Download) -> Iterator[Effect]:
        """Tell those we asked that we need no more news."""
        for peer, holder in download.holders.items():
            if holder.asked_hops >= 0 and self.peers[peer].linked:
                yield Tell(peer, Forget(download.blob))

    def drop_interest(self, peer: bytes, blob: bytes) -> None:
        """A peer no longer cares."""
        of_blob = self.interests.get(blob, {})
        if of_blob.pop(peer, None) is not None:
            self.counts[peer] -= 1
            if not of_blob:
                del self.interests[blob]

    def unlinked(self, peer: bytes) -> None:
        """Forget what a lost peer wanted and had."""
        for blob in [blob for blob, of_blob in self.interests.items() if peer in of_blob]:
            self.drop_interest(peer, blob)
        for download in self.downloads.values():
            download.holders.pop(peer, None)
            download.unask(peer)
            download.claims.unlinked(peer)

    def expire(self, now: float) -> None:
        """Let interests lapse that nobody has renewed."""
        lapsed = [
            (peer, blob)
            for blob, of_blob in self.interests.items()
            for peer, interest in of_blob.items()
            if interest.expires <= now
        ]
        for peer, blob in lapsed:
            self.drop_interest(peer, blob)


def due(download: Download, told: Collection[bytes], now: float) -> bool:
    """Tell whether news of a blob have been gathered for long enough, for those to be told.

    For less than HAVE_INTERVAL at its beginning, when nobody has anything to give but the source,
    and near its end; so HASTY_MAX times at most.  Called for every chunk: what costs by the size of
    the blob is not looked at before HAVE_MIN is over.
    """
    least = max(HAVE_MIN, HAVE_EACH * len(told)) if told else HAVE_INTERVAL
    if now >= download.told_at + HAVE_INTERVAL:
        return True
    if now < download.told_at + least or download.hasty >= HASTY_MAX:
        return False
    left = (download.count - download.have.bit_count()) * download.size / max(1, download.count)
    until = left / max(download.meter.rate(now), 1.0)
    return now >= download.told_at + HAVE_SHARE * min(now - download.opened_at, until)
