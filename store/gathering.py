"""What waits together is done together: one transaction, or one thread, for many small things.

A hop to a thread and back costs as much as storing a small blob does.  Nothing waits for company: a
batch is what came while the ones before it were at work, so that who is alone loses no time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

from store.errors import RegistryError

T = TypeVar("T")
R = TypeVar("R")


class _Waiting(Generic[T, R]):
    """One thing to be done.  ``stirred`` says that it is, or that its owner may see to it."""

    def __init__(self, item: T) -> None:
        self.item = item
        self.result: list[R] = []
        self.error: RegistryError | None = None
        self.left = False  # its owner has gone: nobody hears ``stirred`` any more
        self.stirred = trio.Event()

    @property
    def done(self) -> bool:
        """Tell whether there is an outcome."""
        return bool(self.result) or self.error is not None

    @property
    def open(self) -> bool:
        """Tell whether somebody waits for an outcome that is not there yet."""
        return not self.done and not self.left


class Gathering(Generic[T, R]):
    """Does ``work`` for up to ``most`` things at a time, in up to ``lanes`` batches side by side.

    ``work`` returns a result for each.  A batch that fails is done again one by one, so that each
    has its own error; and so is one whose owner is cancelled: doing a thing twice must change
    nothing.  Who leaves while its batch is at work may see it done all the same; nothing is handed
    to ``work`` for one who has left.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        most: int = 64,
        lanes: int = 1,
    ) -> None:
        self._work, self._most, self._lanes = work, most, lanes
        self._queue: deque[_Waiting[T, R]] = deque()
        self._busy = 0

    async def do(self, item: T) -> R:
        """Do one thing, with whatever else waits.  Raises what the work raises."""
        own = _Waiting[T, R](item)
        self._queue.append(own)
        try:
            while not own.done:
                if own in self._queue and self._busy < self._lanes:
                    await self._lead()
                else:
                    await own.stirred.wait()
                    own.stirred = trio.Event()
        finally:
            own.left = True
            if own in self._queue:  # cancelled
                self._queue.remove(own)
            self._stir()
        if own.error is not None:
            raise own.error
        return own.result[0]

    def _stir(self) -> None:
        """Let the next one in the queue see to it that there is work."""
        if self._queue and self._busy < self._lanes:
            self._queue[0].stirred.set()

    async def _lead(self) -> None:
        """Do a batch from the front of the queue; what a cancellation leaves goes back there."""
        size = min(self._most, len(self._queue))
        batch = [self._queue.popleft() for _ in range(size)]
        self._busy += 1
        try:
            await self._run(batch)
        finally:
            self._busy -= 1
            self._queue.extendleft(each for each in reversed(batch) if each.open)
            for each in batch:
                if each.done:
                    each.stirred.set()
            self._stir()

    async def _run(self, batch: Sequence[_Waiting[T, R]]) -> None:
        try:
            results = await self._work([each.item for each in batch])
        except RegistryError as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for each in batch:
                if each.open:
                    await self._run([each])
            return
        for each, result in zip(batch, results, strict=True):
            each.result.append(result)
