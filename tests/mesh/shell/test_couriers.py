"""Couriers on links: who is told, how often, and what hostile members get for an answer."""

from __future__ import annotations

import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from mesh.cargo import BLOBS_MAX, CARRY_MAX, Brought, Carry, Carrying, Lack, Lacks
from mesh.couriers import TOLD_MAX, statement
from mesh.leases import CARRIERS
from mesh.messages import FEATURE_COURIER, Message
from mesh.shell.couriers import ANSWER_TIMEOUT, FILE, Couriers
from store.root import COURIER

ME, K, A, C, STRANGER = (bytes([letter]) * 32 for letter in b"MKACS")


def blob(index: int) -> bytes:
    return index.to_bytes(32, "big")


class End:
    """One end: its control links hand messages to the other end at once."""

    def __init__(
        self,
        node: bytes,
        *,
        on: bool | None = None,
        roles: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> None:
        self.node = node
        self.control: dict[bytes, SimpleNamespace] = {}
        self.sent: list[tuple[bytes, Message]] = []
        known = {ME, K, A, C}
        authority = SimpleNamespace(
            roles=lambda who: frozenset(roles if who == node.hex() else ()),
            is_member=lambda who: bytes.fromhex(who) in known,
        )
        ledger = SimpleNamespace(node=node.hex(), authority=authority)
        self.couriers = Couriers(ledger, folder, on=on)  # type: ignore[arg-type]  # a fake of it
        self.couriers.links = self  # type: ignore[assignment]  # a fake in its place
        self.ends: dict[bytes, End] = {}

    def send(self, peer: bytes, message: Message) -> None:
        if peer in self.control:
            self.sent.append((peer, message))
            if peer in self.ends:
                self.ends[peer].couriers.heard(self.node, message)

    def link(self, other: End, at: float = 0.0) -> None:
        for one, two in ((self, other), (other, self)):
            features = two.couriers.features
            one.ends[two.node] = two
            one.control[two.node] = SimpleNamespace(
                established_at=at,
                link=SimpleNamespace(peer=SimpleNamespace(features=features)),
                send=lambda message, one=one, two=two: one.send(two.node, message),
            )


def lack(index: int, size: int = 1000) -> Lack:
    return Lack(blob(index), b"", size, 1000, 0, 3)


def test_a_courier_is_known_by_its_word_or_its_role() -> None:
    c, k = End(C), End(K, on=True)
    c.link(k)
    assert k.couriers.features == FEATURE_COURIER
    assert c.couriers.linked() == [K]
    assert k.couriers.linked() == []
    assert End(K, roles=(COURIER,)).couriers.carrying
    assert not End(K, roles=(COURIER,), on=False).couriers.carrying
    assert not End(K).couriers.carrying


async def test_a_statement_is_told_once_and_long_ones_rarely(
    autojump_clock: trio.testing.MockClock,
) -> None:
    c, k = End(C), End(K, on=True)
    c.link(k)
    many = [lack(index) for index in range(1000)]
    c.couriers.state(K, many)
    assert len(k.couriers.cargo.wishes[C]) == 1000
    said = len(c.sent)
    c.couriers.state(K, many)  # the same: not again
    c.couriers.state(K, many[:-1])  # another, at once: not yet
    assert len(c.sent) == said
    assert c.couriers.told() == {K: 1000}
    await trio.sleep(60.0)
    c.couriers.state(K, many[:-1])
    assert len(k.couriers.cargo.wishes[C]) == 999
    c.link(k, at=100.0)  # a new link hears it again
    c.couriers.state(K, many[:-1])
    assert len(c.sent) > said + 4
    c.couriers.state(STRANGER, many)  # nobody there: nothing happens


def test_who_does_not_carry_remembers_nothing() -> None:
    c, k = End(C), End(K)
    c.link(k)
    for piece in statement(1, 1, [lack(1)]):
        c.send(K, piece)
    assert not k.couriers.cargo.wishes


async def test_wishes_are_answered_with_what_is_here_once_a_link(
    autojump_clock: trio.testing.MockClock,
) -> None:
    c, k = End(C), End(K, on=True)
    c.link(k)
    news = c.couriers.news
    k.couriers.bring(C, [blob(index) for index in range(BLOBS_MAX + 1)])
    assert news.is_set()
    assert len(c.couriers.brought[K]) == BLOBS_MAX + 1
    assert len(k.sent) == 2
    k.couriers.bring(C, [blob(0)])
    assert len(k.sent) == 2
    k.couriers.bring(STRANGER, [blob(0)])
    for _ in range(8):  # whatever is claimed, only so much is remembered
        c.couriers.heard(
            K, Brought(tuple(random.Random(_).randbytes(32) for _ in range(BLOBS_MAX)))
        )
    assert len(c.couriers.brought[K]) <= TOLD_MAX
    del c.control[K]
    c.couriers.tidy(time.time())
    assert not c.couriers.brought


async def test_a_holder_grants_so_many_couriers_and_none_for_whom_it_meets_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    a, k, c = End(A), End(K, on=True), End(C)
    a.link(k)
    assert await k.couriers.ask(A, [(blob(1), C)]) == {blob(1)}
    many = [(blob(index), C) for index in range(CARRY_MAX + 5)]
    assert await k.couriers.ask(A, many) == {each for each, _ in many}
    a.link(c)
    assert await k.couriers.ask(A, [(blob(2), C), (blob(3), ME)]) == {blob(3)}
    del a.control[C]
    others = [End(bytes([number]) * 32, on=True) for number in range(CARRIERS)]
    for other in others:
        other.link(a)
    granted = [await other.couriers.ask(A, [(blob(3), C)]) for other in others]
    assert granted == [{blob(3)}] * (CARRIERS - 1) + [set()]


async def test_who_is_no_courier_is_granted_nothing_and_keeps_no_courier_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    a, k, liars = End(A), End(K, on=True), [End(bytes([n]) * 32) for n in range(CARRIERS)]
    for liar in liars:
        liar.link(a)
        assert await liar.couriers.ask(A, [(blob(1), C)]) == set()
    k.link(a)
    assert await k.couriers.ask(A, [(blob(1), C)]) == {blob(1)}


async def test_a_holder_that_says_nothing_grants_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    k, a = End(K, on=True), End(A)
    k.link(a)
    del k.ends[A]
    start = trio.current_time()
    assert await k.couriers.ask(A, [(blob(1), C)]) == set()
    assert trio.current_time() - start == ANSWER_TIMEOUT


async def test_answers_of_others_and_more_than_was_asked_count_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    k, a = End(K, on=True), End(A)
    k.link(a)
    del k.ends[A]
    found: list[set[bytes]] = []

    async def ask() -> None:
        found.append(await k.couriers.ask(A, [(blob(1), C)]))

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    ((_, asked),) = k.sent
    assert isinstance(asked, Carry)
    k.couriers.heard(C, Carrying(asked.request, (blob(1),)))
    k.couriers.heard(A, Carrying(asked.request + 1, (blob(1),)))
    k.couriers.heard(A, Carrying(asked.request, (blob(1), blob(2))))
    await trio.testing.wait_all_tasks_blocked()
    assert found == [{blob(1)}]


async def test_wishes_cargo_and_waits_outlive_the_process(tmp_path: Path) -> None:
    k = End(K, on=True, folder=tmp_path)
    k.couriers.cargo.budget = 10_000
    now = time.time()
    k.couriers.cargo.stated(C, 1, [lack(1), lack(2)], now, lambda _: True)
    k.couriers.cargo.loaded(blob(1), 1000)
    k.couriers.waits.note(blob(3), 5, now)
    await k.couriers.save(k.couriers.snapshot())
    again = End(K, on=True, folder=tmp_path)
    await again.couriers.load()
    assert again.couriers.cargo.wishes == k.couriers.cargo.wishes
    assert again.couriers.cargo.carried == {blob(1): 1000}
    assert list(again.couriers.waits.blobs) == [blob(3)]
    (tmp_path / FILE).write_bytes(b"\xff damaged")
    fresh = End(K, on=True, folder=tmp_path)
    await fresh.couriers.load()
    assert not fresh.couriers.cargo.wishes


@pytest.mark.parametrize("seed", range(5))
def test_any_pieces_in_any_order_stay_within_bounds(seed: int) -> None:
    rng, k, c = random.Random(seed), End(K, on=True), End(C)
    c.link(k)
    for _ in range(200):
        lacks = tuple(lack(rng.randrange(1 << 40)) for _ in range(rng.randrange(257)))
        last = rng.random() < 0.2
        c.send(K, Lacks(rng.randrange(3), rng.randrange(4), last, rng.randrange(9), lacks))
    assert k.couriers.cargo.count <= TOLD_MAX
