"""Sets of documents that were served lately: clients in mid-refresh still ask for parts of them.

A client reads what vouches for a set first, and its documents by their digests after; on a thin
link that takes minutes, in which the suite may change a hundred times.  So a set stays known for a
time after another took its place, within a number and a size, and the newest few in any case.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from formats.contract import GENERATION_SECONDS, GENERATIONS_MAX, GENERATIONS_MIN
from store.blobs import Ingested
from store.digest import Digest

SETS_MAX = 1024  # keys whose generations are remembered
SIZE_MAX = 1 << 30  # bytes of the documents that only older generations of one key have
TOTAL_MAX = 4 << 30  # bytes of those of all keys together, but for the few that always stay
Key = tuple[str, str]
DocumentSet = Mapping[str, Ingested]


@dataclass(slots=True)
class Generation:
    """A set, and when another took its place (None: it is the newest), in seconds of the clock."""

    documents: DocumentSet
    left: float | None = None


class Generations:
    """The sets of each key, newest first.  ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Key, list[Generation]] = OrderedDict()
        self._sizes: dict[Key, int] = {}  # bytes of what only older generations of a key have
        self._total = 0

    def add(self, key: Key, documents: DocumentSet) -> None:
        """Note a set as the newest of a key, unless it is."""
        kept = self._kept.setdefault(key, [])
        self._kept.move_to_end(key)
        while len(self._kept) > SETS_MAX:
            self._sized(self._kept.popitem(last=False)[0], 0)
        if kept and kept[0].documents == documents:
            return
        if kept:
            kept[0].left = self._clock()
        kept.insert(0, Generation(documents))
        self._prune(key)
        self._bound()

    def of(self, key: Key) -> tuple[DocumentSet, ...]:
        """The sets of a key that are known still."""
        self._prune(key)
        return tuple(each.documents for each in self._kept.get(key, []))

    def blobs(self) -> Iterator[Digest]:
        """What all these sets are made of; some of it several times."""
        for key, kept in self._kept.items():
            self._prune(key)
            for each in kept:
                for blob in each.documents.values():
                    yield blob.digest

    def _bound(self) -> None:
        """Forget what was superseded longest ago until all keys together are small enough."""
        if self._total <= TOTAL_MAX:
            return
        waiting = [
            (each.left or 0.0, key)
            for key, kept in self._kept.items()
            for each in kept[GENERATIONS_MIN:]
        ]
        for _, key in sorted(waiting):  # of one key, the last is the one that left first
            if self._total <= TOTAL_MAX:
                return
            self._kept[key].pop()
            self._prune(key)

    def _prune(self, key: Key) -> None:
        """Forget what is too old or too much of a key, and note what the rest comes to."""
        kept = self._kept.get(key, [])
        oldest = self._clock() - GENERATION_SECONDS
        held = {blob.digest for each in kept[:1] for blob in each.documents.values()}
        size = 0
        for place, each in enumerate(kept):
            own = {b.digest: b.size for b in each.documents.values() if b.digest not in held}
            held |= own.keys()
            more = size + sum(own.values())
            aged = each.left is not None and each.left < oldest
            if place >= GENERATIONS_MIN and (aged or place >= GENERATIONS_MAX or more > SIZE_MAX):
                del kept[place:]
                break
            size = more
        self._sized(key, size)

    def _sized(self, key: Key, size: int) -> None:
        self._total += size - self._sizes.pop(key, 0)
        if size:
            self._sizes[key] = size
