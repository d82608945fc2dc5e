"""Waiting for a blob that is on its way, as long as there is hope."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

import trio

from mesh.shell.writing import Fetch
from store.errors import NoHolderError
from store.partial import PartialBlob

T = TypeVar("T")
LOOK = 0.25  # seconds between looks at whether a waiting client still has hope


class Patience:
    """Gives up on a fetch that gets nothing for ``wait`` seconds, or that nobody can give.

    ``nowhere`` tells whether every member within reach is linked, and none of them has it.
    """

    def __init__(self, fetch: Fetch, wait: float, nowhere: Callable[[Fetch], bool]) -> None:
        self.fetch, self._wait, self._nowhere = fetch, wait, nowhere

    async def over(self, work: Callable[[], Awaitable[object]]) -> None:
        """Await something of a fetch while there is hope.  Raises NoHolderError."""
        seen, deadline = -1, trio.current_time() + self._wait
        while True:
            with trio.move_on_after(LOOK):
                await work()
                return
            if self.fetch.here != seen:
                seen, deadline = self.fetch.here, trio.current_time() + self._wait
            if trio.current_time() >= deadline or self._nowhere(self.fetch):
                raise NoHolderError(f"{self.fetch.blob}: nobody reachable has it")

    async def begun(self, partial: PartialBlob, start: int) -> None:
        """Wait for the byte at ``start``.  Raises NoHolderError."""
        for index in partial.manifest.locate(start, start + 1):
            await self.over(functools.partial(partial.wait, index))


class Patient(AsyncIterator[T], Generic[T]):
    """What arrives of a fetch; NoHolderError when nothing has for too long."""

    def __init__(self, patience: Patience, parts: AsyncIterator[T]) -> None:
        self._patience, self._parts = patience, parts
        self._part: T | None = None

    async def __anext__(self) -> T:
        await self._patience.over(self._next)
        if self._part is None:
            raise StopAsyncIteration
        return self._part

    async def _next(self) -> None:
        self._part = await anext(self._parts, None)
