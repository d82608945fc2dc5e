"""Ledger synchronisation between cores, over links that come and go."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh import messages as m
from mesh.pieces import records_messages, root_messages
from mesh.sync import (
    ASKS_MAX,
    GROWTH_TIMEOUT,
    OUTAGE_PAUSE,
    REPEAT,
    ROOT_TIMEOUT,
    AdoptRoot,
    ApplyRecords,
    Effect,
    Key,
    LedgerSync,
    ReadRecords,
    ReadRoots,
    Send,
)
from mesh.wire import Decoder, encode
from store.errors import RemoteProtocolError

NAMES = [bytes([i]) * 32 for i in range(4)]


def record(author: bytes, seq: int) -> bytes:
    return author[:1] + seq.to_bytes(31, "big")


class Node:
    """A core, and a ledger that believes every batch without a gap."""

    def __init__(self, name: bytes, world: World) -> None:
        self.name, self.world = name, world
        self.reach: dict[Key, int] = {}
        self.roots = [b"genesis"]
        self.core = LedgerSync(name, {}, (1, b"genesis"), random.Random(1))
        self.applied: list[tuple[Key, int, int]] = []
        self.lies = False

    def publish(self, count: int) -> None:
        self.extend((self.name, 1), self.reach.get((self.name, 1), 0) + count)

    def extend(self, key: Key, reach: int) -> None:
        self.reach[key] = reach
        self.perform(self.core.grown({key: (reach, record(key[0], reach))}, self.world.now))

    def sign_root(self) -> None:
        self.roots.append(b"root %d" % len(self.roots))
        self.perform(self.core.rooted((len(self.roots), self.roots[-1]), self.world.now))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.perform_one(effect)

    def perform_one(self, effect: Effect) -> None:
        now = self.world.now
        match effect:
            case Send(peer, message):
                self.world.send(self.name, peer, message)
            case ReadRecords(peer, author, inc, after, upto):
                for start in range(after, upto, 100):
                    stop = min(upto, start + 100)
                    batch = msgspec.msgpack.encode([start, stop, self.lies])
                    for message in records_messages(author, inc, start, batch):
                        self.world.send(self.name, peer, message)
            case ApplyRecords(peer, author, inc, batch):
                start, stop, lie = msgspec.msgpack.decode(batch)
                key = (author, inc)
                reach = self.reach.get(key, 0)
                self.applied.append((key, start, stop))
                refused = lie or start > reach
                if not refused and stop > reach:
                    self.extend(key, stop)
                self.perform(
                    self.core.applied(peer, key, self.reach.get(key, 0), refused=refused, now=now)
                )
            case ReadRoots(peer, version):
                found = list(enumerate(self.roots, 1))[max(0, version - 1) :]
                for message in root_messages(found):
                    self.world.send(self.name, peer, message)
            case AdoptRoot(_, document):
                if document not in self.roots:
                    self.roots.append(document)
                self.perform(self.core.rooted((len(self.roots), self.roots[-1]), now))


class World:
    """Nodes and the links between them, each in order, all else at random."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.rng, self.now = random.Random(seed), 0.0
        self.nodes = {name: Node(name, self) for name in NAMES[:count]}
        self.wires: dict[tuple[bytes, bytes], deque[m.Message]] = {}
        self.sent: list[tuple[bytes, bytes, m.Message]] = []

    def send(self, source: bytes, target: bytes, message: m.Message) -> None:
        self.sent.append((source, target, message))
        if (source, target) in self.wires:
            self.wires[source, target].append(message)

    def link(self, one: int, two: int) -> None:
        a, b = NAMES[one], NAMES[two]
        if (a, b) not in self.wires:
            self.wires[a, b], self.wires[b, a] = deque(), deque()
            self.nodes[a].perform(self.nodes[a].core.linked(b, self.now))
            self.nodes[b].perform(self.nodes[b].core.linked(a, self.now))

    def cut(self, one: int, two: int) -> None:
        a, b = NAMES[one], NAMES[two]
        if self.wires.pop((a, b), None) is not None:
            del self.wires[b, a]
            self.nodes[a].perform(self.nodes[a].core.unlinked(b, self.now))
            self.nodes[b].perform(self.nodes[b].core.unlinked(a, self.now))

    def step(self) -> bool:
        busy = [ends for ends, wire in self.wires.items() if wire]
        if not busy:
            return False
        source, target = self.rng.choice(busy)
        message = self.wires[source, target].popleft()
        node = self.nodes[target]
        node.perform(node.core.received(source, message, self.now))
        return True

    def settle(self, patience: float = 100.0) -> None:
        """Deliver everything; when nothing moves, let time pass."""
        until = self.now + patience
        while self.now < until:
            while self.step():
                pass
            moments = [d for n in self.nodes.values() if (d := n.core.deadline()) is not None]
            self.now = min(until, max(self.now + 0.01, min(moments, default=until)))
            for node in self.nodes.values():
                node.perform(node.core.tick(self.now))

    def reach(self) -> list[dict[Key, int]]:
        return [node.reach for node in self.nodes.values()]

    def count(self, kind: type[m.Message]) -> int:
        return sum(isinstance(message, kind) for _, _, message in self.sent)


