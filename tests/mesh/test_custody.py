"""Custody: whatever crosses, is late or is lost, somebody holds the blob."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.copies import Release, Released
from mesh.custody import Custody

BLOB = b"b" * 32


def node(index: int) -> bytes:
    return bytes([index]) * 32


class World:
    """Some holders of one blob, and messages that arrive in any order, or never."""

    def __init__(self, count: int) -> None:
        self.nodes = {node(i): Custody(node(i)) for i in range(count)}
        self.held = dict.fromkeys(self.nodes, True)
        self.flying: list[tuple[bytes, bytes, Release | Released]] = []
        self.dropping: list[bytes] = []
        self.starts = 0

    def wish(self, who: bytes, rng: random.Random) -> None:
        if self.held[who]:
            others = [each for each in self.nodes if each != who]  # beliefs may be out of date
            chosen = rng.sample(others, rng.randint(1, len(others)))
            sent = self.nodes[who].ask(BLOB, chosen)
            self.flying += [(who, peer, message) for peer, message in sent]

    def deliver(self, at: int) -> None:
        source, target, message = self.flying.pop(at)
        if isinstance(message, Release):
            answer = self.nodes[target].asked(source, message, holds=self.held[target])
            self.flying.append((target, source, answer))
        elif self.nodes[target].answered(source, message) is not None:
            self.dropping.append(target)

    def drop(self, at: int, *, needed: bool) -> None:
        who = self.dropping.pop(at)
        self.held[who] = needed
        self.nodes[who].done(BLOB, gone=not needed)

    def restart(self, who: bytes) -> None:
        """Forget everything, promises included; what was flying arrives all the same."""
        if who not in self.dropping:
            self.starts += 1
            self.nodes[who] = Custody(who, self.starts << 32)


@settings(max_examples=400)
@given(st.integers(2, 5), st.integers(0, 1 << 32), st.booleans())
def test_the_last_copy_is_never_dropped(count: int, seed: int, crashes: bool) -> None:
    rng, world = random.Random(seed), World(count)
    for _ in range(120):
        choice = rng.random()
        if choice < 0.25:
            world.wish(node(rng.randrange(count)), rng)
        elif choice < 0.75 and world.flying:
            world.deliver(rng.randrange(len(world.flying)))
        elif choice < 0.85 and world.dropping:
            world.drop(rng.randrange(len(world.dropping)), needed=rng.random() < 0.2)
        elif choice < 0.9 and world.flying:
            world.flying.pop(rng.randrange(len(world.flying)))  # lost
        elif choice < 0.93:
            who, peer = rng.sample(sorted(world.nodes), 2)
            world.nodes[who].lost(peer)
        elif choice < 0.95:
            world.nodes[node(rng.randrange(count))].withdraw(BLOB)
        elif choice < 0.97 and crashes:
            world.restart(node(rng.randrange(count)))
        safe = [each for each, held in world.held.items() if held and each not in world.dropping]
        assert safe, "nobody would be left"


@given(st.integers(2, 6), st.integers(0, 1 << 32))
def test_with_patience_all_but_one_may_drop(count: int, seed: int) -> None:
    rng, world = random.Random(seed), World(count)
    for _ in range(60 * count):
        for who in world.nodes:
            if not world.nodes[who].wishes(BLOB) and rng.random() < 0.2:
                world.wish(who, rng)
        while world.flying:
            world.deliver(rng.randrange(len(world.flying)))
        while world.dropping:
            world.drop(0, needed=False)
    assert sum(world.held.values()) == 1


def test_a_yes_counts_only_for_the_wish_it_answers() -> None:
    a, b = Custody(node(1)), Custody(node(2))
    ((_, first),) = a.ask(BLOB, [b.node])
    late = b.asked(a.node, first, holds=True)
    a.withdraw(BLOB)
    a.ask(BLOB, [b.node])
    assert a.answered(b.node, late) is None
    assert a.answered(node(9), Released(2, keeps=True)) is None  # nobody asked it


def test_what_has_just_gone_is_not_promised() -> None:
    """The look at the disk may be older than the drop."""
    a, b = Custody(node(1)), Custody(node(2))
    ((_, wish),) = a.ask(BLOB, [b.node])
    assert a.answered(b.node, b.asked(a.node, wish, holds=True)) == BLOB
    assert not a.asked(node(9), Release(1, BLOB), holds=True).keeps
    a.done(BLOB, gone=True)
    assert not a.asked(node(9), Release(1, BLOB), holds=True).keeps
    a.came(BLOB)
    assert a.asked(node(9), Release(1, BLOB), holds=True).keeps


def test_a_wish_ends_when_nobody_keeps_it() -> None:
    a = Custody(node(1))
    asked = a.ask(BLOB, [node(2), node(3)])
    assert [peer for peer, _ in asked] == [node(2), node(3)]
    assert a.ask(BLOB, [node(2)]) == []
    assert a.ask(b"c" * 32, []) == []
    a.answered(node(2), Released(1, keeps=False))
    assert a.wishes(BLOB)
    a.lost(node(3))
    assert not a.wishes(BLOB)
