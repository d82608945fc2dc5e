"""Whom to ask for which chunks.  Pure functions over beliefs; the shell performs.

Spec: docs/mesh.md §8.  Three rules, in this order: a waiting client gets its next bytes from
whoever delivers them first; nodes that want the same blob begin with different chunks, so that each
crosses a thin link once; then rare chunks before common ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from operator import or_

from mesh import bits

RUN_MAX = 1024 * 1024  # bytes asked for in one request
WINDOW_MIN = 128 * 1024  # bytes in flight towards us from one peer, at least
WINDOW_MAX = 8 * 1024 * 1024  # and at most: its share of our buffers
QUEUE_TARGET = 0.25  # seconds of data queued on the path, so that it never runs dry
QUEUE_SLOW = 0.5  # seconds of it where that is little: a few chunks come too unevenly
QUEUE_LITTLE = 384 * 1024  # bytes of such a queue
WINDOW_GAIN = 1.25
ENDGAME_SPREAD = 2.0  # duplicate what would arrive so many times later than elsewhere
ENDGAME_SHARE = 0.05  # of the blob's bytes that may be asked for twice
URGENT_MIN = 4 * 1024 * 1024  # bytes ahead of a waiting client that go before all else
NEXT_MIN = 128 * 1024  # of them, where others fetch the blob too: the rest comes by stripes
NEXT_TIME = 0.05
URGENT_TIME = 2.0  # seconds of data ahead of a waiting client that go before all else


@dataclass(slots=True)
class Source:
    """What we believe of one holder, at the moment of deciding."""

    peer: bytes
    has: int  # the chunks it holds
    outstanding: int  # bytes we await from it, over all blobs
    window: int  # bytes that may be outstanding
    rtt: float
    rate: float  # bytes per second, average
    delay: float = 0.0  # seconds its upload queue needs
    failures: int = 0
    snubbed: bool = False
    far: bool = False  # at another site
    metered: bool = False  # not to be asked for anything twice
    cost: float = 0.0  # those of less cost are asked first
    capped: bool = False  # its window is what a cap leaves at the moment
    spared: int = 0  # chunks not to be asked of it: they are on their way to others, who give them

    def eta(self, size: int) -> float:
        """Return in how many seconds ``size`` more bytes would be here."""
        queued = (self.outstanding + size) / max(self.rate, 1.0)
        return (self.rtt + self.delay + queued) * (1 + self.failures)

    @property
    def room(self) -> int:
        """Bytes that may still be asked for."""
        return self.window - self.outstanding


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask ``peer`` for these chunks, in this order."""

    peer: bytes
    chunks: tuple[int, ...]
    size: int
    urgent: bool = False
    again: bool = False  # somebody else owes it already


@dataclass(frozen=True, slots=True)
class Place:
    """Our place among those who fetch a blob: of our site among sites, of ours within it."""

    site: int = 0
    sites: int = 1
    rank: int = 0
    mates: int = 1  # who fetch it at our site, with us

    @property
    def alone(self) -> bool:
        """Tell whether nobody else fetches it."""
        return self.sites * self.mates == 1

    def stripes(self, count: int) -> tuple[int, int]:
        """Return our stripe, and that of our site: what is in both is to be asked for first."""
        return _stripes(self, count)

    def spare(self, count: int) -> int:
        """Return what to take of the stripes of others, once the own one is done: of each a part.

        Those who take over what is left of a slow one's stripe then ask for different chunks.
        """
        return _spare(self, count)


@lru_cache(maxsize=64)
def _stripes(place: Place, count: int) -> tuple[int, int]:
    site, own = bits.stripe(place.site, place.sites, count), 0
    for offset in range(place.sites):  # every site's chunks are divided among its members
        number = place.rank * place.sites + offset
        own |= bits.stripe(number, place.sites * place.mates, count)
    return own, site


@lru_cache(maxsize=64)
def _spare(place: Place, count: int) -> int:
    width = place.sites * place.mates
    turn = bits.span(0, width) << (place.rank * place.sites + place.site) * width
    spare = 0
    for start in range(0, count, width * width):
        spare |= turn << start
    return spare & bits.full(count)


ALONE = Place()