def test_records_and_roots_cross_several_hops() -> None:
    world = World(4)
    world.nodes[NAMES[0]].publish(250)
    world.nodes[NAMES[3]].publish(5)
    world.nodes[NAMES[0]].sign_root()
    for hop in range(3):
        world.link(hop, hop + 1)
    world.settle()
    assert world.reach() == [{(NAMES[0], 1): 250, (NAMES[3], 1): 5}] * 4
    assert all(node.roots == [b"genesis", b"root 1"] for node in world.nodes.values())
    assert len(world.nodes[NAMES[3]].applied) == 3  # no batch came twice


def test_growth_is_pushed_in_half_a_round_trip() -> None:
    world = World(2)
    world.link(0, 1)
    world.settle(1.0)
    world.sent.clear()
    world.nodes[NAMES[0]].publish(1)
    assert world.step()
    assert world.reach()[1] == {(NAMES[0], 1): 1}
    world.settle(1.0)
    assert len(world.sent) == 1  # no announcement, no question, no echo


def test_in_a_full_mesh_each_record_comes_once() -> None:
    world = World(4)
    for one in range(4):
        for two in range(one):
            world.link(one, two)
    world.settle(1.0)
    world.sent.clear()
    for _ in range(20):
        world.nodes[NAMES[0]].publish(1)
        world.settle(1.0)
    assert world.reach() == [{(NAMES[0], 1): 20}] * 4
    assert world.count(m.Records) == 3 * 20


def test_an_idle_link_says_next_to_nothing() -> None:
    world = World(2)
    world.link(0, 1)
    world.nodes[NAMES[0]].publish(1)
    world.settle(1.0)
    world.sent.clear()
    world.settle(REPEAT * 10)
    assert len(world.sent) <= 2 * 14


def test_roots_come_before_records() -> None:
    world = World(2)
    world.nodes[NAMES[0]].sign_root()
    world.nodes[NAMES[0]].publish(3)
    world.link(0, 1)
    world.settle(1.0)
    kinds = [type(said) for source, _, said in world.sent if source == NAMES[1]]
    assert kinds.index(m.RootGet) < kinds.index(m.Range)


def test_a_peer_that_serves_bad_records_is_left_for_another() -> None:
    world = World(3)
    world.nodes[NAMES[0]].publish(10)
    world.link(0, 1)
    world.settle(1.0)
    world.cut(0, 1)
    world.nodes[NAMES[1]].lies = True
    world.link(1, 2)
    world.settle(1.0)
    assert world.reach()[2] == {}
    world.link(0, 2)
    world.settle(1.0)
    assert world.reach()[2] == {(NAMES[0], 1): 10}


