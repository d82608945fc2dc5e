"""What became of each transfer, and why: kept by the cores as they decide, not by logging.  Pure.

Spec: docs/mesh.md §12.  Bounded in every direction: the stories of blobs on their way and of the
last STORIES_MAX that ended, the last EVENTS_MAX events of each, SOURCES_MAX peers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

STORIES_MAX = 256  # blobs remembered, those on their way included
EVENTS_MAX = 128  # of one blob: the last ones
SOURCES_MAX = 64  # of one blob
MERGE = 1.0  # seconds within which the same event of the same peer only counts up

WANTED, FOUND, MANIFEST, ASKED, STALLED, AGAIN, REDIRECTED, REFUSED, BAD, LOST, ENDED = (
    "wanted",
    "found",
    "manifest",
    "asked",
    "stalled",
    "asked twice",
    "redirected",
    "refused",
    "bad chunk",
    "lost",
    "ended",
)

COMPLETE = "complete"  # the outcome of a story that ended well
STATES = {0: "has none of it", 1: "has all of it", 2: "has a part of it", 3: "looks for it"}


@dataclass(slots=True)
class Event:
    """Something that was decided or happened, and its reason."""

    at: float
    what: str
    peer: bytes
    why: str
    count: int = 1


@dataclass(slots=True)
class Share:
    """What one peer had to do with one blob."""

    received: int = 0  # bytes that were of use
    wasted: int = 0
    requests: int = 0
    redirected: int = 0  # chunks
    stalls: int = 0
    bad: int = 0  # answers
    state: int = -1  # what it last said it has, as in HaveBlob
    first_at: float = 0.0  # when its first bytes came; 0: never
    last_at: float = 0.0


@dataclass(slots=True)
class Story:
    """One blob's way here."""

    blob: bytes
    began: float
    ended: float = 0.0  # 0: it is on its way
    outcome: str = ""
    size: int = 0
    shares: dict[bytes, Share] = field(default_factory=dict[bytes, Share])
    events: deque[Event] = field(default_factory=lambda: deque[Event](maxlen=EVENTS_MAX))
    forgotten: int = 0  # events that were dropped for newer ones

    def share(self, peer: bytes) -> Share:
        """Return what is known of one peer; beyond the maximum, of nobody in particular."""
        if peer not in self.shares and len(self.shares) >= SOURCES_MAX:
            peer = b""
        return self.shares.setdefault(peer, Share())


@dataclass(slots=True)
class Totals:
    """What became of all transfers since the start."""

    received: int = 0  # bytes that were of use
    wasted: int = 0
    complete: int = 0
    given_up: int = 0
    stalls: int = 0
    redirected: int = 0  # chunks
    bad: int = 0  # answers


@dataclass(slots=True)
class Journal:
    """The stories of this node's transfers."""

    stories: OrderedDict[bytes, Story] = field(default_factory=OrderedDict[bytes, Story])
    totals: Totals = field(default_factory=Totals)

    def begin(self, blob: bytes, why: str, now: float) -> None:
        """A blob is wanted, perhaps not for the first time."""
        story = self.stories.get(blob)
        if story is None or story.ended:
            self.stories[blob] = Story(blob, now)
            self.stories.move_to_end(blob)
            self._trim()
        self.note(blob, WANTED, b"", why, now)

    def note(self, blob: bytes, what: str, peer: bytes, why: str, now: float) -> None:
        """Write down what happened; the same thing again soon after only counts."""
        story = self.stories.get(blob)
        if story is None:
            return
        last = story.events[-1] if story.events else None
        same = last is not None and (last.what, last.peer, last.why) == (what, peer, why)
        if last is not None and same and now - last.at <= MERGE:
            last.count += 1
            return
        if len(story.events) == EVENTS_MAX:
            story.forgotten += 1
        story.events.append(Event(now, what, peer, why))

    def asked(self, blob: bytes, peer: bytes, why: str, now: float) -> None:
        """A request was sent; the first one, and the first after trouble, is an event."""
        story = self.stories.get(blob)
        if story is None:
            return
        share = story.share(peer)
        share.requests += 1
        last = next((e for e in reversed(story.events) if e.peer == peer), None)
        if last is None or last.what not in (ASKED, AGAIN, REDIRECTED):
            self.note(blob, ASKED, peer, why, now)

    def gave(self, blob: bytes, peer: bytes, size: int, now: float, *, useful: bool) -> None:
        """Chunks have come."""
        if useful:
            self.totals.received += size
        else:
            self.totals.wasted += size
        story = self.stories.get(blob)
        if story is None:
            return
        share = story.share(peer)
        if useful:
            share.received += size
            share.first_at = share.first_at or now
            share.last_at = now
        else:
            share.wasted += size

    def found(self, blob: bytes, peer: bytes, state: int, now: float) -> None:
        """A peer has told what it has; the same again is no news."""
        story = self.stories.get(blob)
        if story is not None and story.share(peer).state != state:
            story.share(peer).state = state
            self.note(blob, FOUND, peer, STATES.get(state, "?"), now)

    def opened(self, blob: bytes, chunks: int, here: int, now: float) -> None:
        """The manifest is known."""
        self.note(blob, MANIFEST, b"", f"{chunks} chunks, {here} of them here", now)

    def stalled(self, blob: bytes, peer: bytes, why: str, now: float) -> None:
        """A peer that owes chunks gives none."""
        self.totals.stalls += 1
        self.note(blob, STALLED, peer, why, now)
        if (story := self.stories.get(blob)) is not None:
            story.share(peer).stalls += 1

    def redirected(
        self, blob: bytes, peer: bytes, chunks: int, nodes: Sequence[bytes], now: float
    ) -> None:
        """A peer says to ask others first."""
        self.totals.redirected += chunks
        names = " ".join(node.hex()[:8] for node in nodes) or "nobody"
        self.note(blob, REDIRECTED, peer, f"to {names}", now)
        if (story := self.stories.get(blob)) is not None:
            story.share(peer).redirected += chunks

    def bad(self, blob: bytes, peer: bytes, why: str, now: float) -> None:
        """A peer gave what it must not give."""
        self.totals.bad += 1
        self.note(blob, BAD, peer, why, now)
        if (story := self.stories.get(blob)) is not None:
            story.share(peer).bad += 1

    def end(self, blob: bytes, outcome: str, size: int, now: float) -> None:
        """It is here, or will not come."""
        if outcome == COMPLETE:
            self.totals.complete += 1
        else:
            self.totals.given_up += 1
        story = self.stories.get(blob)
        if story is not None:
            self.note(blob, ENDED, b"", outcome, now)
            story.ended, story.outcome, story.size = now, outcome, size

    def _trim(self) -> None:
        """Forget the oldest that have ended, or the oldest if none has."""
        while len(self.stories) > STORIES_MAX:
            over = next((blob for blob, story in self.stories.items() if story.ended), None)
            del self.stories[next(iter(self.stories)) if over is None else over]
