"""What one peer has told of its ledgers, and what we still want of it.  Pure.

Spec: docs/mesh.md §7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

CHOICES_MAX = 64  # chains of one peer weighed at a time, however many it claims to have

PATIENCE = 3  # refusals in a row until the pauses grow
PAUSE_MAX = 3600.0  # seconds between two questions for what is refused again and again

Key = tuple[bytes, int]  # author, incarnation
Reach = tuple[int, bytes]  # seq, record id


@dataclass(slots=True)
class Asked:
    """Records of one chain that a peer owes us, up to seq ``upto``.

    ``reach`` is how far we had the chain when it last grew; ``latest`` when it must have grown.
    """

    peer: bytes
    upto: int
    deadline: float
    reach: int
    latest: float


@dataclass(slots=True)
class SyncPeer:
    """One linked peer."""

    heads: dict[Key, int] = field(default_factory=dict[Key, int])
    lacking: dict[Key, int] = field(default_factory=dict[Key, int])  # of heads, what we may lack
    root: Reach = (0, b"")
    roots_due: float = 0.0  # while above zero, we wait for root documents until then
    roots_asked: Reach = (0, b"")
    batch: bytearray = field(default_factory=bytearray)
    document: bytearray = field(default_factory=bytearray)
    judging: Counter[Key] = field(default_factory=Counter[Key])  # batches that the ledger judges
    refused: dict[Key, float] = field(default_factory=dict[Key, float])  # until when
    refusals: dict[Key, int] = field(default_factory=dict[Key, int])  # of what it has, in a row
    repeat_at: float = 0.0
    rewinds: dict[Key, int] = field(default_factory=dict[Key, int])
    disputed: set[bytes] = field(default_factory=set[bytes])  # rival heads asked about

    def lack(self, key: Key, seq: int) -> None:
        """It has records of this chain that we may lack."""
        self.lacking[key] = seq

    def brought(self, key: Key, seq: int) -> None:
        """It has sent this record, at least."""
        self.heads[key] = max(self.heads.get(key, 0), seq)
        self.lack(key, self.heads[key])

    def judged(self, key: Key, *, gap: bool) -> None:
        """The ledger has judged a batch, perhaps of a link before this one.

        After a ``gap`` nothing that is judged still can help: it is to be asked for.
        """
        self.judging[key] -= 1
        if gap or self.judging[key] <= 0:
            del self.judging[key]

    def refuse(self, key: Key, now: float, pause: float, *, grows: bool) -> None:
        """What it has of this chain cannot be taken: ask it later, ever later if it ``grows``."""
        count = self.refusals.get(key, 0) if grows else 0
        self.refusals[key] = count + 1
        self.refused[key] = now + min(pause * 2.0 ** max(0, count - PATIENCE), PAUSE_MAX)

    def pardon(self, key: Key | None = None) -> None:
        """Ask again for one chain, or for all: something has changed."""
        if key is None:
            self.refused.clear()
            self.refusals.clear()
        else:
            self.refused.pop(key, None)
            self.refusals.pop(key, None)

    def anew(self) -> None:
        """Ask again for what seems to be under way; a judgement may have got lost with a socket."""
        self.roots_asked = (0, b"")
        self.judging.clear()

    def again(self, key: Key) -> None:
        """We have dropped the end of this chain; it may have the author's own."""
        self.pardon(key)
        self.lack(key, self.heads.get(key, 0))

    def choices(
        self, reach: Callable[[Key], int], pending: Callable[[Key], bool]
    ) -> Iterator[tuple[Key, int]]:
        """Iterate over what it could be asked for now; forget some of what we have meanwhile."""
        first = list(islice(self.lacking.items(), CHOICES_MAX))
        for key in [key for key, seq in first if seq <= reach(key)]:
            del self.lacking[key]
        for key, seq in self.lacking.items():
            later = key in self.refused or key in self.judging
            if seq > reach(key) and not later and not pending(key):
                yield key, seq