def test_a_peer_that_never_answers_is_left_for_another() -> None:
    world = World(3)
    for index in (0, 1):
        world.nodes[NAMES[index]].extend((NAMES[3], 1), 10)
    world.link(1, 2)
    world.step()
    world.step()
    world.wires[NAMES[1], NAMES[2]] = deque(maxlen=0)  # heard, never answered
    world.link(0, 2)
    world.settle(20.0)
    assert world.reach()[2] == {(NAMES[3], 1): 10}


def test_what_a_peer_makes_us_hold_is_bounded() -> None:
    core = LedgerSync(NAMES[0], {}, (1, b""), random.Random(1))
    core.linked(NAMES[1], 0.0)
    piece = m.Records(NAMES[1], 1, 0, last=False, piece=b"x" * 60_000)
    with pytest.raises(RemoteProtocolError):
        repeat(core, piece)
    with pytest.raises(RemoteProtocolError):
        repeat(core, m.Root(2, last=False, piece=b"x" * 60_000))


def test_many_chains_are_asked_of_one_peer_a_few_at_a_time() -> None:
    """It answers so many at once, and drops the rest; all must come without a time-out."""
    world = World(2)
    one = world.nodes[NAMES[1]]
    for incarnation in range(1, 101):
        one.extend((NAMES[2], incarnation), 5)
    world.link(0, 1)
    world.settle(patience=5.0)
    assert world.nodes[NAMES[0]].reach == one.reach
    asked = [message for _, _, message in world.sent if isinstance(message, m.Range)]
    assert len(asked) == 100


def test_a_peer_that_claims_a_hundred_thousand_chains_costs_little() -> None:
    core = LedgerSync(NAMES[0], {}, (1, b""), random.Random(1))
    for peer in NAMES[1:3]:
        core.linked(peer, 0.0)
    asks = []
    for start in range(0, 90_000, 400):
        heads = tuple(
            m.Head(number.to_bytes(32, "big"), 1, 7, bytes(32))
            for number in range(start, start + 400)
        )
        asks += core.received(NAMES[1], m.Heads(heads, 1, b""), 0.0)
    assert len([ask for ask in asks if isinstance(ask, Send)]) == ASKS_MAX
    honest = m.Heads((m.Head(NAMES[3], 1, 7, bytes(32)),), 1, b"")
    (ask,) = core.received(NAMES[2], honest, 0.0)
    assert isinstance(ask, Send)
    assert ask.peer == NAMES[2]


def test_what_cannot_be_sent_now_is_announced() -> None:
    core = LedgerSync(NAMES[0], {(NAMES[0], 1): (9, bytes(32))}, (1, b""), random.Random(1))
    core.linked(NAMES[1], 0.0)
    (effect,) = core.overloaded(NAMES[1], (NAMES[0], 1))
    assert isinstance(effect, Send)
    assert isinstance(effect.message, m.Heads)
    assert effect.message.heads == (m.Head(NAMES[0], 1, 9, bytes(32)),)
    assert core.overloaded(NAMES[1], (NAMES[2], 1)) == []


