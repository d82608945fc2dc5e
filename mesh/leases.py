"""What holders and askers remember of couriers: who carries what, and who asked in vain.  Pure.

Spec: docs/mesh.md §13.7.  ``now`` is seconds since 1970.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

V = TypeVar("V")

CARRIERS = 2  # couriers that carry one blob at a time, as far as one holder knows
LEASE = 86400.0  # seconds that a courier may take to deliver before another one carries it, too
LEASES_MAX = 65_536  # blobs that a holder remembers as being carried
TURN = 7 * 86400.0  # seconds for which a place is kept for a courier that asked in vain
WAITING_MAX = 16  # couriers that are remembered of one blob, as having carried it or waiting
SWEEP = 60.0  # seconds between looks for what has lapsed, once as much is remembered as may be
WAITS_MAX = 1024  # blobs that clients asked for in vain, remembered
WAIT_LIFE = 3 * 86400.0  # seconds since the last client asked
DOUBT = 3 * 86400.0  # seconds in which who gave nothing of a blob is not counted on for it
DOUBTS_MAX = 8192  # blobs of which that is remembered


@dataclass(slots=True)
class Lease:
    """Who carries one blob, and until when; who did before; who asked while nobody more might."""

    first: bytes  # who asked first: its share of what is remembered is taken
    carried: dict[bytes, float] = field(default_factory=dict[bytes, float])
    before: set[bytes] = field(default_factory=set[bytes])
    waiting: dict[bytes, float] = field(default_factory=dict[bytes, float])  # since its last word

    def lapse(self, now: float, turn: float) -> None:
        """End what is over.  Who carried before matters only while somebody waits."""
        for node in [node for node, until in self.carried.items() if until <= now]:
            del self.carried[node]
            if len(self.before) < WAITING_MAX:
                self.before.add(node)
        for node in [node for node, at in self.waiting.items() if at + turn <= now]:
            del self.waiting[node]

    @property
    def over(self) -> bool:
        """Whether nobody carries the blob, or waits for it."""
        return not self.carried and not self.waiting


class Leases:
    """Who carries what we hold.

    A lease ends by itself, so a courier that vanishes blocks none.  Nor does one that comes for
    the same blob again and again: while others wait that were never granted it, places are kept
    for them.  Of k couriers that take and never bring, each has one turn, two at a time: whoever
    asks in vain, and again within TURN seconds, carries it after k / CARRIERS + 1 leases at most.
    """

    def __init__(self, carriers: int = CARRIERS, life: float = LEASE, turn: float = TURN) -> None:
        self._carriers, self._life, self._turn = carriers, life, turn
        self._leases: dict[bytes, Lease] = {}
        self._shares: dict[bytes, dict[bytes, None]] = {}  # who asked first → blobs
        self._swept = -math.inf

    def grant(self, courier: bytes, blobs: Iterable[bytes], now: float) -> tuple[bytes, ...]:
        """Return those of the blobs that the courier may carry: who does so already, or few do."""
        granted: list[bytes] = []
        for blob in blobs:
            lease = self._leases.get(blob)
            if lease is None:
                lease = self._remember(courier, blob, now)
                if lease is None:
                    continue
            lease.lapse(now, self._turn)
            if courier in lease.carried or self._may(courier, lease):
                lease.carried.setdefault(courier, now + self._life)
                lease.waiting.pop(courier, None)
                granted.append(blob)
            elif courier in lease.waiting or len(lease.waiting) < WAITING_MAX:
                lease.waiting[courier] = now
        return tuple(granted)

    def _may(self, courier: bytes, lease: Lease) -> bool:
        """Tell whether there is a place that is not kept for somebody else."""
        free = self._carriers - len(lease.carried)
        if courier in lease.before:
            free -= sum(other not in lease.before for other in lease.waiting)
        return free > 0

    # --- bounds --------------------------------------------------------------------------------
    def _remember(self, courier: bytes, blob: bytes, now: float) -> Lease | None:
        """Begin to remember a blob; None where the courier has its share of the memory already.

        What was remembered first stays: who floods us cannot make us forget that others wait.
        """
        if len(self._leases) >= LEASES_MAX and now >= self._swept + SWEEP:
            self._swept = now
            self._expire(now)
        if len(self._leases) >= LEASES_MAX:
            most = max(self._shares, key=lambda node: (len(self._shares[node]), node))
            if len(self._shares.get(courier, ())) + 1 >= len(self._shares[most]):
                return None
            self._forget(most, next(reversed(self._shares[most])))
        self._shares.setdefault(courier, {})[blob] = None
        self._leases[blob] = Lease(courier)
        return self._leases[blob]

    def _forget(self, first: bytes, blob: bytes) -> None:
        del self._leases[blob], self._shares[first][blob]
        if not self._shares[first]:
            del self._shares[first]

    def _expire(self, now: float) -> None:
        for blob, lease in list(self._leases.items()):
            lease.lapse(now, self._turn)
            if lease.over:
                self._forget(lease.first, blob)

    def carriers(self, blob: bytes, now: float) -> list[bytes]:
        """Return who carries a blob, as far as is known here."""
        lease = self._leases.get(blob)
        return [n for n, until in lease.carried.items() if until > now] if lease else []


@dataclass(frozen=True, slots=True)
class Wait:
    """What a client of this node asked for in vain; ``until`` in seconds since 1970."""

    size: int
    until: float


class Waits:
    """What clients asked for and nobody reachable had: couriers are asked for it, for a while."""

    def __init__(self, life: float = WAIT_LIFE) -> None:
        self.blobs: OrderedDict[bytes, Wait] = OrderedDict()
        self._life = life

    def note(self, blob: bytes, size: int, now: float) -> None:
        """A client has asked, once more perhaps."""
        self.blobs.pop(blob, None)
        self.blobs[blob] = Wait(size, now + self._life)
        while len(self.blobs) > WAITS_MAX:
            self.blobs.popitem(last=False)

    def expire(self, now: float) -> None:
        """Give up on what has not been asked for lately."""
        for blob in [blob for blob, wait in self.blobs.items() if wait.until <= now]:
            del self.blobs[blob]


class Doubts:
    """Who says that it holds a blob, and gave none of it when a fetch of it failed.

    What a linked member holds need not be carried here, so who only says so would keep couriers
    away.  Nodes are named in hex.
    """

    def __init__(self, life: float = DOUBT) -> None:
        self._life = life
        self._failed: OrderedDict[bytes, frozenset[str]] = OrderedDict()  # who was linked then
        self._known: OrderedDict[bytes, dict[str, float]] = OrderedDict()  # node → until when

    def failed(self, blob: bytes, linked: frozenset[str]) -> None:
        """A fetch has failed while these were linked: those that claim to hold it are doubted."""
        _put(self._failed, blob, linked)

    def credible(self, blob: bytes, claimed: frozenset[str], now: float) -> frozenset[str]:
        """Return those that can be counted on, of all that say that they hold a blob."""
        silent = self._failed.pop(blob, frozenset()) & claimed
        known = self._known.get(blob, {})
        if silent:
            known = {node: until for node, until in known.items() if until > now}
            known.update(dict.fromkeys(silent, now + self._life))
            _put(self._known, blob, known)
        return frozenset(node for node in claimed if known.get(node, now) <= now)


def _put(table: OrderedDict[bytes, V], blob: bytes, value: V) -> None:
    """Remember something of a blob; what was remembered first goes, where there is too much."""
    table.pop(blob, None)
    table[blob] = value
    if len(table) > DOUBTS_MAX:
        table.popitem(last=False)
