"""One at a time, by key: a lock for each key, kept only while somebody holds or awaits it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import trio

Key = TypeVar("Key", bound=Hashable)


class Turns(Generic[Key]):
    """Locks that come and go, so that memory does not grow with every key ever seen."""

    def __init__(self) -> None:
        self._locks: dict[Key, tuple[trio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def of(self, key: Key) -> AsyncGenerator[None]:
        """Hold the key for the length of the block."""
        lock, users = self._locks.get(key) or (trio.Lock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
