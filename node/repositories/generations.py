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

    def add(self, key: Key, documents: DocumentSet) -> None:
        """Note a set as the newest of a key, unless it is."""
        kept = self._kept.setdefault(key, [])
        self._kept.move_to_end(key)
        while len(self._kept) > SETS_MAX:
            self._kept.popitem(last=False)
        if kept and kept[0].documents == documents:
            return
        if kept:
            kept[0].left = self._clock()
        kept.insert(0, Generation(documents))
        self._prune(kept)

    def of(self, key: Key) -> tuple[DocumentSet, ...]:
        """The sets of a key that are known still."""
        kept = self._kept.get(key, [])
        self._prune(kept)
        return tuple(each.documents for each in kept)

    def blobs(self) -> Iterator[Digest]:
        """What all these sets are made of; some of it several times."""
        for kept in self._kept.values():
            self._prune(kept)
            for each in kept:
                for blob in each.documents.values():
                    yield blob.digest

    def _prune(self, kept: list[Generation]) -> None:
        """Forget what is too old or too much."""
        oldest = self._clock() - GENERATION_SECONDS
        held = {blob.digest for each in kept[:1] for blob in each.documents.values()}
        size = 0
        for place, each in enumerate(kept):
            own = {b.digest: b.size for b in each.documents.values() if b.digest not in held}
            held |= own.keys()
            size += sum(own.values())
            aged = each.left is not None and each.left < oldest
            if place >= GENERATIONS_MIN and (aged or place >= GENERATIONS_MAX or size > SIZE_MAX):
                del kept[place:]
                return
