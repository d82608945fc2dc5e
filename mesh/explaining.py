"""Transfers as people see them: what moves, how long it will take, and why as it does.  Pure.

Spec: docs/mesh.md §12.  Reads the beliefs and the journal, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.beliefs import PeerBelief
from mesh.download import Download
from mesh.exchange import Exchange
from mesh.journal import STATES, Share, Story
from mesh.linkhistory import HOURS
from mesh.status import EventStatus, LinkStatus, SourceStatus, TransferStatus, Why

SHORT = 8  # characters of a node id that people read
RATE_MIN = 1.0  # bytes per second: below that nothing moves


@dataclass(frozen=True, slots=True)
class Known:
    """Whose exchange it is, and what its peers are called."""

    exchange: Exchange
    names: Mapping[bytes, tuple[str, str]]  # node → its name and site
    now: float

    def name(self, peer: bytes) -> str:
        """Return what people call a peer."""
        return self.names.get(peer, ("", ""))[0] or peer.hex()[:SHORT]


def links(known: Known) -> list[LinkStatus]:
    """Return what is believed of the path to every peer that was ever linked."""
    return [_link(known, peer, belief) for peer, belief in known.exchange.peers.items()]


def _link(known: Known, peer: bytes, belief: PeerBelief) -> LinkStatus:
    rtt, history, limits = belief.rtt, belief.history, known.exchange.limits
    site = known.names.get(peer, ("", ""))[1]
    terms = limits.terms(peer, belief.site or site)
    into, out = belief.rate, belief.outflow.rate
    return LinkStatus(
        node=peer.hex(),
        name=known.name(peer),
        site=belief.site or site,
        up=belief.linked,
        rtt=rtt.smoothed if rtt.measured else None,
        rtt_min=rtt.minimum if rtt.measured else None,
        rtt_deviation=rtt.deviation if rtt.measured else None,
        queue=rtt.queue,
        backlog=belief.delay,
        down=into.average if into.measured else None,
        down_max=into.maximum if into.measured else None,
        sending=out.average if out.measured else None,
        sending_max=out.maximum if out.measured else None,
        loss=history.loss,
        availability=history.availability(),
        hours=tuple(history.availability(hour) for hour in range(HOURS)),
        outages=history.outage_count,
        outage_usual=history.outage_usual,
        outage_longest=history.outage_longest,
        up_cap=terms.up.rate if terms.up else None,
        down_cap=terms.down.rate if terms.down else None,
        metered=terms.metered,
        cost=terms.cost,
        background=terms.background(limits.clock),
    )


def transfers(known: Known) -> list[TransferStatus]:
    """Return what is on its way here."""
    return [_transfer(known, each) for each in known.exchange.downloads.values()]


def _transfer(known: Known, download: Download) -> TransferStatus:
    rate, left = progress(download, known.now)
    return TransferStatus(
        blob=f"sha256:{download.blob.hex()}",
        size=download.size,
        verified=download.verified,
        state=state_of(download),
        waiting=download.local,
        relayed=not download.local and bool(download.path),
        sources=tuple(sorted({r.peer.hex()[:SHORT] for r in download.requests.values()})),
        refetched=download.refetched,
        duplicated=download.duplicated,
        seconds=known.now - download.started,
        rate=rate,
        left=left,
    )


def progress(download: Download, now: float) -> tuple[float, float | None]:
    """Return how fast a blob comes, and in how many seconds it will be here at that rate."""
    rate = download.meter.rate(now)
    if not download.size or rate < RATE_MIN:
        return rate, None
    return rate, (download.size - download.verified) / rate


def state_of(download: Download) -> str:
    """Say how far a transfer is."""
    if download.finishing:
        return "finishing"
    if download.open:
        return "fetching"
    return "manifest" if download.manifest_id else "searching"


def why(known: Known, blob: bytes) -> Why | None:
    """Explain a transfer, or None if nothing is known of it."""
    story = known.exchange.journal.stories.get(blob)
    if story is None:
        return None
    download = known.exchange.downloads.get(blob)
    rate, left = (0.0, None) if download is None else progress(download, known.now)
    if download is None and story.ended > story.began:
        rate = sum(share.received for share in story.shares.values()) / (story.ended - story.began)
    return Why(
        blob=f"sha256:{blob.hex()}",
        state=story.outcome or "ended" if download is None else state_of(download),
        size=story.size if download is None else download.size,
        verified=story.size if download is None else download.verified,
        seconds=(story.ended or known.now) - story.began,
        rate=rate,
        left=left,
        waiting="" if download is None else waiting_for(known, download),
        sources=_sources(known, story, download),
        events=tuple(
            EventStatus(
                seconds=event.at - story.began,
                what=event.what,
                node=known.name(event.peer) if event.peer else "",
                why=event.why,
                count=event.count,
            )
            for event in story.events
        ),
        forgotten=story.forgotten,
    )


def waiting_for(known: Known, download: Download) -> str:
    """Say in a sentence what a transfer waits for now."""
    if download.finishing:
        return "the disk, to verify and publish the whole"
    if not download.manifest_id:
        return f"somebody who has it; {_linked(known)} peers linked"
    if download.manifest is None:
        asked = sorted({known.name(peer) for peer, _ in download.asked_pages.values()})
        return f"its manifest, from {', '.join(asked) or 'nobody yet'}"
    if not download.open:
        return "the disk, to open it"
    if download.delta:
        return f"its delta, sha256:{download.delta.hex()}"
    return _waiting_for_chunks(known, download)


def _linked(known: Known) -> int:
    return sum(belief.linked for belief in known.exchange.peers.values())


def _waiting_for_chunks(known: Known, download: Download) -> str:
    owed = download.requests.values()
    moving = sorted({known.name(r.peer) for r in owed if not known.exchange.peers[r.peer].snubbed})
    if moving:
        return f"chunks from {', '.join(moving)}"
    stalled = sorted({known.name(request.peer) for request in owed})
    if stalled:
        return f"chunks from {', '.join(stalled)}, who gives none at present"
    held = 0
    for peer, holder in download.holders.items():
        if known.exchange.peers[peer].usable(known.now):
            held |= download.chunks_of(holder)
    nowhere = (download.missing & ~held).bit_count()
    if nowhere:
        return f"{nowhere} chunks that nobody who can be asked now has"
    return "a peer that has room for a request"


def _sources(known: Known, story: Story, download: Download | None) -> tuple[SourceStatus, ...]:
    total = sum(share.received for share in story.shares.values())
    found = [
        _source(known, peer, share, total, download)
        for peer, share in story.shares.items()
        if peer and (share.state > 0 or share.requests)
    ]
    return tuple(sorted(found, key=lambda source: (-source.received, source.node)))


def _source(
    known: Known, peer: bytes, share: Share, total: int, download: Download | None
) -> SourceStatus:
    belief = known.exchange.peers.get(peer) or PeerBelief(peer)
    owed = [] if download is None else [r for r in download.requests.values() if r.peer == peer]
    while_giving = share.last_at - share.first_at
    return SourceStatus(
        node=peer.hex(),
        name=known.name(peer),
        site=known.names.get(peer, ("", ""))[1] or belief.site,
        says=STATES.get(share.state, ""),
        received=share.received,
        share=share.received / total if total else 0.0,
        rate=share.received / while_giving if while_giving > 0 else 0.0,
        awaited=sum(request.size for request in owed),
        requests=share.requests,
        redirected=share.redirected,
        stalls=share.stalls,
        bad=share.bad,
        wasted=share.wasted,
        state=_standing(known, belief, asked=bool(owed)),
    )


def _standing(known: Known, belief: PeerBelief, *, asked: bool) -> str:
    if known.now < belief.banned_until:
        return "banned"
    if not belief.linked:
        return "away"
    if belief.snubbed:
        return "stalled"
    if known.now < belief.busy_until:
        return "busy"
    return "asked" if asked else "idle"
