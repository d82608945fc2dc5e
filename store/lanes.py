"""Lanes: the same blocks of bytes through several workers at once, each seeing all in order.

A lane occupies a thread only while it has a block to work on, so that many slow uploads share few
threads.  At most BUFFERS blocks exist per upload: that bounds its memory, and lets the network fill
one while the hashes work on another.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from store.intake import Sink

BLOCK_SIZE = 1 << 20  # bytes
BLOCK_MIN = 256 << 10  # bytes; below that the thread hops begin to show
BUFFERS = 3
ROOM_MAX = 32 << 20  # bytes that the blocks of all uploads take, but for the first of each


@dataclass(slots=True)
class Block:
    """A reusable buffer: its first ``size`` bytes count, ``pending`` lanes still need them.

    It grows as it is filled, so that an upload which stalls at its first byte pins no megabyte.
    """

    data: bytearray = field(default_factory=bytearray)
    size: int = 0
    pending: int = 0
    capacity: int = BLOCK_SIZE

    @property
    def view(self) -> memoryview:
        """The bytes that count."""
        return memoryview(self.data)[: self.size]

    @property
    def full(self) -> bool:
        """Whether no byte fits any more."""
        return self.size == self.capacity

    def fill(self, data: memoryview) -> memoryview:
        """Copy what fits of ``data``; return the rest."""
        taken = data[: self.capacity - self.size]
        self.data[self.size : self.size + len(taken)] = taken
        self.size += len(taken)
        return data[len(taken) :]


class Room:
    """What the blocks of many uploads may take together.  Of the trio thread only.

    In a crowd an upload gets a small block and no second one: there is enough to do for every
    processor, and a hundred uploads with three large blocks each would take 300 MiB.
    """

    def __init__(self, size_max: int = ROOM_MAX) -> None:
        self._size_max = size_max
        self.held = 0  # bytes, of blocks in lanes

    @property
    def crowded(self) -> bool:
        """Whether nobody gets another large block."""
        return self.held + BLOCK_SIZE > self._size_max

    def block(self) -> Block:
        """Make an empty block."""
        return Block(capacity=BLOCK_MIN if self.crowded else BLOCK_SIZE)


class Lanes:
    """Feed blocks to ``sinks``, each in a thread of its own when it has work.

    The first error of any sink stops all of them, and is raised by the next call.  Other lanes may
    still be at work then: stop() before whatever the sinks write to is closed.
    """

    def __init__(self, executor: Executor, sinks: Sequence[Sink], room: Room | None = None) -> None:
        self._executor = executor
        self._room = room or Room()
        self._held = 0  # bytes of the room
        self._sinks = sinks
        self._queues: list[deque[Block]] = [deque() for _ in sinks]
        self._lock = threading.Lock()  # guards queues, block.pending, free and error
        self._free: list[Block] = []
        self._count = 0
        self._error: BaseException | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._freed = trio.Event()

    def put(self, block: Block) -> None:
        """Send a block through every lane.  It is the lanes' until free() hands it out again."""
        with self._lock:
            block.pending = len(self._sinks)
            for lane, queue in enumerate(self._queues):
                queue.append(block)
                if len(queue) == 1:
                    self._executor.submit(self._work, lane)

    def adopt(self, block: Block) -> None:
        """Count a block made elsewhere among the buffers, and send it."""
        self._own(block)
        self.put(block)

    def _own(self, block: Block) -> Block:
        self._count += 1
        self._held += block.capacity
        self._room.held += block.capacity
        return block

    async def free(self) -> Block:
        """Wait for an empty block.  Raises what a sink raised."""
        await trio.lowlevel.checkpoint()
        spare = not self._count or not self._room.crowded
        if not self._free and self._count < BUFFERS and spare:
            return self._own(self._room.block())
        await self._until(lambda: bool(self._free))
        block = self._free.pop()
        block.size = 0
        return block

    async def join(self) -> None:
        """Wait until every lane has seen every block.  Raises what a sink raised."""
        await self._until(lambda: len(self._free) == self._count)

    async def stop(self) -> None:
        """Drop what waits, and wait until every lane rests.  Cannot be cancelled; it is brief."""
        with self._lock:
            self._error = self._error or RuntimeError("stopped")
        with trio.CancelScope(shield=True):
            await self._until(lambda: all(not queue for queue in self._queues), anyway=True)
        self._room.held -= self._held
        self._held = 0

    async def _until(self, ready: Callable[[], bool], *, anyway: bool = False) -> None:
        while True:
            if self._error is not None and not anyway:
                raise self._error
            if ready():
                return
            self._freed = trio.Event()
            if not ready():
                await self._freed.wait()

    def _work(self, lane: int) -> None:
        """Run one block through one lane.  In a worker thread."""
        queue = self._queues[lane]
        block = queue[0]
        error: BaseException | None = None
        if self._error is None:
            try:
                self._sinks[lane](block.view)
            except BaseException as caught:  # noqa: BLE001  raised again by free() or join()
                error = caught
        with self._lock:
            self._error = self._error or error
            queue.popleft()
            block.pending -= 1
            if not block.pending:
                self._free.append(block)
            if queue:
                self._executor.submit(self._work, lane)
        if not block.pending or error:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._freed.set()
