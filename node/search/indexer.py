"""Keeps the local index in step with the catalog, by following the journal.

Publishing never waits for it: it reads what was committed a moment ago, in pages, with rests.  What
it cannot know from the journal (a new version of the program, a restored backup, a node that was
away for longer than the journal reaches) it makes again from the catalog while the old index goes
on answering.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import structlog
import trio

from node.search.documents import Source
from store.fold import FILE, POINTER
from store.followers import Followers
from store.journal import Journal, Positioned
from store.paging import batched
from store.search import SearchIndex
from store.search_writing import Document, DocumentKey

VERSION = 1  # of what documents hold: raising it makes every node index anew
PAGE = 400  # changes that are taken at once
BATCH = 100  # documents of one transaction: others write there too
GATHER = 0.2  # seconds over which changes are gathered
REST = 0.005  # seconds between pages, for everybody else
NAME = "search"
log = structlog.get_logger(__name__)


class State(msgspec.Struct):
    """What the index holds.  ``turn`` counts rebuilds; ``complete``: the last one ended.

    ``last`` is where one that has not ended goes on, after a crash or a stop.
    """

    incarnation: int = 0
    position: int = 0
    version: int = 0
    turn: int = 0
    complete: bool = False
    last: DocumentKey | None = None


@dataclass(slots=True)
class Progress:
    """What a rebuild has done so far, for people."""

    running: bool = False
    documents: int = 0
    began: float = 0.0
    ended: float = 0.0


class Indexer:
    """Writes one index.  ``incarnation`` tells which life of the node the journal is of."""

    def __init__(
        self,
        index: SearchIndex,
        source: Source,
        journal: Journal,
        followers: Followers,
        incarnation: Callable[[], int],
        *,
        keep_gone: bool = False,
    ) -> None:
        self.index, self._source, self._journal = index, source, journal
        self._followers, self._incarnation = followers, incarnation
        self._keep_gone = keep_gone
        self.state: State | None = None
        self.progress = Progress()
        self.changed = trio.Event()  # set, and replaced, whenever the index has changed
        self.due = trio.Event()  # set, and replaced, when a rebuild is wanted
        self.following = False  # a task runs ``run``
        self._wanted = False  # a rebuild
        self._damaged = False
        self._turn = trio.Lock()  # one writer at a time

    # --- following -------------------------------------------------------------------------------
    async def run(self, grown: trio.MemoryReceiveChannel[None]) -> None:
        """Follow until cancelled; ``grown`` receives something whenever there is more to read."""
        self.following = True
        try:
            while True:
                await self.step()
                await self._until_more(grown)
                await trio.sleep(GATHER)
        finally:
            self.following = False

    async def ensure(self) -> None:
        """Let a query see what was committed a moment ago; all, where nobody follows."""
        if self.following:
            await self.catch_up()
        else:
            await self.step()

    async def _until_more(self, grown: trio.MemoryReceiveChannel[None]) -> None:
        async def look() -> None:
            await grown.receive()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await self.due.wait()
            nursery.cancel_scope.cancel()

    async def step(self) -> None:
        """Index all that has changed; everything there is, where that cannot be known."""
        if self._damaged:
            async with self._turn:
                await self.index.reset()
                self._damaged = False
        await self._fill_parts()
        if await self._must_rebuild():
            await self._rebuild()
        while await self.catch_up():  # noqa: ASYNC110  a rest between pages
            await trio.sleep(REST)

    async def catch_up(self) -> int:
        """Index the next page of changes; how many there were.  Anybody may call it."""
        async with self._turn:
            state = await self._loaded()
            found = await self._journal.after(state.position, PAGE)
            if not found:
                return 0
            if found[0].position > state.position + 1:  # the journal was trimmed before we read it
                self.rebuild()
                return 0
            await self._write(await self._keys(found), state.turn)
            state.position = found[-1].position
            await self._followers.keep(NAME, state)
        self._tell()
        return len(found)

    async def pending(self) -> int:
        """How many changes are not indexed yet."""
        position = self.state.position if self.state is not None else 0
        return max(0, await self._journal.newest() - position)

    def rebuild(self, *, damaged: bool = False) -> None:
        """Have everything indexed anew, by the task that follows; ``damaged``: from nothing."""
        self._wanted = True
        self._damaged = self._damaged or damaged
        self.progress = Progress(running=True, began=time.time())
        self.due.set()

    async def _loaded(self) -> State:
        if self.state is None:
            await self.index.prepare()
            self.state = await self._followers.load(NAME, State) or State()
            if not self.state.position and not self.state.complete:  # changes before are walked
                self.state.position = await self._journal.newest()
        return self.state

    async def _must_rebuild(self) -> bool:
        async with self._turn:
            state = await self._loaded()
            return self._wanted or not state.complete or await self._lost(state)

    async def _lost(self, state: State) -> bool:
        """Whether what is in the index says nothing about what should be."""
        oldest, newest = await self._journal.bounds()
        return (
            state.version != VERSION
            or state.incarnation != self._incarnation()
            or not oldest <= state.position <= newest
        )

    async def _fill_parts(self) -> None:
        """Index parts of names of what an older program left, a range at a time."""
        async with self._turn:
            await self._loaded()
        while self.index.partial:
            async with self._turn:
                await self.index.fill_parts()
            await self.catch_up()
            await trio.sleep(REST)

    async def _keys(self, found: Sequence[Positioned]) -> list[DocumentKey]:
        """The documents that changes are about, each once."""
        keys: dict[DocumentKey, None] = {}
        pointed: dict[tuple[str, str], None] = {}
        for _, each in found:
            place = each.repository, each.package
            if each.kind == FILE:
                keys[DocumentKey(*place, each.version, "" if each.version else each.name)] = None
            elif each.kind == POINTER:
                keys[DocumentKey(*place, each.detail)] = None
                pointed[place] = None
        for repository, package in pointed:  # whatever a tag pointed to before
            for version in await self.index.tagged(repository, package):
                keys[DocumentKey(repository, package, version)] = None
        return [key for key in keys if key.version or key.path]

    async def _write(self, keys: Iterable[DocumentKey], turn: int) -> int:
        """Make and store documents, a few in each transaction; how many there are."""
        written = 0
        for part in batched(keys, BATCH):
            documents = await self._source.make_all(part)
            gone = [key for key, each in zip(part, documents, strict=True) if each is None]
            made = [each for each in documents if each is not None]
            await self._put(made, gone, turn)
            written += len(made)
        return written

    async def _put(self, made: Sequence[Document], gone: Sequence[DocumentKey], turn: int) -> None:
        if made or gone:
            await self.index.put(made, gone, turn=turn, keep_gone=self._keep_gone)

    def _tell(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    # --- rebuilding ------------------------------------------------------------------------------
    async def _rebuild(self) -> None:
        """Walk over the catalog, with looks at what changes meanwhile, then drop what is old."""
        state = await self._begin()
        self.progress = Progress(running=True, began=time.time())
        while await self._walk(state):
            self._tell()
            await self.catch_up()
            await trio.sleep(REST)
        dropped = 1
        while dropped:
            dropped = await self.index.drop_older(state.turn, keep_gone=self._keep_gone)
            await trio.sleep(REST)
        async with self._turn:
            state.complete, state.last = True, None
            await self._followers.keep(NAME, state)
        self._tell()
        self.progress.running, self.progress.ended = False, time.time()
        taken = round(self.progress.ended - self.progress.began, 3)
        log.info("search.rebuilt", documents=self.progress.documents, seconds=taken)

    async def _walk(self, state: State) -> bool:
        """Write the next page of the catalog; False after the last."""
        async with self._turn:  # before it is read: nobody may write what is newer meanwhile
            page = await self._source.page(state.last)
            if page is None:
                return False
            kept = msgspec.structs.replace(state, last=page.last)
            await self.index.fill(page.documents, turn=state.turn, name=NAME, state=kept)
            state.last = kept.last
        self.progress.documents += len(page.documents)
        return True

    async def _begin(self) -> State:
        """Begin a walk, or go on with one that a stop or a crash cut off."""
        wanted, self._wanted, self.due = self._wanted, False, trio.Event()
        async with self._turn:
            state = await self._loaded()
            if wanted or state.complete or state.last is None or await self._lost(state):
                state.turn, state.complete, state.version = state.turn + 1, False, VERSION
                state.incarnation, state.position = (
                    self._incarnation(),
                    await self._journal.newest(),
                )
                state.last = None
                await self._followers.keep(NAME, state)
            return state
