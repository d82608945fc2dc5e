"""Errands: one node of a site fetches something from outside, the others wait for it.

Who goes is agreed without a word: the node of the site that the thing's name falls to (rendezvous
hashing), among those that are linked.  The others ask it, and hear every second that it is under
way; a silence ends their waiting, and they go themselves.  Nothing is granted by asking: a member
only has another member do what it could do itself.

Spec: docs/mesh.md §17.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from mesh.messages import Errand
from mesh.ports import LedgerPort
from mesh.shell.faults import FAULTS
from mesh.shell.links import Links

ASKED, UNDER_WAY, DONE, FAILED = 0, 1, 2, 3  # Errand.step
BEAT = 1.0  # seconds between words that it is under way
SILENCE = 4.0  # seconds without one, after which the asker goes itself
ERRANDS_MAX = 64  # at a time for one peer
WAITING_MAX = 1024  # of our own
Perform = Callable[[str, str, str], Awaitable[bool]]


@dataclass(slots=True)
class Waiting:
    """An errand that we asked of a peer."""

    peer: bytes
    heard: float
    step: int = ASKED
    news: trio.Event = field(default_factory=trio.Event)


class Errands:
    """What this node asks of its neighbours, and does for them."""

    def __init__(self, links: Links, ledger: LedgerPort) -> None:
        self._links, self._ledger = links, ledger
        self.perform: Perform | None = None  # (repository, path, accept) → whether it is done
        self._nursery: trio.Nursery | None = None
        self._waiting: dict[int, Waiting] = {}
        self._done_for: dict[bytes, int] = {}
        self._next = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do errands until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def chosen(self, name: str) -> bytes | None:
        """The linked neighbour of our site that goes for this name; None: we do."""
        members = self._ledger.authority.members()
        own = members.get(self._ledger.node)
        if own is None:
            return None
        near = [
            peer
            for peer in self._links.control
            if (member := members.get(peer.hex())) is not None and member.site == own.site
        ]
        me = bytes.fromhex(self._ledger.node)
        first = max([me, *near], key=lambda node: hashlib.sha256(node + name.encode()).digest())
        return None if first == me else first

    async def ask(self, peer: bytes, repository: str, path: str, accept: str) -> bool:
        """Have a neighbour fetch something; whether it says that it is done."""
        if len(self._waiting) >= WAITING_MAX or len(path) > 1024 or len(accept) > 1024:
            return False
        self._next += 1
        number, waiting = self._next, Waiting(peer, trio.current_time())
        self._waiting[number] = waiting
        try:
            self._links.send(peer, Errand(number, ASKED, (repository, path, accept)))
            while waiting.step in {ASKED, UNDER_WAY}:
                if peer not in self._links.control:
                    return False
                if trio.current_time() - waiting.heard > SILENCE:
                    return False
                with trio.move_on_after(BEAT):
                    await waiting.news.wait()
            return waiting.step == DONE
        finally:
            del self._waiting[number]

    def heard(self, peer: bytes, errand: Errand) -> None:
        """A neighbour asks, or tells how it goes."""
        if errand.step == ASKED:
            self._take(peer, errand)
            return
        waiting = self._waiting.get(errand.number)
        if waiting is None or waiting.peer != peer:
            return
        waiting.heard, waiting.step = trio.current_time(), errand.step
        waiting.news.set()
        waiting.news = trio.Event()

    def _take(self, peer: bytes, errand: Errand) -> None:
        under_way = self._done_for.get(peer, 0)
        full = under_way >= ERRANDS_MAX or len(errand.what) != 3
        if self.perform is None or self._nursery is None or full:
            self._tell(peer, errand, FAILED)
            return
        self._done_for[peer] = under_way + 1
        self._nursery.start_soon(self._go, self.perform, peer, errand)

    async def _go(self, perform: Perform, peer: bytes, errand: Errand) -> None:
        done = False
        try:
            with FAULTS.contained("errand", peer) as fault:
                done = await self._do(perform, peer, errand)
        finally:
            self._done_for[peer] -= 1
            if not self._done_for[peer]:
                del self._done_for[peer]
        self._tell(peer, errand, DONE if done else FAILED)
        if fault.error is not None:
            self._links.hold(peer)

    async def _do(self, perform: Perform, peer: bytes, errand: Errand) -> bool:
        async with trio.open_nursery() as beating:
            beating.start_soon(self._beat, peer, errand)
            done = await perform(*errand.what)
            beating.cancel_scope.cancel()
        return done

    async def _beat(self, peer: bytes, errand: Errand) -> None:
        while True:
            self._tell(peer, errand, UNDER_WAY)
            await trio.sleep(BEAT)

    def _tell(self, peer: bytes, errand: Errand, step: int) -> None:
        if peer in self._links.control:
            self._links.send(peer, Errand(errand.number, step))
