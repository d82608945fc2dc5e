"""An asyncio event loop on a thread of its own, for libraries that know nothing but asyncio.

One trio task waits for one ``Reply``; everything else about it (starting, cancelling, answering)
happens on the asyncio thread, so no state is shared and no lock is needed.  A hop costs two
self-pipe writes, 0.1–0.3 ms: hand over whole units of work, not single statements.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar

import outcome
import trio

from store.errors import UnavailableError

T = TypeVar("T")

DRAIN = 5.0  # seconds that calls in flight get when a portal closes
DRAIN_INTERVAL = 0.002  # seconds between looks at whether they have ended


class Withdrawn(Exception):  # noqa: N818  a signal between the two threads, not an error
    """The call was dropped because its caller was cancelled; nothing has happened."""


class Reply(Generic[T]):
    """What one trio task waits for.  Touched by the asyncio thread only."""

    __slots__ = ("answered", "result", "task", "work")

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.task = task
        self.answered = False
        self.result: outcome.Outcome[T]
        self.work: Any = None  # whoever answers may note here what it is doing


class Portal:
    """Calls from trio into asyncio.  Made by ``open_portal``."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._run, name="asyncio", daemon=True)
        self._pending: set[Reply[Any]] = set()  # asyncio thread only
        self._closed = False
        self._stopped = trio.Event()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._stopped.set)

    async def wait(
        self, begin: Callable[[Reply[T]], None], cancel: Callable[[Reply[T]], None]
    ) -> T:
        """Run ``begin`` on the asyncio thread and wait until somebody answers the reply.

        When the caller is cancelled, ``cancel`` runs there too, and the wait goes on: it either
        withdraws the reply (then Cancelled is raised here) or lets the work end, and its result
        stands.  Raises UnavailableError once the portal is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise UnavailableError("the database is closed")
        reply: Reply[T] = Reply(trio.lowlevel.current_task())
        raise_cancel: Callable[[], Any] | None = None

        def start() -> None:
            self._pending.add(reply)
            begin(reply)

        def abort(raiser: Callable[[], Any]) -> trio.lowlevel.Abort:
            nonlocal raise_cancel
            raise_cancel = raiser
            self.loop.call_soon_threadsafe(lambda: None if reply.answered else cancel(reply))
            return trio.lowlevel.Abort.FAILED

        self.loop.call_soon_threadsafe(start)
        try:
            result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        except Withdrawn:
            if raise_cancel is None:
                raise UnavailableError("the database is closing") from None
            raise_cancel()
            raise  # raise_cancel always raises
        return result

    def answer(self, replies: Iterable[tuple[Reply[Any], outcome.Outcome[Any]]]) -> None:
        """Wake the waiting tasks, all in one hop.  Asyncio thread only."""
        ready: list[tuple[trio.lowlevel.Task, outcome.Outcome[Any]]] = []
        for reply, result in replies:
            if not reply.answered:
                reply.answered = True
                self._pending.discard(reply)
                ready.append((reply.task, result))
        if ready:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(reschedule, ready)

    async def call(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a coroutine function on the asyncio thread.  Cancelling cancels it, and waits."""

        async def runner(reply: Reply[T]) -> None:
            try:
                result: outcome.Outcome[T] = outcome.Value(await function(*args))
            except asyncio.CancelledError:
                result = outcome.Error(Withdrawn())
            except Exception as error:  # noqa: BLE001  carried to the caller, whatever it is
                result = outcome.Error(error)
            self.answer([(reply, result)])

        def begin(reply: Reply[T]) -> None:
            reply.work = self.loop.create_task(runner(reply))
            reply.work.add_done_callback(partial(self._unstarted, reply))

        def cancel(reply: Reply[T]) -> None:
            reply.work.cancel()

        return await self.wait(begin, cancel)

    def _unstarted(self, reply: Reply[Any], task: asyncio.Task[None]) -> None:
        """A task cancelled before its first step never reaches its own handlers."""
        if task.cancelled():
            self.answer([(reply, outcome.Error(Withdrawn()))])

    async def close(self, drain: float = DRAIN) -> None:
        """Refuse new calls, give those in flight ``drain`` seconds, cancel the rest, stop."""
        if self._closed:
            return
        self._closed = True
        self.loop.call_soon_threadsafe(lambda: self.loop.create_task(self._finish(drain)))
        with trio.CancelScope(shield=True):
            await self._stopped.wait()
        self._thread.join()

    async def _finish(self, drain: float) -> None:
        deadline = self.loop.time() + drain
        while self._pending and self.loop.time() < deadline:  # noqa: ASYNC110  rare; no signal
            await asyncio.sleep(DRAIN_INTERVAL)
        rest = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=1.0)
        self.answer([(reply, outcome.Error(Withdrawn())) for reply in list(self._pending)])
        self.loop.stop()


def reschedule(ready: list[tuple[trio.lowlevel.Task, outcome.Outcome[Any]]]) -> None:
    """Wake tasks.  Runs on the trio thread."""
    for task, result in ready:
        trio.lowlevel.reschedule(task, result)


@asynccontextmanager
async def open_portal(*, drain: float = DRAIN) -> AsyncGenerator[Portal]:
    """Start the thread; leaving the block drains calls in flight for ``drain`` seconds."""
    portal = Portal()
    portal._thread.start()  # noqa: SLF001  the constructor's other half
    try:
        yield portal
    finally:
        await portal.close(drain)
