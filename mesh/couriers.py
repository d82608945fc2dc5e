"""Couriers: what sites that are never up together lack, and who carries it.  Pure.

Spec: docs/mesh.md §13.7.  ``Cargo`` is the courier's part: wishes that outlive the link on which
they were stated, and a choice of what to carry under a budget of bytes.  ``now`` is seconds since
1970.  What those remember who lack or hold the blobs is in ``mesh.leases``.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mesh.cargo import LACKS_MAX, Lack, Lacks

LIFE = 7 * 86400.0  # seconds that a wish lives after it was stated
TOLD_MAX = 4096  # wishes of one teller
WISHES_MAX = 32_768  # of all tellers
HOPS_MAX = 3  # couriers that a wish may pass
UNKNOWN = 1 << 20  # bytes that a blob of unknown size counts until it is here
CHOSEN_MAX = 64  # blobs chosen at a time
RETRY, RETRY_MAX = 5.0, 600.0  # seconds before what was not granted, or not had, is tried again


@dataclass(frozen=True, slots=True)
class Wish:
    """One blob that ``target`` lacks, as one teller said.  ``expires`` in seconds since 1970."""

    blob: bytes
    target: bytes
    size: int
    expires: float
    stated_ms: int
    hops: int
    urgent: bool
    guessed: bool = False  # the target has not said so; placement says that it should hold it


@dataclass(slots=True)
class Choice:
    """What to fetch now, in order, and what to let go of to make room for others' wishes."""

    fetch: list[bytes] = field(default_factory=list[bytes])
    displaced: list[bytes] = field(default_factory=list[bytes])


@dataclass(slots=True)
class Counts:
    """Since the start."""

    loaded: int = 0  # blobs taken on
    loaded_bytes: int = 0
    delivered: int = 0  # let go of because who wanted them has them
    expired: int = 0  # let go of because the wish lapsed
    displaced: int = 0  # let go of to make room for others' wishes
    refused: int = 0  # wishes that did not fit the bounds