@dataclass(frozen=True, slots=True)
class Blob:
    """The blob to complete.  ``offset(i)`` is where chunk ``i`` begins, and ``i - 1`` ends."""

    count: int
    offset: Callable[[int], int]
    needed: int  # chunks neither here nor on their way
    readers: tuple[int, ...] = ()  # chunk indexes that waiting clients have come to
    place: Place = ALONE

    def size(self, index: int) -> int:
        """Return the length of one chunk."""
        return self.offset(index + 1) - self.offset(index)


def window(rate_max: float, rtt_min: float, chunk: int = 0) -> int:
    """Return how many bytes to keep in flight: the path's own content, and a short queue.

    Never less than two chunks of size ``chunk``: one on its way while the next is asked for.
    """
    rate = WINDOW_GAIN * rate_max
    wanted = rate * rtt_min + max(rate * QUEUE_TARGET, min(rate * QUEUE_SLOW, QUEUE_LITTLE))
    return max(int(min(max(wanted, WINDOW_MIN), WINDOW_MAX)), 2 * chunk)


def plan(blob: Blob, sources: Sequence[Source], budget: int, rng: random.Random) -> list[Ask]:
    """Spread the needed chunks over the sources that have room; at most ``budget`` bytes.

    Updates ``outstanding`` of the sources.  A chunk without a free holder waits for the next call.
    """
    asks, needed = _plan_urgent(blob, sources, budget)
    budget -= sum(ask.size for ask in asks)
    once, twice, near = 0, 0, 0
    for source in sources:
        twice |= once & source.has
        once |= source.has
        near |= 0 if source.far or source.snubbed else source.has
    for source in sorted(sources, key=lambda s: (s.far, s.cost, s.eta(0), s.peer)):
        has = source.has & ~source.spared & ~(near if source.far else 0)
        tiers = _tiers(blob, twice, sole=bool(needed & has & ~twice))
        while budget > 0 and (source.room > 0 and not half_used(source)):
            chunks = _pick(blob, needed & has, tiers, min(source.room, budget), rng)
            if not chunks:
                break
            ask = _ask(blob, source, chunks)
            needed &= ~bits.of(chunks)
            budget -= ask.size
            asks.append(ask)
    return asks


def _tiers(blob: Blob, twice: int, *, sole: bool) -> list[int]:
    """Return what to ask a source for first, next, and so on.

    ``twice`` are the chunks that another source has, too; ``sole``: this one alone has some that we
    need, and is to be asked for those rather than for what others have.
    """
    if blob.place.alone:
        return [-1]
    own, site = blob.place.stripes(blob.count)
    spare = blob.place.spare(blob.count)
    tiers = [own & site & ~twice, own & site, own & ~twice, own, spare & ~twice, ~twice, -1]
    if not blob.readers:
        return tiers
    window = _window(blob)
    ahead = [own & site & window & ~twice, own & site & window]
    return [*ahead, *tiers] if sole else [*ahead, window & twice, *tiers]


def _window(blob: Blob) -> int:
    """Return the chunks that waiting clients will come to soon."""
    found = 0
    for reader in blob.readers:
        size = reader
        while size < blob.count and blob.offset(size) < blob.offset(reader) + URGENT_MIN:
            size += 1
        found |= bits.span(reader, size)
    return found


def half_used(source: Source) -> bool:
    """Tell whether it can wait: small refills of a large window would only cost messages."""
    if source.capped:
        return False
    return source.room < min(RUN_MAX, source.window) // 2 and source.outstanding > 0


def _plan_urgent(blob: Blob, sources: Sequence[Source], budget: int) -> tuple[list[Ask], int]:
    """Give each waiting client its next bytes, in order, from whoever delivers first."""
    asks: list[Ask] = []
    needed = blob.needed
    best_rate = max((source.rate for source in sources), default=0.0)
    ahead = max(URGENT_MIN, int(URGENT_TIME * best_rate))
    if not blob.place.alone:
        ahead = max(NEXT_MIN, int(NEXT_TIME * best_rate))
    for reader in blob.readers:
        limit, chosen = blob.offset(min(reader, blob.count)) + ahead, dict[bytes, list[int]]()
        taken: dict[bytes, int] = {}
        for index in bits.members(needed >> reader << reader):
            size = blob.size(index)
            if blob.offset(index) >= limit or budget < size:
                break
            holders = [s for s in sources if s.has >> index & 1]
            if index > reader and not blob.place.alone and all(s.far for s in holders):
                continue  # others fetch it, too: from far away only the very next goes so
            best = min(
                holders, key=lambda s: (s.eta(size + taken.get(s.peer, 0)), s.peer), default=None
            )
            if best is None:
                continue  # nobody has it yet
            used = taken.get(best.peer, 0)
            if best.room - used < size and best.outstanding + used > 0:
                break  # the best is busy: whatever comes later can wait for it too
            chosen.setdefault(best.peer, []).append(index)
            taken[best.peer] = used + size
            budget -= size
        for source in sources:
            for chunks in _split(blob, chosen.get(source.peer, [])):
                asks.append(_ask(blob, source, chunks, urgent=True))
                needed &= ~bits.of(chunks)
    return asks, needed


