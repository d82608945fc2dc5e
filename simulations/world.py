"""Virtual time: an event heap, one clock, one source of chance, and a history of what happened.

Whatever happens in a simulation is an event here, performed alone and in one order.  All chance
comes from one seeded generator, so that a seed replays a history to the last byte; ``digest`` of
two runs tells whether it did.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable

HISTORY_MAX = 2000  # lines of history kept for people; the digest covers all of them
STEPS_MAX = 3_000_000  # events of one history; more means that somebody spins

Action = Callable[[], None]


class PowerCutError(BaseException):
    """A node dies in the middle of what it does: nothing that it runs may catch this."""

    def __init__(self, happen: Callable[[], None]) -> None:
        super().__init__()
        self.happen = happen


class ViolationError(AssertionError):
    """Something happened that must never happen, or did not that must."""


class Timer:
    """A pending event.  ``cancel`` it when it has become moot."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        """Do nothing when the moment comes."""
        self.action = None


class World:
    """The clock, the heap, the dice and the chronicle.  ``now`` is in seconds from 0."""

    def __init__(self, rng: random.Random, *, steps_max: int = STEPS_MAX) -> None:
        self.now = 0.0
        self.rng = rng
        self.steps_max = steps_max
        self.steps = 0
        self.history: deque[str] = deque(maxlen=HISTORY_MAX)
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Return what stands for the whole history so far."""
        return self._digest.hexdigest()[:16]

    def note(self, text: str) -> None:
        """Write a line of history."""
        line = f"{self.now:10.4f} {text}"
        self.history.append(line)
        self._digest.update(line.encode())

    def after(self, delay: float, action: Action) -> Timer:
        """Let something happen ``delay`` seconds from now."""
        self._count += 1
        timer = Timer(action)
        heapq.heappush(self._heap, (self.now + max(0.0, delay), self._count, timer))
        return timer

    @property
    def pending(self) -> int:
        """How many events are to come."""
        return sum(timer.action is not None for _, _, timer in self._heap)

    def between(self, low: float, high: float) -> float:
        """Draw a number of seconds."""
        return low + (high - low) * self.rng.random()

    def leap(self, seconds: float) -> None:
        """Let much time pass in which nothing happens: as if every host had been asleep."""
        self.now += seconds
        self._heap = [(moment + seconds, count, timer) for moment, count, timer in self._heap]

    def run(self, until: float) -> None:
        """Let time pass.  Raises whatever an event raises; ``now`` is then when it did."""
        while self._heap and self._heap[0][0] <= until:
            moment, _, timer = heapq.heappop(self._heap)
            if timer.action is None:
                continue
            self.now = moment
            self.steps += 1
            if self.steps > self.steps_max:
                raise ViolationError(f"more than {self.steps_max} events: something spins")
            try:
                timer.action()
            except PowerCutError as cut:
                cut.happen()
        self.now = until
