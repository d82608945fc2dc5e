"""Ledger synchronisation at work: ``mesh.sync`` between the links and the ledger."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import structlog
import trio

from mesh import pieces, sync
from mesh.messages import Fork, Heads, Message, Range, Records, Root, RootGet
from mesh.ports import LedgerPort
from mesh.shell.faults import FAULTS
from mesh.shell.links import Links
from store import canonical
from store.applying import Outcome
from store.authority import Authority
from store.errors import RegistryError, UnavailableError
from store.records import Batch

KINDS = (Heads, Range, Records, RootGet, Root, Fork)
FORK_MAX = 60_000  # bytes of a proof
QUEUE_MAX = 64  # batches waiting to be judged; more, and links are read no further
RETRY = 1.0  # seconds until a ledger that could not answer is asked again
GROUP_MAX = 16  # batches judged in one transaction
ANSWERS_MAX = 16  # answers to one peer under way; what it asks beyond that, it must ask again
BACKLOG_MAX = 1 << 20  # bytes queued on a link before the next batch is read
GONE: sync.Reach = (0, b"")
log = structlog.get_logger(__name__)


def root_state(authority: Authority) -> sync.Reach:
    """Return the version, and a digest of all that is in force, stated or proposed."""
    return authority.version, authority.digest


@contextmanager
def outage(doing: str) -> Iterator[None]:
    """Outlive a ledger that cannot answer now; what was not done is done at the next occasion."""
    try:
        yield
    except UnavailableError as error:
        log.warning("mesh.ledger_unavailable", doing=doing, why=str(error))


class Ledgers:
    """Keeps our ledgers and those of our peers alike."""

    def __init__(self, ledger: LedgerPort, links: Links, rng: random.Random) -> None:
        self.ledger = ledger
        self.core = sync.LedgerSync(bytes.fromhex(ledger.node), {}, (0, b""), rng)
        self.problems: dict[bytes, str] = {}  # peer → what it carried last that was refused
        self._links = links
        self._rng = rng
        self._start: Callable[..., None] = lambda *_: None
        send, receive = trio.open_memory_channel[sync.ApplyRecords | sync.AdoptRoot](QUEUE_MAX)
        self._judge, self._judged = send, receive
        self._wake = trio.Event()
        self._answers: Counter[bytes] = Counter()
        self._told: set[bytes] = set()  # proofs of forks that went to all who were linked
        self._proving: set[bytes] = set()  # peers who are being told of all

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            self._start = nursery.start_soon
            grown = self.ledger.subscribe()
            await self._catch_up()
            nursery.start_soon(self._judge_forever)
            nursery.start_soon(self._tick_forever)
            task_status.started()
            async for _ in grown:
                await self._catch_up_at_last()

    async def _catch_up_at_last(self) -> None:
        """Catch up as soon as the ledger can answer: nobody says a second time that it grew."""
        while True:
            with outage("catching up"):
                return await self._catch_up()
            await trio.sleep(RETRY)

    async def restart(self) -> None:
        """We are in another mesh now: forget what peers of the old one had."""
        now = trio.current_time()
        self.core = sync.LedgerSync(bytes.fromhex(self.ledger.node), {}, (0, b""), self._rng)
        await self._catch_up()
        for peer in self._links.control:
            self._perform(self.core.linked(peer, now))

    async def _catch_up(self) -> None:
        """Learn how far our own ledgers reach now."""
        heads = {
            (bytes.fromhex(author), incarnation): reach
            for (author, incarnation), reach in (await self.ledger.heads()).items()
        }
        now = trio.current_time()
        heads = {**dict.fromkeys(self.core.heads, GONE), **heads}  # a chain may be cut to nothing
        self._perform(self.core.rooted(root_state(self.ledger.authority), now))
        self._perform(self.core.grown(heads, now))

    def linked(self, peer: bytes) -> None:
        """A control link is up."""
        self._perform(self.core.linked(peer, trio.current_time()))
        self._start(self._send_forks, peer)

    async def _send_forks(self, peer: bytes) -> None:
        """Proofs travel apart from records: which branch a node saw first must not matter."""
        if peer in self._proving:
            return
        self._proving.add(peer)
        try:
            with FAULTS.contained("proofs", peer, self._links.hold):
                for proof in await self._proofs():
                    self._links.send(peer, Fork(proof))
        finally:
            self._proving.discard(peer)

    async def _proofs(self) -> list[bytes]:
        """Return the proofs of all forks, as soon as the ledger can: no statement tells of them."""
        while True:
            with outage("reading proofs"):
                return [proof for proof in await self.ledger.forks() if len(proof) < FORK_MAX]
            await trio.sleep(RETRY)

    async def _take_fork(self, peer: bytes, said: Fork) -> None:
        if await self.ledger.accept_fork(said.proof):
            for other in list(self._links.control):
                if other != peer:
                    self._links.send(other, said)

    def unlinked(self, peer: bytes) -> None:
        """A control link is gone."""
        self._perform(self.core.unlinked(peer, trio.current_time()))

    async def heard(self, peer: bytes, message: Message) -> None:
        """Take a message.  Waits while too much is to be judged.  Raises RemoteProtocolError."""
        if isinstance(message, Fork):
            await self._take_fork(peer, message)
        for effect in self.core.received(peer, message, trio.current_time()):
            if isinstance(effect, sync.ApplyRecords | sync.AdoptRoot):
                await self._judge.send(effect)
            else:
                self._perform([effect])
        if isinstance(message, Heads):
            self._wake.set()  # what is left to its author's push for a moment has a deadline now

    def _perform(self, effects: Iterable[sync.Effect]) -> None:
        for effect in effects:
            match effect:
                case sync.Send(peer, message):
                    self._links.send(peer, message)
                case sync.ReadRecords() | sync.ReadRoots():
                    if self._answers[effect.peer] < ANSWERS_MAX:
                        self._answers[effect.peer] += 1
                        self._start(self._answer, effect)
                    elif isinstance(effect, sync.ReadRecords):
                        key = (effect.author, effect.incarnation)
                        self._perform(self.core.overloaded(effect.peer, key))
                case _:
                    raise AssertionError(effect)
        self._wake.set()

    # --- answering -----------------------------------------------------------------------------
    async def _answer(self, asked: sync.ReadRecords | sync.ReadRoots) -> None:
        try:
            with FAULTS.contained("answer", asked.peer, self._links.hold), outage("answering"):
                if isinstance(asked, sync.ReadRecords):
                    await self._send_records(asked)
                else:
                    await self._send_roots(asked)
        finally:
            self._answers[asked.peer] -= 1

    async def _send_records(self, asked: sync.ReadRecords) -> None:
        connection = self._links.control.get(asked.peer)
        reach = asked.after
        while connection is not None and reach < asked.upto and not connection.link.closed:
            batch = await self.ledger.range(asked.author.hex(), asked.incarnation, reach + 1)
            if batch is None:
                return
            data = canonical.encode(batch)
            key = (asked.author, asked.incarnation)
            for message in pieces.records_messages(*key, reach, data):
                connection.send(message)
            reach = batch.head.seq
            await connection.drained(BACKLOG_MAX)

    async def _send_roots(self, asked: sync.ReadRoots) -> None:
        documents = [(1, data) for data in await self.ledger.roots(asked.version)]
        connection = self._links.control.get(asked.peer)
        for message in pieces.root_messages(documents):
            if connection is not None and not connection.link.closed:
                connection.send(message)
                await connection.drained(BACKLOG_MAX)

    # --- judging -------------------------------------------------------------------------------
    async def _judge_forever(self) -> None:
        async for first in self._judged:
            group = [first]
            while len(group) < GROUP_MAX:
                try:
                    group.append(self._judged.receive_nowait())
                except trio.WouldBlock:
                    break
            await self._judge_group(group)

    async def _judge_group(self, group: list[sync.ApplyRecords | sync.AdoptRoot]) -> None:
        """Judge in the order of arrival, neighbouring batches in one transaction."""
        batches: list[sync.ApplyRecords] = []
        for effect in [*group, None]:
            if isinstance(effect, sync.ApplyRecords):
                batches.append(effect)
                continue
            if batches:
                await self._apply(batches)
                batches = []
            if effect is not None:
                await self._adopt(effect)

    async def _apply(self, effects: list[sync.ApplyRecords]) -> None:
        raw: list[Batch | bytes] = [effect.batch for effect in effects]
        pause = sync.REFUSED_PAUSE
        try:
            outcomes = await self.ledger.apply(raw)
        except UnavailableError as error:  # a full disk, a database that is away: ask again later
            pause = sync.OUTAGE_PAUSE
            log.warning("mesh.not_applied", why=str(error))
            outcomes = [Outcome(refused=str(error)) for _ in effects]
        with outage("catching up"):
            await self._catch_up()  # before the core asks for more
        for effect, outcome in zip(effects, outcomes, strict=True):
            key = (effect.author, effect.incarnation)
            named = (outcome.author, outcome.incarnation) == (key[0].hex(), key[1])
            refused = bool(outcome.refused) and outcome.resend_from is None
            if refused:
                self.problems[effect.peer] = outcome.refused
                log.warning("mesh.refused", peer=effect.peer.hex(), why=outcome.refused)
            self._perform(
                self.core.applied(
                    effect.peer,
                    key,
                    outcome.reach if named else 0,
                    refused=refused or not named,
                    now=trio.current_time(),
                    resend_from=outcome.resend_from,
                    pause=pause,
                )
            )
        if any(outcome.forked is not None for outcome in outcomes):
            await self._tell_forks()

    async def _tell_forks(self) -> None:
        """A fork has come to light: who is linked already must hear of it too."""
        for proof in await self._proofs():
            if proof not in self._told:
                self._told.add(proof)
                for peer in list(self._links.control):
                    self._links.send(peer, Fork(proof))

    async def _adopt(self, effect: sync.AdoptRoot) -> None:
        try:
            await self.ledger.adopt(effect.document)
        except UnavailableError as error:
            log.warning("mesh.not_adopted", why=str(error))
            self.core.unadopted(effect.peer, trio.current_time())
        except RegistryError as error:
            self.problems[effect.peer] = f"root document: {error}"
            log.warning("mesh.root_refused", peer=effect.peer.hex(), why=str(error))
        state = root_state(self.ledger.authority)
        self._perform(self.core.rooted(state, trio.current_time()))

    async def _tick_forever(self) -> None:
        while True:
            self._wake = trio.Event()
            now = trio.current_time()
            deadline = self.core.deadline()
            wait = 60.0 if deadline is None else max(0.02, deadline - now)
            with trio.move_on_after(wait):
                await self._wake.wait()
                continue
            self._perform(self.core.tick(trio.current_time()))
