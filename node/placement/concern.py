"""Write concern at work: a publish is answered when enough members have it safely.

The commit on this node comes first and stands whatever happens; a concern that is not reached in
time is told as such, with what is true at that moment, and goes on being copied by placement.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from mesh.concern import Concern, read_concern
from store.errors import NotReplicatedError, RejectedError
from store.root import Member

HEADER = "x-atoll-wait"  # ``replicated:2``, or ``sites:1;timeout=60``
WAIT = 30.0  # seconds that a publish waits by default
WAIT_MAX = 600.0
HEDGE = 2.0  # seconds without news before one more member is asked
BLOBS_MAX = 1024  # in one question


LOCALLY = Concern()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one request, or its repository, asks for."""

    concern: Concern = LOCALLY
    wait: float = WAIT


def wanted(headers: Mapping[str, str], query: Mapping[str, Sequence[str]], default: str) -> Wanted:
    """Read a request's write concern: header, else ``?wait=``, else the repository's.

    A default that some other version wrote and this one cannot read asks for nothing; a request's
    raises RejectedError.
    """
    said = headers.get(HEADER) or next(iter(query.get("wait", ())), "")
    if not said:
        try:
            return Wanted(read_concern(default)) if default else Wanted()
        except RejectedError:
            return Wanted()
    text, _, rest = said.partition(";")
    name, _, seconds = rest.strip().partition("=")
    seconds = seconds or next(iter(query.get("timeout", ())), "")
    if (rest and name.strip() != "timeout") or not _number(seconds or "1"):
        raise RejectedError(f"{said[:80]!r}: a write concern may end in ;timeout=SECONDS")
    wait = float(seconds) if seconds else WAIT
    return Wanted(read_concern(text), min(wait, WAIT_MAX))


def _number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdecimal() and len(text) < 16


@dataclass(frozen=True, slots=True)
class Written:
    """What is to be safe: a chain up to a record, and the blobs that it names."""

    author: str
    incarnation: int
    seq: int
    blobs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Others:
    """What this needs of the mesh.  ``secure`` tells whether a member has it all."""

    members: Callable[[], Mapping[str, Member]]
    linked: Callable[[], Sequence[str]]
    met: Callable[[], Awaitable[None]]
    secure: Callable[[bytes, bytes, int, int, Sequence[bytes]], Awaitable[bool]]


class Securer:
    """Waits for write concerns.  ``preferred`` names members in the order in which to ask."""

    def __init__(
        self,
        node: str,
        others: Others,
        preferred: Callable[[Sequence[bytes]], Awaitable[Sequence[str]]],
    ) -> None:
        self._node, self._others, self._preferred = node, others, preferred

    def judge(self, concern: Concern) -> None:
        """Refuse, before anything is written, what can never be reached.  Raises RejectedError."""
        members = self._others.members()
        sites = {node: member.site for node, member in members.items()}
        others = [node for node in members if node != self._node]
        if not concern.possible(others, sites, sites.get(self._node, "")):
            what = "sites" if concern.kind == "sites" else "members"
            raise RejectedError(f"{concern}: this mesh has not so many other {what}")

    async def reach(self, concern: Concern, written: Written, *, wait: float = WAIT) -> int:
        """Wait until the concern is reached; return how many members have confirmed.

        Raises NotReplicatedError when that takes longer than ``wait`` seconds.
        """
        if not concern.count:
            return 0
        search = _Search(self._node, self._others, concern, written)
        with trio.move_on_after(min(wait, WAIT_MAX)):
            order = await self._preferred(written.blobs)
            async with trio.open_nursery() as nursery:
                await search.run(nursery, order)
                nursery.cancel_scope.cancel()
        if search.reached() < concern.count:
            raise NotReplicatedError(
                f"committed on this node (record {written.seq} of {written.author[:8]}), but only "
                f"{search.reached()} of {concern} confirmed within {wait:g} s; copies go on being "
                "made, and publishing the same again waits again"
            )
        return len(search.confirmed)


class _Search:
    """One publish on its way to others."""

    def __init__(self, node: str, others: Others, concern: Concern, written: Written) -> None:
        self._node, self._others, self._concern, self._written = node, others, concern, written
        self.confirmed: set[str] = set()
        self._asked: set[str] = set()
        self._news = trio.Event()

    def reached(self) -> int:
        members = self._others.members()
        sites = {node: member.site for node, member in members.items()}
        own = sites.get(self._node, "")
        return self._concern.reached(self.confirmed & members.keys(), sites, own)

    async def run(self, nursery: trio.Nursery, order: Sequence[str]) -> None:
        """Ask as many as are needed, and one more whenever nothing has been heard for a while."""
        rank = {node: place for place, node in enumerate(order)}
        spare = 0
        while self.reached() < self._concern.count:
            self._news = trio.Event()
            missing = self._concern.count - self.reached() + spare - len(self._asked)
            for node in self._candidates(rank)[: max(0, missing)]:
                self._asked.add(node)
                nursery.start_soon(self._one, node)
            with trio.move_on_after(HEDGE) as quiet:
                await self._news.wait()
            spare += quiet.cancelled_caught

    def _candidates(self, rank: Mapping[str, int]) -> list[str]:
        """Return linked members still to be asked, one of each site not asked yet first."""
        members = self._others.members()
        free = [
            node
            for node in self._others.linked()
            if node in members and node not in self._asked and node not in self.confirmed
        ]
        known = {members[node].site for node in self.confirmed | self._asked if node in members}
        known.add(members[self._node].site if self._node in members else "")
        return sorted(
            free, key=lambda node: (members[node].site in known, rank.get(node, len(rank)), node)
        )

    async def _one(self, node: str) -> None:
        written, raw = self._written, bytes.fromhex(node)
        author = bytes.fromhex(written.author)
        safe = True
        for start in range(0, max(1, len(written.blobs)), BLOBS_MAX):
            part = written.blobs[start : start + BLOBS_MAX]
            safe = safe and await self._others.secure(
                raw, author, written.incarnation, written.seq, part
            )
        if safe:
            self.confirmed.add(node)
            self._asked.discard(node)
        else:
            await trio.sleep(HEDGE)  # it may be back, or have room, by then
            self._asked.discard(node)
        self._news.set()
