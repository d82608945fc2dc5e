"""One blob on its way here: its manifest, who holds what, and what has been asked of whom.  Pure.

Spec: docs/mesh.md §8.  This is bookkeeping; ``mesh.exchange`` decides and speaks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from mesh import bits
from mesh.beliefs import Asked
from mesh.claims import Claims
from mesh.messages import CHUNKS_MAX, COMPLETE, COURIER, NONE, PARTIAL
from mesh.profile import Meter
from mesh.scheduler import Blob, Place
from store.chunking import WHOLE_MAX
from store.chunks import Manifest, Root
from store.digest import Digest
from store.errors import ManifestInvalidError

PAGES_INFLIGHT = 4  # manifest pages asked for at once
PAGE_TIMEOUT = 3.0  # seconds, before another holder is asked for the page
EMPTY = Digest.of(b"").raw
DEFERRED_MAX = 256  # redirections of one holder that are remembered
ASK_AGAIN = 1.0  # seconds after a claim that did not hold, until a holder is asked once more
LIES_MAX = 3  # claims of a holder that did not hold, until it does not count for this blob
LIE_PAUSE = 30.0  # seconds that it does not count then, twice as long after each further claim
LIE_PAUSE_MAX = 3600.0


@dataclass(slots=True)
class Holder:
    """What a peer says it has of the blob."""

    state: int = NONE
    size: int = 0
    manifest: bytes = b""
    chunks: int = 0  # for state PARTIAL
    asked_at: float = 0.0
    asked_hops: int = -1
    again_at: float = math.inf  # when to ask what it has, ahead of the usual repetition
    answered: bool = False
    vain: int = 0  # times that a manifest it named was tried, and nothing came of it
    turns: int = 0  # times that one was believed, and given up
    bad: bool = False  # gave a manifest or claims that did not hold
    lies: int = 0
    forgiven_at: float = math.inf  # when its claims count again: a disk that failed is mended
    redirected: int = 0  # chunks for which it has sent us to others, which it may do once
    deferred: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])

    def defer(self, chunks: int, until: float) -> None:
        """Do not ask it for these chunks until then: others shall have them sooner."""
        self.deferred = [*self.deferred[-DEFERRED_MAX:], (until, chunks)]

    def deferring(self, now: float) -> int:
        """Return the chunks that it is not to be asked for now."""
        if not self.deferred:
            return 0
        self.deferred = [entry for entry in self.deferred if entry[0] > now]
        found = 0
        for _, chunks in self.deferred:
            found |= chunks
        return found

    @property
    def gives(self) -> bool:
        """Tell whether it says it has anything."""
        if self.bad:
            return False
        return self.state == COMPLETE or (self.state == PARTIAL and self.chunks != 0)

    def lied(self, now: float) -> None:
        """It has not what it said it had; soon it may, or know better what it has."""
        self.lies += 1
        self.again_at = min(self.again_at, now + ASK_AGAIN)
        if self.lies >= LIES_MAX and not self.bad:
            self.bad = True
            pause = LIE_PAUSE * 2.0 ** min(self.lies - LIES_MAX, 10)
            self.forgiven_at = now + min(pause, LIE_PAUSE_MAX)

    def forgive(self, now: float) -> None:
        """Count its claims again, once what it said has long not held."""
        if now >= self.forgiven_at:
            self.bad, self.forgiven_at = False, math.inf
            self.again_at = now  # what it has may be another thing by now


@dataclass(slots=True)
class Request:
    """One Want on its way.  ``chunks`` and ``size`` are what it still owes."""

    id: int
    blob: bytes
    manifest: bytes
    peer: bytes
    chunks: int
    size: int
    asked: Asked


@dataclass(slots=True)
class Download:
    """The state of one blob."""

    blob: bytes
    size: int  # 0 while unknown
    manifest_id: bytes  # empty while unknown
    authenticated: bool  # the manifest id comes from a signed record, or needs none
    started: float
    path: tuple[bytes, ...] = ()  # who wanted it before us, when we only pass it on
    relay_for: bytes = b""  # the neighbour for which it was begun
    hops: int = 0  # how far others may look on our behalf
    priority: int = COURIER
    local: int = 0  # waiters on this node
    serve_from: int = 0  # byte that the client of a peer has come to
    widened: bool = False  # neighbours look further on our behalf
    widened_at: float = 0.0
    vain: bool = False  # those who asked us have been told that there is nothing
    wanted_until: float = 0.0  # kept without waiters until then
    root: Root | None = None
    manifest: Manifest | None = None
    opening: bool = False
    open: bool = False
    tried: bool = False  # by this manifest something was asked for, since something came
    finishing: bool = False
    have: int = 0
    writing: int = 0
    pages: dict[int, bytes] = field(default_factory=dict[int, bytes])
    early: bytes = b""  # the first page, if it came before the root
    asked_pages: dict[int, tuple[bytes, float]] = field(
        default_factory=dict[int, tuple[bytes, float]]
    )
    lapsed_pages: set[tuple[bytes, int]] = field(default_factory=set[tuple[bytes, int]])
    holders: dict[bytes, Holder] = field(default_factory=dict[bytes, Holder])
    claims: Claims = field(default_factory=Claims)  # what others await
    requests: dict[int, Request] = field(default_factory=dict[int, Request])
    readers: tuple[int, ...] = ()  # the chunk that each waiting client needs next
    meter: Meter = field(default_factory=lambda: Meter(halflife=5.0))  # bytes that were of use
    delta: bytes = b""  # the delta that may make it: its own chunks are not asked for meanwhile
    news: int = 0  # chunks verified since the last Have
    told: int = 0  # chunks that it named as awaited
    told_at: float = 0.0  # when it was sent
    hasty: int = 0  # times that it was sent sooner than usual
    opened_at: float = 0.0  # when the first chunk could be asked for
    duplicated: int = 0  # bytes asked for twice on purpose
    refetched: int = 0  # bytes that came although they were here
    dry_since: float = math.inf  # since when nothing has come by this manifest, nor is on its way
    mark: tuple[bytes, int, int] = (b"", 0, 0)  # how far it had come then
    manifest_from: set[bytes] = field(default_factory=set[bytes])
    refused: set[bytes] = field(default_factory=set[bytes])  # manifests that proved wrong
    named: int = 0  # size that our own callers know from a record; others' is their claim

    # --- what a record says ---------------------------------------------------------------------
    def agrees(self, size: int, manifest: bytes) -> bool:
        """Tell whether what a record names is what is fetched already."""
        manifest = self._credible(manifest)
        if manifest not in (b"", self.manifest_id):
            return False
        proven = self.manifest is not None and bool(manifest)  # the id commits to the size
        return proven or size in (0, self.size)

    def vouch(self, size: int, manifest: bytes) -> None:
        """Go by the size, and the manifest if one is given, that a record names."""
        agrees, manifest = self.agrees(size, manifest), self._credible(manifest)
        self.named = size or self.named
        if not agrees:
            self.forget_manifest(wrong=manifest not in (b"", self.manifest_id))
            self.manifest_id, self.size = manifest, size
        self.authenticated = bool(manifest)
        self.choose_manifest()

    def _credible(self, manifest: bytes) -> bytes:
        """Return none for one whose whole did not hash to its digest, whatever a record says."""
        return b"" if manifest in self.refused else manifest

    # --- the manifest --------------------------------------------------------------------------
    def settle_manifest(self) -> bool:
        """Make the manifest if it needs no asking: the blob is a single chunk.

        Of a size on hearsay only that one which is named: its id commits to the size.
        """
        single = 0 < self.size <= WHOLE_MAX or self.blob == EMPTY
        if single and not (self.authenticated and self.manifest is not None):
            whole = Manifest.whole(Digest.sha256(self.blob), self.size)
            known = self.authenticated or self.named == self.size or self.blob == EMPTY
            if self.manifest is None and (known or whole.id == self.manifest_id):
                self.take_manifest(whole)
            self.authenticated = known and self.manifest_id == whole.id
        return self.manifest is not None

    def take_manifest(self, manifest: Manifest) -> None:
        """Know the chunks from now on."""
        self.manifest = manifest
        self.manifest_id, self.size = manifest.id, manifest.size
        self._drop_pages()

    def _drop_pages(self) -> None:
        self.pages.clear()
        self.asked_pages.clear()
        self.lapsed_pages.clear()
        self.early = b""

    def choose_manifest(self, *, but: bytes | None = None) -> None:
        """Believe the manifest id that most holders name, if no record names one.

        ``but`` is one that has just been of no use.  Who named such comes after those who did not,
        however it calls the next one: so everybody's has its turn.
        """
        if self.authenticated or self.manifest_id:
            return
        votes: dict[tuple[bytes, int], list[tuple[int, int]]] = {}
        for holder in self.holders.values():
            if self.candidate(holder) and holder.manifest != but:
                votes.setdefault((holder.manifest, holder.size), []).append(
                    (-holder.vain, -holder.turns)
                )
        if votes:
            best = max(votes, key=lambda each: (max(votes[each]), len(votes[each]), each))
            self.manifest_id, self.size = best

    def candidate(self, holder: Holder) -> bool:
        """Tell whether a holder names a manifest that may be tried."""
        fits = holder.size > 0 and self.named in (0, holder.size)
        held = holder.state in (COMPLETE, PARTIAL) and not holder.bad
        return held and fits and holder.manifest not in {*self.refused, b""}

    def page(self, number: int, data: bytes, peer: bytes) -> bool:
        """Take a page that was asked for.  Return whether it came in time.

        Raises ManifestInvalidError: blame the peer.
        """
        prompt = (peer, number) not in self.lapsed_pages
        self.asked_pages.pop(number, None)
        self.lapsed_pages.discard((peer, number))
        if number == 0:
            root = Root.decode(data)
            if root.id != self.manifest_id or root.blob.raw != self.blob:
                raise ManifestInvalidError("not the manifest that was asked for")
            known = self.size if self.authenticated else self.named  # else the root tells it
            if root.count > CHUNKS_MAX or (known and root.size != known):
                raise ManifestInvalidError("a manifest of another size")
            self.root = root
            early, self.early = self.early, b""
            if root.pages[:1] == (hashlib.sha256(early).digest(),):
                self.page(1, early, peer)
        elif self.root is not None:
            self.root.page(number - 1, data)
            self.pages[number] = data
        elif number == 1:
            self.early = data  # judged when the root has come
        self.manifest_from.add(peer)
        if self.root is not None and len(self.pages) == len(self.root.pages):
            ordered = (self.pages[n + 1] for n in range(len(self.root.pages)))
            self.take_manifest(self.root.assemble(ordered))
        return prompt

    def lapse(self, now: float) -> set[bytes]:
        """Await no longer what has not come in time.  Return who let us wait.

        What comes late is taken all the same: else two slow holders would never give anything.
        """
        over = {n: peer for n, (peer, deadline) in self.asked_pages.items() if deadline <= now}
        self._lapse(over)
        return set(over.values())

    def release(self, peers: set[bytes]) -> None:
        """Ask others for what these were asked for, though their time is not over."""
        self._lapse({n: peer for n, (peer, _) in self.asked_pages.items() if peer in peers})

    def _lapse(self, over: dict[int, bytes]) -> None:
        for number, peer in over.items():
            del self.asked_pages[number]
            self.lapsed_pages.add((peer, number))

    def expects(self, number: int, peer: bytes) -> bool:
        """Tell whether a page that a peer gives was asked of it, and is of use."""
        if self.asked_pages.get(number, (b"", 0.0))[0] == peer:
            return True
        here = number in self.pages or (self.root is not None and number == 0)
        here = here or (number == 1 and bool(self.early))
        return (peer, number) in self.lapsed_pages and not here

    def unask(self, peer: bytes) -> None:
        """Expect no page of a peer any more; it does not let us wait for them."""
        self.asked_pages = {n: each for n, each in self.asked_pages.items() if each[0] != peer}
        self.lapsed_pages = {each for each in self.lapsed_pages if each[0] != peer}

    def pages_wanted(self) -> Iterator[int]:
        """Iterate over the pages to ask for now."""
        if self.root is None:
            if 0 not in self.asked_pages:
                yield 0
            if 1 not in self.asked_pages and not self.early:
                yield 1  # it is there whatever the root says: no round trip for it alone
            return
        free = PAGES_INFLIGHT - len(self.asked_pages)
        for number in range(1, len(self.root.pages) + 1):
            if free <= 0:
                return
            if number not in self.pages and number not in self.asked_pages:
                free -= 1
                yield number

    def forget_manifest(self, *, wrong: bool = True) -> set[bytes]:
        """Begin again; if the whole did not hash to its digest, never with this manifest.

        Return who gave us the manifest.
        """
        culprits, self.manifest_from = self.manifest_from, set()
        if self.manifest_id and wrong:  # else who has not answered yet would seem to have named it
            self.refused.add(self.manifest_id)
            for holder in self.holders.values():
                holder.bad = holder.bad or holder.manifest == self.manifest_id
        self.manifest, self.root, self.manifest_id = None, None, b""
        self.authenticated, self.size = False, self.named
        for holder in self.holders.values():
            holder.redirected, holder.deferred = 0, []  # chunks of that manifest
        self._drop_pages()
        self.have = self.writing = self.news = 0
        self.dry_since, self.tried, self.readers = math.inf, False, ()
        self.claims.restart()
        self.open = self.opening = self.finishing = False
        return culprits

    def awaits(self, manifest: bytes) -> bool:
        """Tell whether the partial blob of this manifest is being opened, and still wanted."""
        return self.opening and manifest == self.manifest_id

    # --- the chunks ----------------------------------------------------------------------------
    @property
    def count(self) -> int:
        """The number of chunks; the manifest must be known."""
        return len(self._known.chunks)

    @property
    def _known(self) -> Manifest:
        if self.manifest is None:
            raise RuntimeError("the manifest is not known yet")
        return self.manifest

    def length(self, first: int, count: int = 1) -> int:
        """Return the size of adjacent chunks together."""
        return self._known.offset(first + count) - self._known.offset(first)

    @property
    def missing(self) -> int:
        """Chunks that are neither here nor being written."""
        return bits.full(self.count) & ~self.have & ~self.writing

    @property
    def complete(self) -> bool:
        """Tell whether every chunk is verified."""
        return self.open and self.have == bits.full(self.count)

    @property
    def verified(self) -> int:
        """Bytes that are here, verified."""
        if self.manifest is None:
            return 0
        return sum(self.length(start, stop - start) for start, stop in bits.runs(self.have))

    def chunks_of(self, holder: Holder) -> int:
        """Return the chunks that a holder says it has, in our manifest's terms."""
        if holder.bad or (holder.manifest and holder.manifest != self.manifest_id):
            return 0
        return bits.full(self.count) if holder.state == COMPLETE else holder.chunks

    def usable_holder(self, holder: Holder) -> bool:
        """Tell whether it could give us the manifest."""
        named = holder.manifest == self.manifest_id or not holder.manifest
        return holder.state in (COMPLETE, PARTIAL) and named and not holder.bad

    def view(self, claimed: int, place: Place) -> Blob:
        """Return the scheduler's view; ``claimed`` chunks are on their way already."""
        return Blob(
            count=self.count,
            offset=self._known.offset,
            needed=self.missing & ~claimed,
            readers=self.needed_next,
            place=place,
        )

    @property
    def needed_next(self) -> tuple[int, ...]:
        """Return the chunk that each waiting client needs next, here or further on."""
        if self.local or self.manifest is None:
            return self.readers
        first = bits.next_of(self.missing, self.chunk_at(self.serve_from))
        return () if first is None else (first,)

    def chunk_at(self, offset: int) -> int:
        """Return the chunk that holds a byte offset; the number of chunks beyond the end."""
        if offset >= self._known.size:
            return self.count
        return self._known.locate(offset, offset + 1).start
