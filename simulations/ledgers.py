"""Ledger synchronisation of a simulated node: the real ledger and ``mesh.sync``, no tasks.

What ``mesh.shell.ledgers`` does with awaits, this does with events: a node may crash between any
two of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from mesh import pieces, sync
from mesh.messages import Fork, Message
from simulations.disk import at_once
from simulations.world import World
from store import canonical
from store.applying import Outcome
from store.authority import Authority
from store.errors import RegistryError, UnavailableError
from store.ledger import Ledger
from store.records import Batch

GROUP_MAX = 16  # batches judged in one transaction
QUEUE_MAX = 64  # batches waiting to be judged; more, and links are read no further
LATENCY = (0.001, 0.02)  # seconds that the database takes
RETRY = 1.0  # seconds until a ledger that could not answer is asked again
RECHECK = 10.0  # seconds between looks at records that are held
FORK_MAX = 60_000  # bytes of a proof


class Shell(Protocol):
    """What this needs of its node."""

    def later(self, delay: float, action: Callable[[], None]) -> object: ...
    def send(self, peer: bytes, message: Message) -> None: ...
    def note(self, text: str) -> None: ...
    def linked_peers(self) -> list[bytes]: ...
    def roots_changed(self) -> None: ...
    def hold(self, peer: bytes) -> None: ...
    def resume(self) -> None: ...
    def judged(self, peer: bytes, outcome: Outcome) -> None: ...


def root_state(authority: Authority) -> sync.Reach:
    """Return the version, and a digest of all that is in force, stated or proposed."""
    return authority.version, authority.digest


class Ledgers:
    """Keeps the ledgers of one life of a node and those of its peers alike."""

    def __init__(self, world: World, ledger: Ledger, shell: Shell) -> None:
        self.ledger = ledger
        self.problems: dict[bytes, str] = {}
        self._world, self._shell = world, shell
        self.core = sync.LedgerSync(bytes.fromhex(ledger.node), {}, (0, b""), world.rng)
        self._waiting: deque[sync.ApplyRecords | sync.AdoptRoot] = deque()
        self._judging = False
        self._told: set[bytes] = set()  # proofs of forks that every peer has had
        self._ticking: float | None = None
        self.catch_up()
        shell.later(RECHECK, self._recheck)

    def _latency(self) -> float:
        return self._world.between(*LATENCY)

    @contextmanager
    def _outage(self, doing: str) -> Iterator[None]:
        """Outlive a ledger that cannot answer now."""
        try:
            yield
        except UnavailableError as error:
            self._shell.note(f"{doing}: {error}")

    def _recheck(self) -> None:
        self._shell.later(RECHECK, self._recheck)
        before = self.ledger.authority
        with self._outage("rechecking"):
            at_once(self.ledger.recheck())
        if self.ledger.authority is not before:
            self._shell.roots_changed()
            self.catch_up()

    def catch_up(self) -> None:
        """Learn how far our own ledgers reach now; if they cannot tell, a little later."""
        try:
            found = at_once(self.ledger.heads())
        except UnavailableError:
            self._shell.later(RETRY, self.catch_up)
            return
        heads = {
            (bytes.fromhex(author), incarnation): reach
            for (author, incarnation), reach in found.items()
        }
        now = self._world.now
        heads = {**dict.fromkeys(self.core.heads, (0, b"")), **heads}
        self.perform(self.core.rooted(root_state(self.ledger.authority), now))
        self.perform(self.core.grown(heads, now))

    def restart(self) -> None:
        """We belong to another mesh now: forget what peers of the old one had."""
        name = bytes.fromhex(self.ledger.node)
        self.core = sync.LedgerSync(name, {}, (0, b""), self._world.rng)
        self.catch_up()
        for peer in self._shell.linked_peers():
            self.linked(peer)

    @property
    def full(self) -> bool:
        """Tell whether as much waits to be judged as may."""
        return len(self._waiting) >= QUEUE_MAX

    # --- links ---------------------------------------------------------------------------------
    def linked(self, peer: bytes) -> None:
        """A control link is up."""
        self.perform(self.core.linked(peer, self._world.now))
        self._tell_all(peer)

    def _proofs(self, again: Callable[[], None]) -> list[bytes]:
        """Return the proofs of all forks; if the ledger cannot tell, do it again a little later."""
        try:
            return [proof for proof in at_once(self.ledger.forks()) if len(proof) < FORK_MAX]
        except UnavailableError as error:
            self._shell.note(f"reading proofs: {error}")
            self._shell.later(RETRY, again)
            return []

    def _tell_all(self, peer: bytes) -> None:
        """Who is met hears of every fork."""
        for proof in self._proofs(partial(self._tell_all, peer)):
            self._shell.send(peer, Fork(proof))

    def _tell_forks(self) -> None:
        """A fork has come to light: who is linked already must hear of it too."""
        for proof in self._proofs(self._tell_forks):
            if proof not in self._told:
                self._told.add(proof)
                self._shell.note("passes the proof of a fork on")
                for peer in self._shell.linked_peers():
                    self._shell.send(peer, Fork(proof))

    def unlinked(self, peer: bytes) -> None:
        """A control link is gone."""
        self.perform(self.core.unlinked(peer, self._world.now))

    def heard(self, peer: bytes, message: Message) -> None:
        """Take a message.  Raises RemoteProtocolError."""
        if isinstance(message, Fork):
            if at_once(self.ledger.accept_fork(message.proof)):
                self._tell_forks()
            return
        self.perform(self.core.received(peer, message, self._world.now))

    def perform(self, effects: Iterable[sync.Effect]) -> None:
        """Perform effects in order; those that take time end later, or never."""
        for effect in effects:
            match effect:
                case sync.Send(peer, message):
                    self._shell.send(peer, message)
                case sync.ReadRecords():
                    self._answer(effect, effect.after)
                case sync.ReadRoots(peer, version):
                    self._read_roots(peer, version)
                case sync.ApplyRecords() | sync.AdoptRoot():
                    self._waiting.append(effect)
                    self._judge_soon()
                    if self.full:
                        self._shell.hold(effect.peer)
        self._plan_tick()

    # --- answering -----------------------------------------------------------------------------
    def _answer(self, asked: sync.ReadRecords, reach: int) -> None:
        """Send one batch after the other, as the database gives them."""
        self._shell.later(self._latency(), lambda: self._send_batch(asked, reach))

    def _send_batch(self, asked: sync.ReadRecords, reach: int) -> None:
        batch: Batch | None = None
        with self._outage("answering"):
            batch = at_once(self.ledger.range(asked.author.hex(), asked.incarnation, reach + 1))
        if batch is None or asked.peer not in self._shell.linked_peers():
            return
        data = canonical.encode(batch)
        for message in pieces.records_messages(asked.author, asked.incarnation, reach, data):
            self._shell.send(asked.peer, message)
        if batch.head.seq < asked.upto:
            self._answer(asked, batch.head.seq)

    def _read_roots(self, peer: bytes, version: int) -> None:
        self._shell.later(self._latency(), lambda: self._roots(peer, version))

    def _roots(self, peer: bytes, version: int) -> None:
        with self._outage("answering"):
            documents = [(1, data) for data in at_once(self.ledger.roots(version))]
            for message in pieces.root_messages(documents):
                self._shell.send(peer, message)

    # --- judging -------------------------------------------------------------------------------
    def _judge_soon(self) -> None:
        if not self._judging:
            self._judging = True
            self._shell.later(self._latency(), self._judge)

    def _judge(self) -> None:
        """Judge what waits, neighbouring batches in one transaction."""
        self._judging = False
        first = self._waiting.popleft()
        if isinstance(first, sync.AdoptRoot):
            self._adopt(first)
        else:
            group = [first]
            while self._waiting and len(group) < GROUP_MAX:
                following = self._waiting[0]
                if not isinstance(following, sync.ApplyRecords):
                    break
                group.append(following)
                self._waiting.popleft()
            self._apply(group)
        self._shell.resume()
        if self._waiting:
            self._judge_soon()

    def _apply(self, effects: list[sync.ApplyRecords]) -> None:
        pause = sync.REFUSED_PAUSE
        try:
            outcomes = at_once(self.ledger.apply([effect.batch for effect in effects]))
        except UnavailableError as error:
            pause = sync.OUTAGE_PAUSE
            outcomes = [Outcome(refused=str(error)) for _ in effects]
        self.catch_up()  # before the core asks for more
        for effect, outcome in zip(effects, outcomes, strict=True):
            key = (effect.author, effect.incarnation)
            named = (outcome.author, outcome.incarnation) == (key[0].hex(), key[1])
            refused = bool(outcome.refused) and outcome.resend_from is None
            if refused:
                self.problems[effect.peer] = outcome.refused
            self._shell.judged(effect.peer, outcome)
            self.perform(
                self.core.applied(
                    effect.peer,
                    key,
                    outcome.reach if named else 0,
                    refused=refused or not named,
                    now=self._world.now,
                    resend_from=outcome.resend_from,
                    pause=pause,
                )
            )
        if any(outcome.forked is not None for outcome in outcomes):
            self._tell_forks()

    def _adopt(self, effect: sync.AdoptRoot) -> None:
        try:
            if at_once(self.ledger.adopt(effect.document)):
                self._shell.note(f"adopted root version {self.ledger.authority.version}")
                self._shell.roots_changed()
        except UnavailableError as error:
            self._shell.note(f"adopts nothing: {error}")
            self.core.unadopted(effect.peer, self._world.now)
        except RegistryError as error:
            self.problems[effect.peer] = f"root document: {error}"
        self.perform(self.core.rooted(root_state(self.ledger.authority), self._world.now))
        self.catch_up()  # what a key vouched for that was given up may be gone

    # --- time ----------------------------------------------------------------------------------
    def _plan_tick(self) -> None:
        """Look at the clock in time.  A plan that is over was made before all hosts slept."""
        deadline, planned = self.core.deadline(), self._ticking
        if deadline is None or (planned is not None and self._world.now < planned <= deadline):
            return
        self._ticking = deadline
        wait = max(0.02, deadline - self._world.now)
        self._shell.later(wait, lambda: self._tick(deadline))

    def _tick(self, planned: float) -> None:
        if self._ticking != planned:
            return
        self._ticking = None
        self.perform(self.core.tick(self._world.now))
