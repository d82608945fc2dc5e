"""Where deltas pay, and what making them may cost.  Pure.

Docs: docs/delta.md.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

SHARE = 0.05  # of a core, that making deltas may take in the long run
SAVED_MAX = 600.0  # seconds of a core that may be saved up for when there is much to do
PAYS = 0.9  # of the blob's size, that the best delta may have to have paid
CHANCES = 2  # tries in a row that did not, before there is a rest
REST = 3600.0  # seconds without another try then, doubled by each further
REST_MAX = 7 * 86400.0
FAMILIES_MAX = 4096  # remembered, those last tried


@dataclass(slots=True)
class Allowance:
    """Seconds of a core, given at a steady rate.  One piece of work may overdraw it."""

    saved: float = SAVED_MAX
    spent: float = 0.0  # in all
    _at: float | None = None

    def spend(self, seconds: float, now: float) -> None:
        """Take what a piece of work has cost."""
        self._gain(now)
        self.saved -= seconds
        self.spent += seconds

    def wait(self, now: float) -> float:
        """Return in how many seconds the next piece of work may begin."""
        self._gain(now)
        return max(0.0, -self.saved / SHARE)

    def _gain(self, now: float) -> None:
        if self._at is not None:
            self.saved = min(SAVED_MAX, self.saved + SHARE * max(0.0, now - self._at))
        self._at = now


@dataclass(slots=True)
class Payback:
    """Remembers of which families of blobs (versions of one file) deltas did not pay.

    These are tried again after a while, and like any other once one has paid.
    """

    _vain: OrderedDict[str, tuple[int, float]] = field(
        default_factory=OrderedDict[str, tuple[int, float]]
    )  # family → how often in a row, and until when it rests

    def resting(self, family: str, now: float) -> bool:
        """Tell whether no delta of a family is to be tried at present."""
        return now < self._vain.get(family, (0, 0.0))[1]

    def note(self, family: str, now: float, *, paid: bool) -> None:
        """Take what came of a try."""
        times = self._vain.pop(family, (0, 0.0))[0] + 1
        if paid:
            return
        rest = min(REST_MAX, REST * 2.0 ** min(times - CHANCES, 16))
        self._vain[family] = times, now + rest if times >= CHANCES else 0.0
        while len(self._vain) > FAMILIES_MAX:
            self._vain.popitem(last=False)

    def __len__(self) -> int:
        return len(self._vain)
