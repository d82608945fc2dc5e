"""What holders and askers remember of couriers: who carries what, and who asked in vain.  Pure.

Spec: docs/mesh.md §13.7.  ``now`` is seconds since 1970.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

CARRIERS = 2  # couriers that carry one blob at a time, as far as one holder knows
LEASE = 86400.0  # seconds that a courier may take to deliver before another one carries it, too
LEASES_MAX = 65_536  # blobs that a holder remembers as being carried
WAITS_MAX = 1024  # blobs that clients asked for in vain, remembered
WAIT_LIFE = 3 * 86400.0  # seconds since the last client asked


class Leases:
    """Who carries what we hold.  A lease ends by itself, so a courier that vanishes blocks none."""

    def __init__(self, carriers: int = CARRIERS, life: float = LEASE) -> None:
        self._carriers, self._life = carriers, life
        self._leases: OrderedDict[bytes, dict[bytes, float]] = OrderedDict()

    def grant(self, courier: bytes, blobs: Iterable[bytes], now: float) -> tuple[bytes, ...]:
        """Return those of the blobs that the courier may carry: who does so already, or few do."""
        granted: list[bytes] = []
        for blob in blobs:
            held = self._leases.pop(blob, {})
            current = {node: until for node, until in held.items() if until > now}
            if courier in current or len(current) < self._carriers:
                current.setdefault(courier, now + self._life)
                granted.append(blob)
            self._leases[blob] = current
        while len(self._leases) > LEASES_MAX:
            self._leases.popitem(last=False)
        return tuple(granted)

    def carriers(self, blob: bytes, now: float) -> list[bytes]:
        """Return who carries a blob, as far as is known here."""
        held = self._leases.get(blob, {})
        return [node for node, until in held.items() if until > now]


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