class Cargo:
    """A courier's wishes and load.  ``budget`` is bytes that may lie here only to be carried."""

    def __init__(self, node: bytes, budget: int) -> None:
        self.node, self.budget = node, budget
        self.wishes: dict[bytes, dict[bytes, Wish]] = {}  # teller → blob → wish
        self.carried: dict[bytes, int] = {}  # blob → bytes, here for nothing but to be carried
        self.coming: dict[bytes, int] = {}  # blob → bytes, being fetched
        self.leaving: set[bytes] = set()  # of the carried: nobody wants them any more
        self.counts = Counts()
        self._latest: dict[bytes, int] = {}  # target → when it spoke for itself, by its clock
        self._later: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # retry at, pause
        self._lapsed: set[bytes] = set()  # of the leaving: the wish for them ended by itself
        self._displaced: set[bytes] = set()  # of the leaving: still wished for

    # --- hearing -------------------------------------------------------------------------------
    def stated(
        self,
        teller: bytes,
        stated_ms: int,
        lacks: Iterable[Lack],
        now: float,
        is_member: Callable[[bytes], bool],
    ) -> None:
        """Replace all that a teller has said; wishes beyond the bounds are not kept.

        What somebody else says of a target is nothing against the target's own later word.
        """
        self._latest[teller] = stated_ms
        told: dict[bytes, Wish] = {}
        for lack in lacks:
            target = lack.target or teller
            hearsay = target != teller
            if target == self.node or (hearsay and not is_member(target)):
                continue
            if hearsay and lack.stated_ms <= self._latest.get(target, -1):
                continue
            if len(told) >= TOLD_MAX:
                self.counts.refused += 1
                continue
            expires = now + min(float(lack.left), LIFE)
            hops = min(lack.hops, HOPS_MAX)
            stated = lack.stated_ms if hearsay else stated_ms
            told[lack.blob] = Wish(lack.blob, target, lack.size, expires, stated, hops, lack.urgent)
        self._put(teller, told)
        self._bound()
        self._settle(expired=False)

    def guess(self, target: bytes, sizes: Mapping[bytes, int], now: float) -> None:
        """Replace what a member is thought to lack, besides what it has said that it does.

        For members that nobody has met since something was published for them.
        """
        told = {b: wish for b, wish in self.wishes.get(target, {}).items() if not wish.guessed}
        for blob, size in sizes.items():
            if len(told) >= TOLD_MAX:
                break
            wish = Wish(blob, target, size, now + LIFE, 0, 0, urgent=False, guessed=True)
            told.setdefault(blob, wish)
        self._put(target, told)
        self._bound()
        self._settle(expired=False)

    def _put(self, teller: bytes, told: dict[bytes, Wish]) -> None:
        if told:
            self.wishes[teller] = told
        else:
            self.wishes.pop(teller, None)

    def _bound(self) -> None:
        """Who has told most gives way, its least urgent and last wishes first."""
        excess = self.count - WISHES_MAX
        while excess > 0:
            most = max(self.wishes, key=lambda teller: (len(self.wishes[teller]), teller))
            runner_up = max((len(w) for t, w in self.wishes.items() if t != most), default=0)
            ordered = _ordered(self.wishes[most])
            keep = max(len(ordered) - excess, min(runner_up, len(ordered) - 1))
            self.counts.refused += len(ordered) - keep
            self._put(most, {wish.blob: wish for wish in ordered[:keep]})
            excess = self.count - WISHES_MAX

    @property
    def count(self) -> int:
        """Wishes of all tellers."""
        return sum(len(told) for told in self.wishes.values())

    def keep(self, is_member: Callable[[bytes], bool]) -> None:
        """Forget what was wished by or for who is a member no more."""
        for teller, told in list(self.wishes.items()):
            kept = {blob: wish for blob, wish in told.items() if is_member(wish.target)}
            self._put(teller, kept if is_member(teller) else {})
        self._latest = {node: at for node, at in self._latest.items() if is_member(node)}
        self._settle(expired=False)

    def expire(self, now: float) -> None:
        """Let wishes lapse."""
        for teller, told in list(self.wishes.items()):
            kept = {blob: wish for blob, wish in told.items() if wish.expires > now}
            if len(kept) != len(told):
                self._put(teller, kept)
                self._settle(expired=True)

    def _settle(self, *, expired: bool) -> None:
        """What is carried for nobody leaves; what is wanted again stays."""
        idle = self.carried.keys() - self.wanted()
        if expired:
            self._lapsed |= idle - self.leaving
        self._lapsed &= idle
        self._displaced &= self.carried.keys() - idle
        self.leaving = idle | self._displaced

    # --- choosing ------------------------------------------------------------------------------
    def wanted(self) -> set[bytes]:
        """Return every blob that somebody wishes for."""
        return {blob for told in self.wishes.values() for blob in told}

    def open(self, now: float) -> Iterator[Wish]:
        """Give the wishes that nothing has been done about, each teller's in their order."""
        for told in self.wishes.values():
            for wish in _ordered(told):
                if self._free(wish.blob, now):
                    yield wish

    def _free(self, blob: bytes, now: float) -> bool:
        return (
            blob not in self.carried
            and blob not in self.coming
            and self._later.get(blob, (0.0, 0.0))[0] <= now
        )

    @property
    def used(self) -> int:
        """Bytes of the budget that are taken."""
        return sum(self.carried.values()) + sum(self.coming.values())

    def loads(self) -> Counter[bytes]:
        """Return the bytes carried, or coming, for each teller; shared ones count for all."""
        found: Counter[bytes] = Counter()
        for teller, told in self.wishes.items():
            found[teller] = sum(size for blob, size in self._here() if blob in told)
        return found

    def _here(self) -> Iterator[tuple[bytes, int]]:
        yield from self.carried.items()
        yield from self.coming.items()

    def choose(self, sizes: Mapping[bytes, int], now: float) -> Choice:
        """Choose among blobs that can be had now (``sizes``: bytes, 0 if unknown).

        Whoever has least carried for it comes first.  If a teller has less than its share of the
        budget and its wish does not fit, what is carried beyond the shares of others makes room.
        """
        choice, loads, free = Choice(), self.loads(), self.budget - self.used
        queues = {
            teller: [wish for wish in _ordered(told) if wish.blob in sizes]
            for teller, told in self.wishes.items()
        }
        share, starved = self.budget // max(1, len(self.wishes)), 0
        waiting = {teller for teller, queue in queues.items() if queue}
        while waiting and len(choice.fetch) < CHOSEN_MAX:
            teller = min(waiting, key=lambda each: (loads[each], each))
            wish = queues[teller].pop(0)
            if not queues[teller]:
                waiting.discard(teller)
            if wish.blob in choice.fetch or not self._free(wish.blob, now):
                continue
            size = sizes[wish.blob] or wish.size or UNKNOWN
            if size <= free:
                choice.fetch.append(wish.blob)
                free -= size
                for each, told in self.wishes.items():
                    loads[each] += size if wish.blob in told else 0
            elif loads[teller] + starved + size <= share:
                starved += size
        if starved:
            choice.displaced = self._displaceable(starved - max(0, free), loads, share)
        return choice

    def _displaceable(self, needed: int, loads: Counter[bytes], share: int) -> list[bytes]:
        """Return carried blobs of those alone who have more than their share, the last first."""
        found: list[bytes] = []
        for teller in sorted(loads, key=lambda each: (-loads[each], each)):
            for wish in reversed(_ordered(self.wishes[teller])):
                size = self.carried.get(wish.blob)
                if needed <= 0 or loads[teller] <= share:
                    break
                owners = [each for each, told in self.wishes.items() if wish.blob in told]
                if size is None or wish.blob in found or any(loads[o] <= share for o in owners):
                    continue
                found.append(wish.blob)
                needed -= size
                for owner in owners:
                    loads[owner] -= size
        return found

    # --- what becomes of it --------------------------------------------------------------------
    def begin(self, blob: bytes, size: int) -> None:
        """A blob is being fetched to be carried."""
        self.coming[blob] = size or UNKNOWN

    def loaded(self, blob: bytes, size: int) -> None:
        """It is here."""
        self.coming.pop(blob, None)
        self._later.pop(blob, None)
        self.carried[blob] = size
        self.counts.loaded += 1
        self.counts.loaded_bytes += size
        if blob not in self.wanted():
            self.leaving.add(blob)

    def displace(self, blob: bytes) -> None:
        """It makes room for others' wishes."""
        if blob in self.carried:
            self._displaced.add(blob)
            self.leaving.add(blob)

    def put_off(self, blob: bytes, now: float) -> None:
        """It was not granted, or not had: later."""
        self.coming.pop(blob, None)
        _, pause = self._later.pop(blob, (0.0, RETRY / 2))
        pause = min(RETRY_MAX, pause * 2)
        self._later[blob] = (now + pause, pause)
        while len(self._later) > WISHES_MAX:
            self._later.popitem(last=False)

    def gone(self, blob: bytes, now: float) -> None:
        """It was let go of, or belongs here for another reason now: it counts no more."""
        if self.carried.pop(blob, None) is None:
            return
        if blob in self._displaced:
            self.counts.displaced += 1
            self.put_off(blob, now)
        elif blob in self._lapsed:
            self.counts.expired += 1
        elif blob in self.leaving:
            self.counts.delivered += 1
        for marks in (self.leaving, self._lapsed, self._displaced):
            marks.discard(blob)

    def carries(self, blob: bytes) -> bool:
        """Tell whether a blob lies here to be carried, and is still wanted."""
        return blob in self.carried and blob not in self.leaving

    # --- passing on ----------------------------------------------------------------------------
    def passed(self, courier: bytes, now: float) -> list[Lack]:
        """Return the wishes that another courier may help with, that are not its own word."""
        own = self.wishes.get(courier, {})
        found: dict[bytes, Lack] = {}
        for teller, told in self.wishes.items():
            for wish in _ordered(told) if teller != courier else ():
                taken = wish.blob in own or wish.blob in self.carried or wish.blob in found
                if taken or wish.hops <= 0 or wish.target == courier or len(found) >= TOLD_MAX:
                    continue
                found[wish.blob] = Lack(
                    wish.blob,
                    wish.target,
                    wish.size,
                    max(0, int(wish.expires - now)),
                    wish.stated_ms,
                    wish.hops - 1,
                    wish.urgent,
                )
        return list(found.values())


