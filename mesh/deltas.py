"""Deltas: what a holder offers instead of a blob, and whether to take it.  Pure.

Spec: docs/mesh.md §16, docs/delta.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from mesh.download import Download
from mesh.messages import Count, Id, Message
from store.delta import SIZE_MAX

OFFERS_MAX = 4  # deltas offered at a time
SPARED_MIN = 64 << 10  # bytes below which it is not worth the round trips
OVERHEAD = 0.2  # seconds that a delta costs beside moving it
APPLY_RATE = 100e6  # bytes per second of the blob that applying a delta makes
PACK_RATE = 20e6  # bytes per second that zlib packs, where a delta needs it
GAIN = 0.9  # of the time without it, at most, that a delta may take
GRACE = 10.0  # seconds that a delta may take beyond twice what it should
TRIES_MAX = 3  # of one delta for one blob, and of one peer's: links break, and come back
TRIED_MAX = 1024  # deltas remembered that were tried, and of whom
BAD_MAX = 2  # deltas that made other bytes, until a peer's are taken no more
LIARS_MAX = 1024


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """A blob of ``size`` bytes that makes another one of ``basis``.

    ``work`` is how many bytes have to be packed for that.
    """

    basis: Id
    delta: Id
    size: Count
    work: Count = 0


class Deltas(Message, frozen=True):
    """Who has one of these older blobs may fetch the delta instead of ``blob``; the best first."""

    blob: Id
    offers: Annotated[tuple[Delta, ...], msgspec.Meta(max_length=OFFERS_MAX)]


DELTAS: dict[int, type[Message]] = {0x80 | 17: Deltas}


@dataclass(frozen=True, slots=True)
class Way:
    """How fast the blob would come, and the delta: bytes per second.  ``metered``: bytes cost."""

    whole: float
    delta: float
    metered: bool = False


def best(missing: int, offers: Iterable[Delta], way: Way) -> Delta | None:
    """Return the delta to take instead of ``missing`` bytes of chunks, if one is better.

    Over a metered link that is the smallest; elsewhere the one with which the blob is here first.
    """
    found, least = None, GAIN * missing / max(way.whole, 1.0)
    for each in offers:
        if missing - each.size < SPARED_MIN:
            continue
        cost = each.size if way.metered else seconds(missing, each, way)
        if (found is None and way.metered) or cost < least:
            found, least = each, cost
    return found


def seconds(missing: int, offer: Delta, way: Way) -> float:
    """Return how long it takes to have a blob by a delta."""
    moving = offer.size / max(way.delta, 1.0)
    return moving + making(missing, offer)


def making(missing: int, offer: Delta) -> float:
    """Return how long it takes to make a blob of a delta that is here."""
    return OVERHEAD + missing / APPLY_RATE + offer.work / PACK_RATE


def patience(missing: int, offer: Delta, way: Way) -> float:
    """Return how long a blob's own chunks wait for a delta at most.

    Twice what it should take; but if that is more, only as long as the blob itself would.
    """
    whole = missing / max(way.whole, 1.0) + making(missing, offer)
    return GRACE + min(2 * seconds(missing, offer, way), whole)


@dataclass(slots=True)
class Judge:
    """Remembers which deltas were in vain, and whose made other bytes."""

    tried: OrderedDict[tuple[bytes, bytes], int] = field(
        default_factory=OrderedDict[tuple[bytes, bytes], int]
    )  # (blob, delta) → how often
    turns: OrderedDict[tuple[bytes, bytes], int] = field(
        default_factory=OrderedDict[tuple[bytes, bytes], int]
    )  # (peer, blob) → how often
    bad: OrderedDict[bytes, int] = field(default_factory=OrderedDict[bytes, int])  # by peer

    def sane(self, peer: bytes, download: Download, offers: Iterable[Delta]) -> Sequence[Delta]:
        """Return the offers that may be considered for a blob on its way here."""
        if self.bad.get(peer, 0) >= BAD_MAX or download.finishing or download.size > SIZE_MAX:
            return []
        if self.turns.get((peer, download.blob), 0) >= TRIES_MAX:
            return []  # a peer has as many names for what does not come as it likes
        return [
            each
            for each in offers
            if 0 < each.size < SIZE_MAX
            and each.work <= SIZE_MAX
            and (download.size == 0 or each.size + SPARED_MIN <= download.size)
            and download.blob not in (each.basis, each.delta)
            and each.basis != each.delta
            and self.tried.get((download.blob, each.delta), 0) < TRIES_MAX
        ]

    def attempt(self, blob: bytes, delta: bytes, times: int = 1) -> None:
        """A delta is being tried; what is wrong counts as TRIES_MAX times, so never again."""
        self.tried[blob, delta] = self.tried.pop((blob, delta), 0) + times
        while len(self.tried) > TRIED_MAX:
            self.tried.popitem(last=False)

    def turn(self, peer: bytes, blob: bytes) -> None:
        """A blob is held back for a delta that a peer offers, whatever comes of it."""
        self.turns[peer, blob] = self.turns.pop((peer, blob), 0) + 1
        while len(self.turns) > TRIED_MAX:
            self.turns.popitem(last=False)

    def blame(self, peer: bytes) -> None:
        """A peer's delta made other bytes than it said."""
        self.bad[peer] = self.bad.pop(peer, 0) + 1
        while len(self.bad) > LIARS_MAX:
            self.bad.popitem(last=False)