def _split(blob: Blob, chunks: Sequence[int]) -> list[list[int]]:
    """Cut a list of chunks into requests of at most RUN_MAX bytes."""
    parts: list[list[int]] = []
    size = RUN_MAX
    for index in chunks:
        size += blob.size(index)
        if size > RUN_MAX or not parts:
            parts.append([])
            size = blob.size(index)
        parts[-1].append(index)
    return parts


def _pick(
    blob: Blob, candidates: int, tiers: Sequence[int], room: int, rng: random.Random
) -> list[int]:
    """Choose chunks for one request: from the first tier that has any, then the next."""
    limit = min(room, RUN_MAX)
    chosen: list[int] = []
    size = 0
    for tier in tiers:
        found = candidates & tier
        if not found:
            continue
        first = (found & -found).bit_length() - 1
        start = first if blob.place.alone or blob.readers else rng.randrange(blob.count)
        for index in bits.take_from(found, start):
            length = blob.size(index)
            if chosen and size + length > limit:
                return chosen
            chosen.append(index)
            size += length
        candidates &= ~found
    return chosen


def _ask(blob: Blob, source: Source, chunks: Sequence[int], *, urgent: bool = False) -> Ask:
    size = sum(blob.size(index) for index in chunks)
    source.outstanding += size
    return Ask(source.peer, tuple(chunks), size, urgent)


@dataclass(frozen=True, slots=True)
class Pending:
    """A request on its way: the chunks that it still owes and nobody else does."""

    peer: bytes
    chunks: int


def endgame(
    pending: Sequence[Pending],
    sources: Sequence[Source],
    blob: Blob,
    needed: int,
    *,
    allowance: int,
) -> list[Ask]:
    """Ask again, elsewhere, for what would come far too late.

    Only when everything that somebody has was asked for (``needed`` is what was not): a chunk that
    nobody has yet must not let a slow peer keep the others.  At most two copies of a chunk, and
    ``allowance`` bytes in all.
    """
    idle = [s for s in sources if s.room > 0 and not s.snubbed and not s.metered]
    within_reach = reduce(or_, (s.has for s in sources if not s.snubbed), 0)
    if needed & within_reach or not idle:
        return []
    by_peer = {source.peer: source for source in sources}
    late = sorted(
        (p for p in pending if p.chunks and p.peer in by_peer),
        key=lambda p: (-by_peer[p.peer].eta(0), p.peer),
    )
    asks: list[Ask] = []
    for request in late:
        owed = by_peer[request.peer].eta(0)
        for source in sorted(idle, key=lambda s: (s.eta(0), s.peer)):
            chunks, size = _overdue(blob, request, source, owed, allowance)
            wasteful = source.far and not by_peer[request.peer].far
            if source.peer != request.peer and chunks and not wasteful:
                asks.append(replace(_ask(blob, source, chunks), again=True))
                allowance -= size
                break
    return asks


def _overdue(
    blob: Blob, request: Pending, source: Source, owed: float, allowance: int
) -> tuple[list[int], int]:
    """Return what of a request another source would deliver in half the time."""
    chosen, size = list[int](), 0
    for index in bits.members(request.chunks & source.has):
        length = blob.size(index)
        enough = size + length > min(allowance, RUN_MAX) or (size and size + length > source.room)
        if enough or source.eta(size + length) * ENDGAME_SPREAD >= owed:
            break
        chosen.append(index)
        size += length
    return chosen, size
