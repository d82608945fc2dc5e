"""What we tell members of our holdings: changes as they come, and what they missed.  Pure.

Spec: docs/mesh.md §13.3.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from mesh.copies import IDS_MAX, HoldingsDelta, HoldingsPage

ID = 5  # bytes of a digest that make an id
LOG_MAX = 65_536  # changes remembered for those who were away


class Advert:
    """Our holdings as a sequence of changes.  ``epoch`` is new at every start."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.seq = epoch, 0
        self._log: deque[tuple[bytes, bool]] = deque(maxlen=LOG_MAX)

    def moved(self, blobs: Mapping[bytes, bool]) -> list[HoldingsDelta]:
        """Note what has come (True) and gone; what to tell everybody."""
        after = self.seq
        changes = [(blob[:ID], came) for blob, came in blobs.items()]
        self._log.extend(changes)
        self.seq += len(changes)
        return list(self._deltas(after, changes))

    def since(self, epoch: int, seq: int) -> list[HoldingsDelta] | None:
        """Return what a member missed; None if it must be told everything."""
        if epoch != self.epoch or not self.seq - len(self._log) <= seq <= self.seq:
            return None
        missed = islice(self._log, len(self._log) - (self.seq - seq), None)
        return list(self._deltas(seq, list(missed)))

    def _deltas(self, after: int, changes: list[tuple[bytes, bool]]) -> Iterator[HoldingsDelta]:
        for start in range(0, len(changes), IDS_MAX):
            last = dict(changes[start : start + IDS_MAX])  # what came and went again has gone
            added = b"".join(sorted(each for each, came in last.items() if came))
            removed = b"".join(sorted(each for each, came in last.items() if not came))
            begin = after + start
            upto = begin + len(changes[start : start + IDS_MAX])
            yield HoldingsDelta(self.epoch, begin, upto, added, removed)


def pages(shard: int, suffixes: Iterable[bytes]) -> Iterator[HoldingsPage]:
    """Cut one shard into messages; an empty one is a message, too."""
    ordered = sorted(set(suffixes))
    for piece, start in enumerate(range(0, max(1, len(ordered)), IDS_MAX)):
        yield HoldingsPage(shard, piece, b"".join(ordered[start : start + IDS_MAX]))
