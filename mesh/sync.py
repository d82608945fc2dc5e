"""Ledger synchronisation: who lacks which records, and from whom to get them.  Pure.

Spec: docs/mesh.md §7.  Nodes tell each other how far each author's ledger reaches; whoever lacks
something asks for the range.  Nothing here judges a record: batches go to the ledger as received,
and what it says of them comes back through ``applied``.  Authority comes first: until newer
root documents of a peer are in, its records are not asked for.

Every method returns effects for the shell to perform, in order.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from mesh import syncpeer
from mesh.messages import Head, Heads, Message, Range, Records, Root, RootGet
from mesh.syncpeer import CHOICES_MAX, Asked, SyncPeer
from store.errors import RemoteProtocolError

HEADS_PER_MESSAGE = 400
AUTHORS_MAX = 100_000  # (author, incarnation) pairs a peer may make us remember
RANGE_MAX = 4096  # records asked for at once
ASKS_MAX = 8  # chains asked of one peer at a time; it answers no more than twice as many
RANGE_TIMEOUT = 15.0  # seconds without a piece of what was asked: ask somebody else
GROWTH_TIMEOUT = 60.0  # seconds without a batch that the chain grows by: pieces may come for ever
ROOT_TIMEOUT = 10.0  # seconds
NOTHING = bytes(32)  # said in the place of a record where a chain was cut to nothing
REFUSED_PAUSE = 60.0  # seconds before a peer is asked again for what turned out bad
OUTAGE_PAUSE = 5.0  # seconds before it is asked again for what our own store could not take
PUSH_MAX = 256  # records pushed unasked; a longer gap is announced, and pulled
PUSH_GRACE = 0.3  # seconds that an author's own push may take before somebody else is asked
REWINDS_MAX = 20  # times that a peer is asked for earlier records of one chain
DISPUTES_MAX = 1000  # rival heads of one peer that are looked into
REPEAT = 600.0  # seconds between full statements to an idle peer
BATCH_MAX = 1 << 20  # bytes of a batch being put together
ROOT_MAX = 2 << 20  # bytes of a root document being put together

Key = syncpeer.Key
Reach = syncpeer.Reach


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to a peer, on its control link."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class ReadRecords:
    """Send a peer the batches from ``after`` until ``upto`` is covered (``records_messages``)."""

    peer: bytes
    author: bytes
    incarnation: int
    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class ApplyRecords:
    """Hand a batch to the ledger, then call ``applied``."""

    peer: bytes
    author: bytes
    incarnation: int
    batch: bytes


@dataclass(frozen=True, slots=True)
class ReadRoots:
    """Send a peer our root documents from ``version`` on, then the end (``root_messages``)."""

    peer: bytes
    version: int


@dataclass(frozen=True, slots=True)
class AdoptRoot:
    """Hand a root document to the ledger, then call ``rooted``."""

    peer: bytes
    document: bytes


Effect = Send | ReadRecords | ApplyRecords | ReadRoots | AdoptRoot


class LedgerSync:
    """The synchronisation of one node with all its peers."""

    def __init__(
        self,
        node: bytes,
        heads: Mapping[Key, Reach],
        root: Reach,
        rng: random.Random,
    ) -> None:
        self.node = node
        self.heads = dict(heads)
        self.root = root
        self._rng = rng
        self._peers: dict[bytes, SyncPeer] = {}
        self._asked: dict[Key, Asked] = {}
        self._later: dict[Key, float] = {}  # pulls put off, in the hope of a push

    # --- links ---------------------------------------------------------------------------------
    def linked(self, peer: bytes, now: float) -> list[Effect]:
        """A control link to ``peer`` is up: state everything."""
        self._peers[peer] = SyncPeer(repeat_at=now + self._jitter(REPEAT))
        return [*self._state(peer, self.heads.items())]

    def unlinked(self, peer: bytes, now: float) -> list[Effect]:
        """The link is gone: ask others for what it owed us."""
        self._peers.pop(peer, None)
        for key in [key for key, asked in self._asked.items() if asked.peer == peer]:
            del self._asked[key]
        return self._pull(now)

    def behind(self, peer: bytes) -> int:
        """Return how many records the peer has that we lack."""
        known = self._peers.get(peer)
        if known is None:
            return 0
        return sum(max(0, seq - self._reach(key)) for key, seq in known.heads.items())

    def ahead(self, peer: bytes) -> int:
        """Return how many records we have that the peer, to our knowledge, lacks."""
        known = self._peers.get(peer)
        if known is None:
            return 0
        return sum(max(0, seq - known.heads.get(key, 0)) for key, (seq, _) in self.heads.items())

    # --- our own ledger ------------------------------------------------------------------------
    def grown(self, heads: Mapping[Key, Reach], now: float) -> list[Effect]:
        """Our ledgers reach so far: push what is ours and new, announce the rest."""
        cut = {
            k: r for k, r in heads.items() if r[0] <= self._reach(k) and r != self.heads.get(k, r)
        }
        self.heads.update(cut)  # their ends went with the keys that had vouched for them
        for known in self._peers.values():
            for key in cut:
                known.again(key)
        before = {key: self._reach(key) for key in heads}
        fresh = {key: reach for key, reach in heads.items() if reach[0] > before[key]}
        self.heads.update(fresh)
        effects: list[Effect] = []
        for peer, known in self._peers.items():
            said = dict(cut)  # or they would take it for granted that we have the author's own
            for key, reach in fresh.items():
                reached = known.heads.get(key, 0)
                if reached >= reach[0]:
                    continue
                pushes = key[0] == self.node and reach[0] - reached <= PUSH_MAX
                if pushes and reached >= before[key]:
                    effects.append(ReadRecords(peer, *key, reached, reach[0]))
                    known.heads[key] = reach[0]
                else:
                    said[key] = reach
            if said:
                effects += self._state(peer, said.items())
        return effects + self._pull(now)

    def rooted(self, root: Reach, now: float) -> list[Effect]:
        """Our root documents have changed, or a document was judged: tell whoever is behind."""
        changed, self.root = root != self.root, root
        effects: list[Effect] = []
        if changed:
            for peer, known in self._peers.items():
                known.pardon()  # what was refused may be right by the new documents
                if known.root != root:
                    effects += self._state(peer, ())
        return effects + self._pull(now)

    def applied(
        self,
        peer: bytes,
        key: Key,
        reach: int,
        *,
        refused: bool,
        now: float,
        resend_from: int | None = None,
        pause: float = REFUSED_PAUSE,
    ) -> list[Effect]:
        """The ledger has judged a batch; ``reach`` is how far it now has this author.

        ``grown`` comes first.  ``resend_from`` is set when it needs earlier records first;
        ``pause`` follows a refusal.
        """
        known = self._peers.get(peer)
        asked = self._asked.get(key)
        stands = False
        if asked is not None and asked.peer == peer:
            stands = resend_from is None and reach <= min(asked.reach, asked.upto - 1)
            if refused or stands or reach >= asked.upto:
                del self._asked[key]
            elif reach > asked.reach:
                asked.reach, asked.latest = reach, now + GROWTH_TIMEOUT
        if known is None:
            return self._pull(now)
        gap = asked is None and resend_from == reach + 1  # a push whose forerunner was not taken
        known.judged(key, gap=gap)
        if refused:
            known.refuse(key, now, pause, grows=pause >= REFUSED_PAUSE)
        elif stands or (resend_from is None and self._reach(key) < reach):  # old, or without head
            known.refuse(key, now, OUTAGE_PAUSE, grows=False)
        if resend_from is not None and not gap and known.rewinds.get(key, 0) < REWINDS_MAX:
            known.rewinds[key] = known.rewinds.get(key, 0) + 1
            upto = max(reach, resend_from)
            self._asked[key] = self._owed(peer, upto, reach, now)
            return [Send(peer, Range(*key, max(0, resend_from - 1), upto)), *self._pull(now)]
        return self._pull(now)

    def unadopted(self, peer: bytes, now: float) -> None:
        """Our store could not take a root document of this peer: ask again before long."""
        if known := self._peers.get(peer):
            known.roots_asked, known.roots_due = (0, b""), now + OUTAGE_PAUSE

    def overloaded(self, peer: bytes, key: Key) -> list[Effect]:
        """The shell cannot send a peer these records now: announce them, to be asked for later."""
        reach = self.heads.get(key)
        return [] if reach is None else [*self._state(peer, [(key, reach)])]

    # --- messages ------------------------------------------------------------------------------
    def received(self, peer: bytes, message: Message, now: float) -> list[Effect]:
        """Take a message.  Raises RemoteProtocolError: then drop the link."""
        known = self._peers.get(peer)
        if known is None:
            return []
        match message:
            case Heads():
                return self._hear_heads(peer, known, message, now)
            case Records():
                return self._hear_records(peer, known, message, now)
            case Range():
                return self._answer(peer, known, message)
            case RootGet():
                return [ReadRoots(peer, message.version)]
            case Root():
                return self._hear_root(peer, known, message, now)
            case _:
                return []

    def _hear_heads(self, peer: bytes, known: SyncPeer, said: Heads, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for head in said.heads:
            key = (head.author, head.incarnation)
            effects += self._dispute(peer, known, head)
            if known.heads.get(key, 0) < head.seq:
                known.heads[key] = head.seq
                known.lack(key, head.seq)
                known.pardon(key)
                if peer != head.author and head.author in self._peers:
                    self._later.setdefault(key, now + self._jitter(PUSH_GRACE))
            elif known.heads.get(key, 0) > head.seq:  # what it had was cut off: it may need ours
                known.heads[key] = head.seq
                if self._reach(key) > head.seq:
                    effects += self._state(peer, [(key, self.heads[key])])
        if len(known.heads) > AUTHORS_MAX:
            raise RemoteProtocolError(f"more than {AUTHORS_MAX} authors")
        known.root = (said.root_version, said.root)
        return [*effects, *self._ask_roots(peer, known, now), *self._pull(now)]

    def _dispute(self, peer: bytes, known: SyncPeer, head: Head) -> Iterator[Effect]:
        """Ask for the rival of a record we have: evidence that its author forked."""
        seq, record = self.heads.get((head.author, head.incarnation), (0, b""))
        rival = seq == head.seq > 0 and record != head.record
        if rival and head.record not in known.disputed and len(known.disputed) < DISPUTES_MAX:
            known.disputed.add(head.record)
            yield Send(peer, Range(head.author, head.incarnation, seq - 1, seq))

    def _ask_roots(self, peer: bytes, known: SyncPeer, now: float) -> Iterator[Effect]:
        """Ask for what the peer holds, if it differs: even who is behind may have statements."""
        if known.root not in (self.root, known.roots_asked):
            known.roots_asked = known.root
            known.roots_due = now + ROOT_TIMEOUT
            yield Send(peer, RootGet(min(self.root[0], known.root[0])))

    def _answer(self, peer: bytes, known: SyncPeer, asked: Range) -> list[Effect]:
        key = (asked.author, asked.incarnation)
        upto = min(asked.upto, asked.after + RANGE_MAX, self._reach(key))
        if upto <= asked.after:
            return []
        known.heads[key] = max(known.heads.get(key, 0), upto)
        return [ReadRecords(peer, *key, asked.after, upto)]

    def _hear_records(
        self, peer: bytes, known: SyncPeer, said: Records, now: float
    ) -> list[Effect]:
        key = (said.author, said.incarnation)
        asked = self._asked.get(key)
        if asked is not None and asked.peer == peer:
            asked.deadline = min(now + RANGE_TIMEOUT, asked.latest)
        known.batch += said.piece
        if len(known.batch) > BATCH_MAX:
            raise RemoteProtocolError(f"a batch exceeds {BATCH_MAX} bytes")
        if not said.last:
            return []
        batch, known.batch = bytes(known.batch), bytearray()
        self._later.pop(key, None)
        known.brought(key, said.after + 1)
        if said.after > self._reach(key) and asked is None and key not in known.judging:
            return self._pull(now)  # a push that came before what it builds on
        known.judging[key] += 1
        return [ApplyRecords(peer, *key, batch)]

    def _hear_root(self, peer: bytes, known: SyncPeer, said: Root, now: float) -> list[Effect]:
        if not said.version:  # the end of an answer
            known.roots_due = known.roots_due if known.roots_asked == (0, b"") else 0.0
            return self._pull(now)
        known.document += said.piece
        if len(known.document) > ROOT_MAX:
            raise RemoteProtocolError(f"a root document exceeds {ROOT_MAX} bytes")
        if not said.last:
            return []
        document, known.document = bytes(known.document), bytearray()
        known.roots_due = max(known.roots_due, now + ROOT_TIMEOUT)
        return [AdoptRoot(peer, document)]

    # --- time ----------------------------------------------------------------------------------
    def deadline(self) -> float | None:
        """Return when ``tick`` must be called, at the latest."""
        moments = [asked.deadline for asked in self._asked.values()]
        moments += self._later.values()
        for known in self._peers.values():
            moments += [known.repeat_at, *known.refused.values()]
            moments += [known.roots_due] if known.roots_due else []
        return min(moments, default=None)

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: give up on answers, repeat statements."""
        effects: list[Effect] = []
        for key, asked in list(self._asked.items()):
            if asked.deadline <= now:
                del self._asked[key]
                if asked.peer in self._peers:
                    self._peers[asked.peer].refused[key] = now + REFUSED_PAUSE
        for peer, known in self._peers.items():
            if 0 < known.roots_due <= now:  # no answer, or none that we could take
                known.roots_due, known.roots_asked = 0.0, (0, b"")
                effects += self._ask_roots(peer, known, now)
            for key in [key for key, until in known.refused.items() if until <= now]:
                del known.refused[key]
            if known.repeat_at <= now:
                known.repeat_at = now + self._jitter(REPEAT)
                known.anew()
                effects += self._state(peer, self.heads.items())
        return effects + self._pull(now)

    # --- inside --------------------------------------------------------------------------------
    def _reach(self, key: Key) -> int:
        return self.heads.get(key, (0, b""))[0]

    def _pending(self, key: Key) -> bool:
        return key in self._asked or key in self._later

    def _jitter(self, interval: float) -> float:
        return interval * (0.75 + self._rng.random() / 2)

    def _state(self, peer: bytes, heads: Iterable[tuple[Key, Reach]]) -> Iterator[Effect]:
        """Say how far we reach, in as many messages as it takes, at least one."""
        said = [Head(*key, seq, record or NOTHING) for key, (seq, record) in heads]
        for start in range(0, max(1, len(said)), HEADS_PER_MESSAGE):
            part = tuple(said[start : start + HEADS_PER_MESSAGE])
            yield Send(peer, Heads(part, *self.root))

    def _pull(self, now: float) -> list[Effect]:
        """Ask for everything we lack, each author from one peer at a time."""
        self._later = {key: until for key, until in self._later.items() if until > now}
        load = dict.fromkeys(self._peers, 0)
        for asked in self._asked.values():
            load[asked.peer] = load.get(asked.peer, 0) + 1
        best: dict[Key, tuple[tuple[bool, int, int], bytes, int]] = {}
        for peer, known in self._peers.items():
            if known.roots_due or load[peer] >= ASKS_MAX:
                continue
            for key, seq in islice(known.choices(self._reach, self._pending), CHOICES_MAX):
                rank = (peer == key[0], seq, -load[peer])
                if key not in best or rank > best[key][0]:
                    best[key] = (rank, peer, seq)
        effects = []
        for key, (_, peer, seq) in best.items():
            if load[peer] < ASKS_MAX:
                load[peer] += 1
                effects.append(self._ask(key, peer, seq, now))
        return effects

    def _ask(self, key: Key, peer: bytes, seq: int, now: float) -> Effect:
        after = self._reach(key)
        upto = min(seq, after + RANGE_MAX)
        self._asked[key] = self._owed(peer, upto, after, now)
        return Send(peer, Range(*key, after, upto))

    def _owed(self, peer: bytes, upto: int, reach: int, now: float) -> Asked:
        return Asked(peer, upto, now + RANGE_TIMEOUT, reach, now + GROWTH_TIMEOUT)
