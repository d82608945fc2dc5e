"""What a blob store holds: walking it shard by shard, and keeping blobs that are in use."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from store.digest import Digest

PREFIXES = tuple(f"{byte:02x}" for byte in range(256))  # the shards of every store, in order


@dataclass(frozen=True, slots=True)
class Holding:
    """One stored blob.  ``modified`` is when it was last published, seconds since 1970."""

    digest: Digest
    size: int
    modified: float


class Pins:
    """Blobs in use by this process: open for reading, being pushed, about to be published.

    ``lock`` is taken to pin; a store that collects a blob holds it from looking to removing.
    """

    def __init__(self) -> None:
        self._counts: Counter[Digest] = Counter()
        self.lock = threading.Lock()

    @contextmanager
    def hold(self, digest: Digest) -> Iterator[None]:
        """Keep a blob from being collected for the length of the block.  May nest."""
        with self.lock:
            self._counts[digest] += 1
        try:
            yield
        finally:
            with self.lock:
                self._counts[digest] -= 1
                if not self._counts[digest]:
                    del self._counts[digest]

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._counts

    def digests(self) -> frozenset[Digest]:
        """Return every blob that is pinned now."""
        return frozenset(self._counts)


class Walk(AsyncIterator[Digest]):
    """Iterate over every digest of a store, holding one shard in memory at a time.

    A class and not a generator, so that a caller may stop half-way without closing it.
    """

    def __init__(
        self, shard: Callable[[str], Awaitable[list[Holding]]], prefixes: Iterable[str] = PREFIXES
    ) -> None:
        self._shard = shard
        self._prefixes = iter(prefixes)
        self._here: Iterator[Holding] = iter(())

    async def __anext__(self) -> Digest:
        while True:
            for holding in self._here:
                return holding.digest
            prefix = next(self._prefixes, None)
            if prefix is None:
                raise StopAsyncIteration
            self._here = iter(await self._shard(prefix))