def _ordered(told: Mapping[bytes, Wish]) -> list[Wish]:
    """Those first for which a client waits, guesses last, else in the order told."""
    return sorted(told.values(), key=lambda wish: (not wish.urgent, wish.guessed))


def statement(number: int, stated_ms: int, lacks: Sequence[Lack]) -> Iterator[Lacks]:
    """Cut a statement into messages; an empty one is a message, too."""
    said = lacks[:TOLD_MAX]
    starts = range(0, max(1, len(said)), LACKS_MAX)
    for piece, start in enumerate(starts):
        last = start == starts[-1]
        part = tuple(said[start : start + LACKS_MAX])
        yield Lacks(number, piece, last, stated_ms, part)


class Assembly:
    """Statements of one teller, put together from their pieces.  Holds one at most."""

    def __init__(self) -> None:
        self._statement, self._next = -1, 0
        self._lacks: list[Lack] = []

    def take(self, said: Lacks) -> list[Lack] | None:
        """Take a piece; the whole statement if that completes it.  Pieces out of turn are lost."""
        if said.piece == 0:
            self._statement, self._next, self._lacks = said.statement, 0, []
        if (said.statement, said.piece) != (self._statement, self._next):
            return None
        self._next += 1
        if len(self._lacks) < TOLD_MAX:
            self._lacks += said.lacks
        if not said.last:
            return None
        whole, self._lacks, self._statement = self._lacks, [], -1
        return whole
