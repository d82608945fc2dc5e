"""The event stream: server-sent events out of the journal.  Spec: HTML, "Server-sent events".

A reader is served from the journal at its own pace: nothing is buffered for it beyond a page, and
one that falls behind what the journal keeps is told so.  Before each page it is asked anew who is
listening, and before each event whether it may be heard.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
import trio

from node.access.gate import Caller, Gate
from node.directory import Directory, RepositoryEntry
from node.events.happening import Event, event_of, may_hear, wanted
from store.errors import RegistryError, TooManyRequestsError
from store.fold import SETTING
from store.journal import Journal, Positioned
from store.ledger import Ledger

HEARTBEAT = 15.0  # seconds without an event after which a comment is sent
ASK_AGAIN = 5.0  # seconds after which the credentials are judged again
PAGE = 100  # changes read at once
STREAMS_MAX = 200  # open at a time
CALLER_MAX = 20  # of them by one caller or address
PRECISION = 1.0  # seconds by which ledger time and the clock that dates a repository may differ
RETRY = b"retry: 3000\n\n"  # milliseconds after which a browser connects again
RIGHTS = frozenset({"user", "group", "token", "grant", "repository"})  # settings that change rights


@dataclass(frozen=True, slots=True)
class Asked:
    """What a listener wants: patterns of types and of repositories, and where it was."""

    types: Sequence[str] = ()
    repositories: Sequence[str] = ()
    last_id: str = ""


Identify = Callable[[], Awaitable[Caller]]


class Streams:
    """The open streams of one node."""

    def __init__(self, journal: Journal, ledger: Ledger, directory: Directory, gate: Gate) -> None:
        self._journal, self._ledger = journal, ledger
        self._directory, self._gate = directory, gate
        self.stopping = trio.Event()
        self._open: dict[str, int] = {}

    @property
    def count(self) -> int:
        """How many are open."""
        return sum(self._open.values())

    async def listen(self, identify: Identify, asked: Asked) -> AsyncGenerator[bytes]:
        """The stream of one listener, in the format that browsers read.

        Raises TooManyRequestsError before the first byte.
        """
        caller = await identify()
        who = caller.name or caller.address
        if self.count >= STREAMS_MAX or self._open.get(who, 0) >= CALLER_MAX:
            raise TooManyRequestsError("too many event streams are open", 5.0)
        self._open[who] = self._open.get(who, 0) + 1
        try:
            with self._ledger.subscribe() as grown:
                async with aclosing(self._parts(identify, caller, asked, grown)) as parts:
                    async for part in parts:
                        yield part
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]

    async def _parts(
        self,
        identify: Identify,
        caller: Caller,
        asked: Asked,
        grown: trio.MemoryReceiveChannel[None],
    ) -> AsyncGenerator[bytes]:
        position, known = await self._start(asked.last_id)
        yield RETRY
        if not known:
            yield reset(self._ledger.incarnation, position)
        judged = trio.current_time()
        while not self.stopping.is_set():
            oldest, _ = await self._journal.bounds()
            if position < oldest:
                position = oldest
                yield reset(self._ledger.incarnation, position)
            page = await self._journal.after(position, PAGE)
            if not page and not await self._more(grown):
                yield b": still here\n\n"
            if trio.current_time() >= judged + ASK_AGAIN or any(map(changes_rights, page)):
                try:
                    caller, judged = await identify(), trio.current_time()
                except RegistryError:  # its credentials hold no longer
                    return
            for each in page:
                position = each.position
                if told := self._told(each, caller, asked):
                    yield told

    async def _start(self, last_id: str) -> tuple[int, bool]:
        """Where to begin, and whether nothing is missing before it."""
        oldest, newest = await self._journal.bounds()
        if not last_id:
            return newest, True
        life, _, number = last_id.partition("-")
        if life == str(self._ledger.incarnation) and number.isascii() and number.isdecimal():
            position = int(number[:18])
            if oldest <= position <= newest:
                return position, True
        return newest, False

    async def _more(self, grown: trio.MemoryReceiveChannel[None]) -> bool:
        """Wait for more; False if nothing came for a while, or the node stops."""
        came = False

        async def look() -> None:
            nonlocal came
            await grown.receive()
            came = True
            nursery.cancel_scope.cancel()

        with trio.move_on_after(HEARTBEAT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                await self.stopping.wait()
                nursery.cancel_scope.cancel()
        return came

    def _told(self, positioned: Positioned, caller: Caller, asked: Asked) -> bytes:
        event = event_of(positioned, self._ledger.node)
        if not wanted(asked.types, event.type):
            return b""
        if asked.repositories and not (
            event.repository and wanted(asked.repositories, event.repository)
        ):
            return b""

        def reads(key: str) -> bool:
            entry = self._directory.get(RepositoryEntry, key)
            if entry is None or event.at < entry.created_at - PRECISION:
                return False  # it is about another repository that had the key before
            return self._gate.may(caller, "read", entry)

        if not may_hear(event, reads, manages=self._gate.manages(caller)):
            return b""
        return rendered(self._ledger.incarnation, positioned.position, event)


def changes_rights(positioned: Positioned) -> bool:
    """Whether an entry may have changed what somebody may hear."""
    return positioned.entry.kind == SETTING and positioned.entry.repository in RIGHTS


def rendered(life: int, position: int, event: Event) -> bytes:
    """One event as it is sent; JSON holds no line break."""
    head = f"id: {life}-{position}\nevent: {event.type}\ndata: "
    return head.encode() + msgspec.json.encode(event) + b"\n\n"


def reset(life: int, position: int) -> bytes:
    """What tells that events are missing: whoever mirrors something should look at all of it."""
    data = b'{"reason":"events before this one are not kept"}'
    return f"id: {life}-{position}\nevent: reset\ndata: ".encode() + data + b"\n\n"
