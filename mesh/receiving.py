"""What peers send when we have asked: chunks, refusals, and what fits neither.  Pure.

Spec: docs/mesh.md §8 and §10.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from mesh import bits
from mesh.asking import Asking
from mesh.beliefs import ABSENT, PeerBelief
from mesh.download import Download
from mesh.effects import DropBulk, Effect, Write
from mesh.journal import REFUSED, Journal
from mesh.messages import (
    COMPLETE,
    GONE,
    NONE,
    PARTIAL,
    POLICY,
    Busy,
    Data,
    Done,
    Message,
    Nope,
    Redirect,
)
from mesh.requests import Requests

DETOUR = 1.0  # seconds, and two round trips, that a chunk may take by way of another peer
DRY_MAX = 10.0  # seconds in which nothing comes by a manifest, until another one is tried
VAIN_MAX = 6  # times that it is twice as long, for a manifest that was tried before
BUSY_MAX = 10.0  # seconds that a peer may put us off


@dataclass(slots=True)
class Receiving:
    """Measures what comes against what was asked."""

    peers: dict[bytes, PeerBelief]
    downloads: dict[bytes, Download]
    requests: Requests
    asking: Asking
    journal: Journal = field(default_factory=Journal)

    def received(self, peer: bytes, message: Message, now: float) -> list[Effect]:
        """Take a message about a request of ours."""
        match message:
            case Data():
                return self._hear_data(peer, message, now)
            case Done():
                return self._end_request(peer, message.request, now)
            case Busy():
                put_off, until = self.requests.get(message.request, peer), message.retry_ms / 1000
                until = now + min(until, BUSY_MAX)
                if put_off is not None and self.downloads[put_off.blob].priority >= POLICY:
                    self.peers[peer].background_until = until
                else:
                    self.peers[peer].busy_until = until
                if put_off is not None:
                    why = f"busy for {message.retry_ms} ms"
                    self.journal.note(put_off.blob, REFUSED, peer, why, now)
                return self._end_request(peer, message.request, now)
            case Redirect():
                return self._redirected(peer, message, now)
            case Nope():
                return self._refused(peer, message, now)
            case _:
                return []

    def _hear_data(self, peer: bytes, data: Data, now: float) -> list[Effect]:
        belief, request = self.peers[peer], self.requests.get(data.request, peer)
        mask = bits.span(data.first, data.first + data.count)
        if request is None:
            late = self.requests.late(peer, data, mask)
            if late is None:
                belief.wasted += len(data.raw)
                return list(self.blame(peer, "sent chunks that nobody asked for", now))
            return self._hear_late(peer, late, data, mask, now)
        download = self.downloads[request.blob]
        size = len(data.raw)
        if mask & ~request.chunks or size != download.length(data.first, data.count):
            self.requests.forget(request)
            return [
                *self.blame(peer, "sent other chunks than asked for", now, download.blob),
                *self.asking.schedule(now),
            ]
        belief.arrived(size, now, request.asked)
        request.chunks &= ~mask
        request.size -= size
        if not request.chunks:
            self.requests.forget(request)
        effects = list(self.requests.overtake(download, request, mask))
        overtaken = bool(effects)  # which gives others room
        new = mask & download.missing
        self.journal.gave(request.blob, peer, size, now, useful=bool(new))
        if mask & ~download.missing:
            belief.wasted += size
            download.refetched += size
        if new:
            download.meter.add(size, now)
            download.writing |= mask & download.missing
            effects.append(Write(request.blob, peer, data.first, data.count, data.raw))
        effects += self.asking.arrived(belief, download, now)
        return effects + (self.asking.plan(download, now) if overtaken else [])

    def _end_request(self, peer: bytes, number: int, now: float) -> list[Effect]:
        request = self.requests.get(number, peer)
        if request is None:
            return []  # all of it came, and what it left room for was asked for then
        self.requests.call_off(request)  # on another socket some of it may still be on its way
        return self.asking.schedule(now)

    def _hear_late(
        self, peer: bytes, late: tuple[bytes, bytes], data: Data, mask: int, now: float
    ) -> list[Effect]:
        """Take chunks that were called off too late, if they are still of use."""
        belief, download = self.peers[peer], self.downloads.get(late[0])
        belief.revived(now)
        size = len(data.raw)
        known = download is not None and download.open and download.manifest_id == late[1]
        if download is None or not known or mask & ~download.missing:
            belief.wasted += size
            self.journal.gave(late[0], peer, size, now, useful=False)
            return []
        if size != download.length(data.first, data.count):
            return list(self.blame(peer, "sent other chunks than asked for", now, download.blob))
        download.writing |= mask
        download.meter.add(size, now)
        self.journal.gave(late[0], peer, size, now, useful=True)
        effects = list(self.requests.overtake(download, None, mask))
        effects.append(Write(download.blob, peer, data.first, data.count, data.raw))
        return effects + self.asking.schedule(now)

    def _redirected(self, peer: bytes, said: Redirect, now: float) -> list[Effect]:
        """Others have these chunks, or will soon: it is asked again only if they fail us."""
        request = self.requests.get(said.request, peer)
        if request is None:
            return []
        download = self.downloads[request.blob]
        named = bits.from_flat(said.runs, download.count) if said.runs else request.chunks
        away = request.chunks & named if named is not None else request.chunks
        able = [
            belief
            for node in said.nodes
            if (belief := self.peers.get(node)) is not None
            and belief.usable(now)
            and belief.trusted(now)
        ]
        self.journal.redirected(request.blob, peer, away.bit_count(), said.nodes, now)
        holder = download.holders.get(peer)
        if holder is not None:
            best = min((each.rtt.smoothed + each.delay for each in able), default=0.0)
            again, holder.redirected = away & holder.redirected, holder.redirected | away
            if able or again:
                holder.defer(away, now + DETOUR + 2 * best)
            if again:  # whoever asks again is to be served: it gives nothing, whatever it says
                holder.lied(now)
                self.peers[peer].notes.append("redirects the same chunks again and again")
        size = sum(download.length(index) for index in bits.members(away))
        self.requests.reduce(request, away, size)
        return self.asking.schedule(now)

    def _refused(self, peer: bytes, said: Nope, now: float) -> list[Effect]:
        request, belief = self.requests.get(said.request, peer), self.peers[peer]
        if request is None:
            return []
        download = self.downloads[request.blob]
        holder = download.holders.get(peer)
        if said.reason == GONE and holder is not None:
            held = download.chunks_of(holder)
            holder.state, holder.chunks = PARTIAL, held & ~request.chunks
            holder.lied(now)
            belief.notes.append(f"said it had chunks of sha256:{request.blob.hex()}, and had not")
            self.journal.note(request.blob, REFUSED, peer, "it has not what it said it had", now)
        else:
            belief.busy_until = now + 1.0
            self.journal.note(request.blob, REFUSED, peer, f"refused, reason {said.reason}", now)
        self.requests.call_off(request)
        return self.asking.schedule(now)

    def no_manifest(self, download: Download, peer: bytes, now: float) -> None:
        """A holder has not the manifest that it named: that is one claim that did not hold.

        A disk may have failed it since; it counts again once it says anew what it has.  The other
        pages that it was asked for will be answered alike, and are not held against it.
        """
        download.unask(peer)
        holder = download.holders.get(peer)
        if holder is None:
            return
        if holder.state in (COMPLETE, PARTIAL):
            holder.state, holder.chunks, holder.answered = NONE, 0, False
        holder.lied(now)
        said = f"named a manifest of sha256:{download.blob.hex()}, and had it not"
        self.peers[peer].notes.append(said)
        self.journal.note(download.blob, REFUSED, peer, "it has not the manifest it named", now)

    def reconsider(self, download: Download, now: float) -> Iterator[Effect]:
        """Turn to another manifest once nobody is left who gives by the one on hearsay.

        Who made it up is banned for its chunks, which do not verify; honest holders name another.
        Those who believed it, too, and wait for what is left of it, give nothing.
        """
        if download.authenticated or not download.manifest_id or download.finishing:
            return
        for peer, holder in download.holders.items():
            holder.bad = holder.bad or now < self.peers[peer].banned_until
        holders, dropped = download.holders.values(), download.manifest_id
        dry = self._dry(download, now)
        given = {holder.manifest for holder in holders if holder.gives}
        others = {h.manifest for h in holders if download.candidate(h)} - {dropped}
        left = bool(given & others) and not given & {b"", dropped}
        if left or (dry and others):
            yield from self.requests.drop_blob(download)
            for holder in holders:
                holder.vain += download.tried and holder.manifest == dropped
                holder.turns += holder.manifest == dropped
            download.forget_manifest(wrong=False)  # its holders may only be away
            download.choose_manifest(but=dropped)

    def _dry(self, download: Download, now: float) -> bool:
        """Tell whether nothing has come, or is on its way, by this manifest for DRY_MAX seconds.

        For twice as long after each time that all who name it did so in vain, and all who name
        another: who is only slow must get its chance, and who comes late its first one soon.
        Nothing is in vain of which we had no room to ask for anything.
        """
        got = len(download.pages) + bool(download.early) + (download.root is not None)
        mark = (download.manifest_id, got, download.have)
        owed = any(not self.peers[each.peer].snubbed for each in download.requests.values())
        busy = download.opening or download.writing or owed
        if busy or mark != download.mark or math.isinf(download.dry_since):
            asked = bool(download.requests or download.asked_pages)
            download.tried = asked or (download.tried and mark == download.mark)
            download.mark, download.dry_since = mark, now
        holders, own = download.holders.values(), download.manifest_id
        vain = (h.vain for h in holders if h.manifest == own or download.candidate(h))
        return now >= download.dry_since + DRY_MAX * 2.0 ** min(min(vain, default=0), VAIN_MAX)

    def blame(self, peer: bytes, reason: str, now: float, blob: bytes = b"") -> Iterator[Effect]:
        """A peer gave us what it must not give."""
        belief = self.peers.get(peer)
        if belief is None:
            return
        belief.strike(reason, now)
        if blob:
            self.journal.bad(blob, peer, reason, now)
        if now < belief.banned_until:
            self.requests.drop_peer(peer, "banned as a source", now)
            if belief.bulk != ABSENT:
                belief.bulk = ABSENT
                yield DropBulk(peer, reason)