def repeat(core: LedgerSync, message: m.Message) -> None:
    for _ in range(100):
        core.received(NAMES[1], message, 0.0)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 3), st.integers(1, 300)),
        st.tuples(st.just("link"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("cut"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("step"), st.integers(1, 20), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 40), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(operations, st.integers(0, 1000))
def test_whatever_happens_everybody_learns_everything(operations: list[Any], seed: int) -> None:
    world = World(4, seed)
    for name, one, two in operations:
        match name:
            case "publish":
                world.nodes[NAMES[one]].publish(two)
            case "link" if one != two:
                world.link(one, two)
            case "cut" if one != two:
                world.cut(one, two)
            case "step":
                for _ in range(one):
                    world.step()
            case "wait":
                world.settle(one / 10)
    for hop in range(3):
        world.link(hop, hop + 1)
    world.settle(80.0)
    expected = {
        (name, 1): n.reach[name, 1] for name, n in world.nodes.items() if (name, 1) in n.reach
    }
    assert world.reach() == [expected] * 4


def test_a_chain_whose_end_was_dropped_is_asked_for_again() -> None:
    """A key was given up: what it vouched for last goes, and the author's own comes instead."""
    core = LedgerSync(NAMES[0], {(NAMES[1], 1): (5, bytes(32))}, (1, b"g"), random.Random(1))
    core.linked(NAMES[2], 0.0)
    said = m.Heads((m.Head(NAMES[1], 1, 7, bytes(32)),), 1, b"g")
    core.received(NAMES[2], said, 0.0)
    core.applied(NAMES[2], (NAMES[1], 1), 5, refused=True, now=0.0)
    asked = core.grown({(NAMES[1], 1): (3, bytes(32))}, 0.0)
    assert Send(NAMES[2], m.Range(NAMES[1], 1, 3, 7)) in asked


def wanting(count: int = 3) -> LedgerSync:
    """A core that has asked a peer for so many records."""
    core = LedgerSync(NAMES[0], {}, (1, b""), random.Random(1))
    core.linked(NAMES[1], 0.0)
    said = m.Heads((m.Head(NAMES[1], 1, count, bytes(32)),), 1, b"")
    assert core.received(NAMES[1], said, 0.0) == [Send(NAMES[1], m.Range(NAMES[1], 1, 0, count))]
    return core


def test_what_our_own_store_could_not_take_is_asked_again_in_time() -> None:
    core = wanting()
    core.applied(NAMES[1], (NAMES[1], 1), 0, refused=True, now=1.0, pause=OUTAGE_PAUSE)
    moment = core.deadline()
    assert moment == 1.0 + OUTAGE_PAUSE  # somebody must look then, or nobody ever does
    assert core.tick(moment - 0.1) == []
    assert core.tick(moment) == [Send(NAMES[1], m.Range(NAMES[1], 1, 0, 3))]


def test_what_was_taken_is_not_asked_for_twice() -> None:
    core = wanting()
    key = (NAMES[1], 1)
    core.grown({key: (3, bytes(32))}, 1.0)
    assert core.applied(NAMES[1], key, 3, refused=False, now=1.0) == []


def test_records_without_a_head_are_asked_for_again_but_not_at_once() -> None:
    """A root document vouched for them: they are stored, and nobody can have them from us yet."""
    core = wanting()
    key = (NAMES[1], 1)
    core.grown({key: (0, b"")}, 1.0)
    assert core.applied(NAMES[1], key, 3, refused=False, now=1.0) == [], "or it asks without end"
    asked = core.tick(1.0 + OUTAGE_PAUSE)
    assert asked == [Send(NAMES[1], m.Range(*key, 0, 3))]


@pytest.mark.parametrize(
    ("last", "reach", "most"),
    [(False, 0, GROWTH_TIMEOUT), (True, 0, 5.0), (True, 1, 10.0)],
    ids=["pieces", "old batches", "a batch without a head"],
)
def test_who_answers_for_ever_and_brings_nothing_keeps_no_chain_from_others(
    *, last: bool, reach: int, most: float
) -> None:
    core, key = LedgerSync(NAMES[0], {}, (1, b""), random.Random(1)), (NAMES[3], 1)
    for peer, seq in ((NAMES[1], 1000), (NAMES[2], 3)):
        core.linked(peer, 0.0)
        core.received(peer, m.Heads((m.Head(*key, seq, bytes(32)),), 1, b""), 0.0)
    now, effects = 0.0, list[Effect]()
    while Send(NAMES[2], m.Range(*key, 0, 3)) not in effects:
        now += 5.0
        assert now <= most
        effects = core.tick(now)
        for said in core.received(NAMES[1], m.Records(*key, 0, last, b"piece"), now):
            assert isinstance(said, ApplyRecords)
            effects += core.applied(NAMES[1], key, reach, refused=False, now=now)


def test_a_long_answer_that_grows_is_waited_for() -> None:
    core = wanting(1000)
    key, now = (NAMES[1], 1), 0.0
    for reach in range(1, 40):
        now += 10.0
        assert core.tick(now) == []
        core.received(NAMES[1], m.Records(*key, reach - 1, True, b"batch"), now)
        core.grown({key: (reach, bytes(32))}, now)
        assert core.applied(NAMES[1], key, reach, refused=False, now=now) == []


def test_root_documents_that_never_come_are_asked_for_again() -> None:
    core = LedgerSync(NAMES[0], {}, (1, b"one"), random.Random(1))
    core.linked(NAMES[1], 0.0)
    asking = [Send(NAMES[1], m.RootGet(1))]
    assert core.received(NAMES[1], m.Heads((), 2, b"two"), 0.0) == asking
    assert core.deadline() == ROOT_TIMEOUT
    assert core.tick(ROOT_TIMEOUT) == asking
    core.received(NAMES[1], m.Root(0, last=True, piece=b""), ROOT_TIMEOUT)
    assert core.tick(3 * ROOT_TIMEOUT) == []  # an answer that is of no use is not asked for twice


def test_a_root_document_that_could_not_be_stored_is_asked_for_again() -> None:
    core = LedgerSync(NAMES[0], {}, (1, b"one"), random.Random(1))
    core.linked(NAMES[1], 0.0)
    core.received(NAMES[1], m.Heads((), 2, b"two"), 0.0)
    core.received(NAMES[1], m.Root(2, last=True, piece=b"two"), 1.0)
    core.unadopted(NAMES[1], 1.0)
    core.received(NAMES[1], m.Root(0, last=True, piece=b""), 1.1)
    assert core.deadline() == 1.0 + OUTAGE_PAUSE
    assert core.tick(1.0 + OUTAGE_PAUSE) == [Send(NAMES[1], m.RootGet(1))]


def test_who_is_behind_is_asked_for_its_statements_too() -> None:
    """It may have rotated its key on its own side of a cut, under an older root document."""
    core = LedgerSync(NAMES[0], {}, (5, b"five"), random.Random(1))
    core.linked(NAMES[1], 0.0)
    asked = core.received(NAMES[1], m.Heads((), 3, b"three"), 0.0)
    assert asked == [Send(NAMES[1], m.RootGet(3))]
    assert core.received(NAMES[1], m.Heads((), 3, b"three"), 0.1) == []


def test_other_documents_make_what_was_refused_worth_asking_for_again() -> None:
    core = wanting()
    key = (NAMES[1], 1)
    core.applied(NAMES[1], key, 0, refused=True, now=1.0)
    assert core.tick(2.0) == []
    asked = core.rooted((2, b"new"), 3.0)
    assert Send(NAMES[1], m.Range(*key, 0, 3)) in asked


def test_what_is_refused_again_and_again_is_asked_for_ever_less_often() -> None:
    core = wanting()
    key, now, pauses = (NAMES[1], 1), 0.0, []
    for _ in range(12):
        core.applied(NAMES[1], key, 0, refused=True, now=now)
        core._peers[NAMES[1]].repeat_at = 1e9
        moment = core.deadline()
        assert moment is not None
        pauses.append(moment - now)
        now = moment
        assert core.tick(now) == [Send(NAMES[1], m.Range(*key, 0, 3))]
    assert pauses[:4] == [60.0] * 4
    assert pauses == sorted(pauses)
    assert pauses[-1] == 3600.0


def test_a_chain_whose_end_was_replaced_is_told_as_it_is_now() -> None:
    """What a thief wrote was cut off, and its author's own came in its place, at the same seq."""
    core = LedgerSync(NAMES[0], {(NAMES[1], 1): (5, b"t" * 32)}, (1, b"g"), random.Random(1))
    core.linked(NAMES[2], 0.0)
    core.grown({(NAMES[1], 1): (5, b"o" * 32)}, 0.0)
    assert core.heads[NAMES[1], 1] == (5, b"o" * 32)
    told = core.grown({(NAMES[1], 1): (0, b"")}, 1.0)  # nothing of it is left
    for effect in (*told, *core.linked(NAMES[3], 1.0)):
        assert isinstance(effect, Send)
        decoder = Decoder(1 << 20)
        decoder.feed(encode(effect.message))
        heads = decoder.next()
        assert isinstance(heads, m.Heads)
        assert heads.heads == (m.Head(NAMES[1], 1, 0, bytes(32)),), "or every link would break"
    core.unlinked(NAMES[3], 1.0)
    said = m.Heads((m.Head(NAMES[1], 1, 1, b"o" * 32),), 1, b"g")
    assert Send(NAMES[2], m.Range(NAMES[1], 1, 0, 1)) in core.received(NAMES[2], said, 1.0)


def test_who_has_less_than_it_said_is_told_what_we_have() -> None:
    """It had what a thief wrote, at the seq where we have the author's own."""
    key = (NAMES[1], 1)
    core = LedgerSync(NAMES[0], {key: (2, b"o" * 32)}, (1, b"g"), random.Random(1))
    core.linked(NAMES[2], 0.0)
    core.received(NAMES[2], m.Heads((m.Head(*key, 2, b"t" * 32),), 1, b"g"), 0.0)
    said = core.received(NAMES[2], m.Heads((m.Head(*key, 1, b"a" * 32),), 1, b"g"), 1.0)
    assert Send(NAMES[2], m.Heads((m.Head(*key, 2, b"o" * 32),), 1, b"g")) in said
    told = core.grown({key: (1, b"a" * 32)}, 2.0)
    assert Send(NAMES[2], m.Heads((m.Head(*key, 1, b"a" * 32),), 1, b"g")) in told


def pushed() -> tuple[LedgerSync, Key]:
    """A core to which an author has pushed two records, one after the other, neither judged yet."""
    core, key = LedgerSync(NAMES[0], {}, (1, b""), random.Random(1)), (NAMES[1], 1)
    core.linked(NAMES[1], 0.0)
    for after in (0, 1):
        said = core.received(NAMES[1], m.Records(*key, after, True, b"one"), 0.0)
        assert said == [ApplyRecords(NAMES[1], *key, b"one")]
    return core, key


def test_pushes_that_are_still_being_judged_are_not_asked_for_again() -> None:
    core, key = pushed()
    for seq in (1, 2):
        assert core.grown({key: (seq, bytes(32))}, 0.0) == []
        assert core.applied(NAMES[1], key, seq, refused=False, now=0.0) == []
    ahead = core.received(NAMES[1], m.Records(*key, 3, True, b"four"), 0.0)
    assert ahead == [Send(NAMES[1], m.Range(*key, 2, 4))], "nothing is judged that it builds on"


def test_a_push_behind_one_that_was_refused_is_asked_for_with_it_later() -> None:
    core, key = pushed()
    assert core.applied(NAMES[1], key, 0, refused=True, now=0.0, pause=OUTAGE_PAUSE) == []
    assert core.applied(NAMES[1], key, 0, refused=False, now=0.0, resend_from=1) == []
    assert core.tick(OUTAGE_PAUSE) == [Send(NAMES[1], m.Range(*key, 0, 2))]


def test_a_push_behind_one_that_left_a_gap_is_asked_for_with_it_at_once() -> None:
    core, key = pushed()
    asked = core.applied(NAMES[1], key, 0, refused=False, now=0.0, resend_from=1)
    assert asked == [Send(NAMES[1], m.Range(*key, 0, 2))]


def test_a_push_that_is_never_judged_is_asked_for_at_the_next_full_statement() -> None:
    core, key = pushed()
    assert core.tick(1.0) == []
    assert Send(NAMES[1], m.Range(*key, 0, 2)) in core.tick(REPEAT)
