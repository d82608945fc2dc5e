"""Copies at work between pretended ends: holdings, promises, safety, and hostile members."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from mesh.advert import ID
from mesh.copies import (
    Holdings,
    HoldingsDelta,
    HoldingsGet,
    HoldingsPage,
    Release,
    Released,
    Secure,
    Secured,
)
from mesh.messages import Message
from mesh.shell.copies import PIECES_MAX, RELEASE_TIMEOUT, REPORT, SECURES_MAX, Copies
from store.errors import UnavailableError
from store.holders import SHARDS, check

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


def blob(index: int) -> bytes:
    return hashlib.sha256(b"%d" % index).digest()


class Keeper:
    """A node's holdings, and what it has heard of others, in memory."""

    def __init__(self) -> None:
        self.held: set[bytes] = set()
        self.known: dict[str, set[bytes]] = {}
        self.reach: dict[str, tuple[int, int]] = {}
        self.reports: dict[str, bytes] = {}
        self.own_report = b"{}"
        self.failing = False
        self.replaced = 0  # shards
        self.secured: Callable[[], bool] = lambda: True
        self.gate: trio.Event | None = None

    def report(self) -> bytes:
        return self.own_report

    async def suffixes(self, shard: int) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return [each[1:ID] for each in self.held if each[0] == shard]

    async def heard(self) -> Mapping[str, tuple[int, int]]:
        return self.reach

    async def checks(self, node: str) -> bytes:
        shards: dict[int, list[bytes]] = {}
        for each in self.known.get(node, ()):
            shards.setdefault(each[0], []).append(each[1:])
        return b"".join(check(shards.get(shard, ())) for shard in range(SHARDS))

    async def hear(self, node: str, epoch: int, seq: int, report: bytes) -> None:
        self._fail()
        self.reach[node], self.reports[node] = (epoch, seq), report

    async def replace(self, node: str, shards: Mapping[int, bytes]) -> None:
        self._fail()
        self.replaced += len(shards)
        known = self.known.setdefault(node, set())
        for shard, ids in shards.items():
            known -= {each for each in known if each[0] == shard}
            known |= {bytes([shard]) + ids[at : at + 4] for at in range(0, len(ids), 4)}

    async def change(self, node: str, added: Sequence[bytes], removed: Sequence[bytes]) -> None:
        self._fail()
        known = self.known.setdefault(node, set())
        known |= set(added)
        known -= set(removed)

    async def holds(self, blob: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        return blob in self.held

    async def secure(self, author: str, incarnation: int, seq: int, blobs: Sequence[bytes]) -> bool:
        if self.gate is not None:
            await self.gate.wait()
        return self.secured()

    def _fail(self) -> None:
        if self.failing:
            raise UnavailableError("the disk is in trouble")


class End:
    """One end; what it sends the other end hears in a task of its own, in order."""

    def __init__(self, node: bytes, seed: int) -> None:
        self.node, self.keeper = node, Keeper()
        self.control: dict[bytes, SimpleNamespace] = {}
        self.copies = Copies(node, self, random.Random(seed))  # type: ignore[arg-type]  # a fake of it
        self.sent: list[Message] = []
        self.deaf: tuple[type[Message], ...] = ()
        self.queues: dict[bytes, trio.MemorySendChannel[Message]] = {}

    def send(self, peer: bytes, message: Message) -> None:
        if peer in self.control:
            self.sent.append(message)
            self.queues[peer].send_nowait(message)

    def hold(self, *indices: int) -> None:
        fresh = {blob(index) for index in indices}
        self.keeper.held |= fresh
        self.copies.moved(dict.fromkeys(fresh, True))

    def drop(self, *indices: int) -> None:
        gone = {blob(index) for index in indices}
        self.keeper.held -= gone
        self.copies.moved(dict.fromkeys(gone, False))

    def known(self, other: End) -> set[bytes]:
        return self.keeper.known.get(other.node.hex(), set())


class World:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery

    async def end(self, node: bytes, seed: int = 1) -> End:
        made = End(node, seed)
        await self.nursery.start(made.copies.run)
        await made.copies.attach(made.keeper)
        return made

    def link(self, one: End, other: End) -> None:
        async def drained(_: int) -> None:
            await trio.lowlevel.checkpoint()

        for here, there in ((one, other), (other, one)):
            put, queue = trio.open_memory_channel[Message](1000)
            here.queues[there.node] = put
            here.control[there.node] = SimpleNamespace(
                send=lambda message, here=here, there=there: here.send(there.node, message),
                drained=drained,
            )
            self.nursery.start_soon(self._hear, here.node, there, queue)
        one.copies.linked(other.node)
        other.copies.linked(one.node)

    async def _hear(
        self, source: bytes, end: End, queue: trio.MemoryReceiveChannel[Message]
    ) -> None:
        async for message in queue:
            if not isinstance(message, end.deaf):
                await end.copies.heard(source, message)

    def cut(self, one: End, other: End) -> None:
        for here, there in ((one, other), (other, one)):
            here.queues[there.node].close()
            del here.control[there.node]
            here.copies.unlinked(there.node)


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    async with trio.open_nursery() as nursery:
        yield World(nursery)
        nursery.cancel_scope.cancel()


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


def ids(*indices: int) -> set[bytes]:
    return {blob(index)[:ID] for index in indices}


Clock = trio.testing.MockClock


# --- holdings ------------------------------------------------------------------------------------
async def test_members_hear_what_each_holds_and_what_comes_and_goes(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        a.hold(1, 2, 3)
        made.link(a, b)
        await settled()
        assert b.known(a) == ids(1, 2, 3)
        a.hold(4)
        a.drop(1)
        b.hold(9)
        await settled()
        assert b.known(a) == ids(2, 3, 4)
        assert a.known(b) == ids(9)


async def test_whoever_was_away_hears_only_what_it_missed(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        a.hold(*range(50))
        made.link(a, b)
        await settled()
        made.cut(a, b)
        a.hold(100)
        a.drop(7)
        a.sent.clear()
        made.link(a, b)
        await settled()
        assert b.known(a) == ids(*range(50), 100) - ids(7)
        assert not any(isinstance(each, HoldingsPage) for each in a.sent)


async def test_after_a_restart_only_shards_that_differ_are_told(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        a.hold(*range(50))
        made.link(a, b)
        await settled()
        made.cut(a, b)
        again = await made.end(A, 77)  # another epoch, and no memory of changes
        again.keeper.held = set(a.keeper.held) | {blob(200)}
        b.keeper.replaced = 0
        made.link(again, b)
        await settled()
        assert b.known(again) == ids(*range(50), 200)
        pages = [each for each in again.sent if isinstance(each, HoldingsPage)]
        assert [each.shard for each in pages] == [blob(200)[0]]
        assert b.keeper.replaced == 1


async def test_reports_are_told_when_they_change(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        made.link(a, b)
        await settled()
        a.keeper.own_report = b'{"missing":1}'
        await trio.sleep(REPORT + 1)
        assert b.keeper.reports[A.hex()] == b'{"missing":1}'
        said = len(a.sent)
        await trio.sleep(3 * REPORT)
        assert len(a.sent) == said


async def test_without_a_keeper_nothing_is_said_or_promised(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        a.copies.keeper = None
        made.link(a, b)
        b.send(A, HoldingsGet(0, 0, b""))
        assert await b.copies.release(blob(1), [A]) is False
        assert await b.copies.secure(A, C, 0, 1, []) is False
        assert not any(isinstance(each, HoldingsPage) for each in a.sent)


async def test_hostile_holdings_are_thrown_away(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        made.link(a, b)
        await settled()
        before = dict(b.keeper.known)
        epoch, seq = a.copies.advert.epoch, a.copies.advert.seq
        for message in (
            HoldingsPage(3, 0, b"1234"),  # nobody has asked
            HoldingsDelta(epoch, seq, seq + 1, b"1234", b""),  # not whole ids
            HoldingsDelta(epoch, seq, seq + 1, b"", b"123456"),
        ):
            a.send(B, message)
        await settled()
        assert b.keeper.known == before
        b.deaf = (Holdings,)  # the answer never completes
        a.send(B, HoldingsDelta(epoch + 1, 5, 6, b"12345", b""))  # of a life it does not know
        await settled()
        assert any(isinstance(each, HoldingsGet) for each in b.sent)
        for message in (HoldingsPage(3, PIECES_MAX, b"1234"), HoldingsPage(3, 0, b"12345")):
            a.send(B, message)
        await settled()
        assert b.known(a) == set()
        a.send(B, HoldingsPage(3, 0, b"12345678"))
        a.send(B, HoldingsPage(3, 1, b"9999"))
        await settled()
        assert b.known(a) == {b"\x031234", b"\x035678", b"\x039999"}


async def test_a_disk_in_trouble_forgets_nothing_for_good(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        made.link(a, b)
        await settled()
        b.keeper.failing = True
        a.hold(1, 2)
        await settled()
        assert b.known(a) == set()
        b.keeper.failing = False
        a.hold(3)
        await settled()
        made.cut(a, b)
        made.link(a, b)
        await settled()
        assert b.known(a) >= ids(3)


# --- custody -------------------------------------------------------------------------------------
async def test_a_holder_promises_and_the_wish_is_over(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        a.hold(1)
        b.hold(1)
        made.link(a, b)
        assert await a.copies.release(blob(1), [B])
        a.copies.custody.done(blob(1), gone=True)
        a.keeper.held.clear()
        assert not await b.copies.release(blob(1), [A])  # it is gone there


async def test_nobody_linked_nobody_who_holds_nobody_who_answers(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        a.hold(1)
        assert not await a.copies.release(blob(1), [B])
        made.link(a, b)
        assert not await a.copies.release(blob(1), [B])
        b.hold(1)
        b.deaf = (Release,)
        start = trio.current_time()
        assert not await a.copies.release(blob(1), [B])
        assert trio.current_time() - start == RELEASE_TIMEOUT
        assert not a.copies.custody.wishes(blob(1))


@pytest.mark.parametrize("seed", range(6))
async def test_of_two_that_would_both_let_go_one_keeps(seed: int, autojump_clock: Clock) -> None:
    rng, verdicts = random.Random(seed), dict[bytes, bool]()
    async with world() as made:
        ends = [await made.end(A), await made.end(B, 2)]
        for end in ends:
            end.hold(1)
        made.link(*ends)

        async def wish(end: End, other: End) -> None:
            await trio.sleep(rng.random() * 1e-3)
            verdicts[end.node] = await end.copies.release(blob(1), [other.node])
            if verdicts[end.node]:
                end.keeper.held.clear()
                end.copies.custody.done(blob(1), gone=True)

        async with trio.open_nursery() as both:
            both.start_soon(wish, ends[0], ends[1])
            both.start_soon(wish, ends[1], ends[0])
    assert sorted(verdicts.values()) in ([False, True], [False, False])
    assert any(end.keeper.held for end in ends)


async def test_a_cut_link_and_a_cancelled_wish_leave_nothing_behind(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        a.hold(1)
        b.hold(1)
        made.link(a, b)
        await settled()
        b.deaf = (Release,)
        verdicts: list[bool] = []

        async def wish() -> None:
            verdicts.append(await a.copies.release(blob(1), [B]))

        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wish)
            await settled()
            made.cut(a, b)
        assert (verdicts, trio.current_time()) == ([False], start)
        made.link(a, b)
        with trio.move_on_after(1.0):
            await a.copies.release(blob(1), [B])
        assert not a.copies.custody.wishes(blob(1))
        a.send(B, Released(12345, keeps=True))  # an answer to nothing
        await settled()
        assert not b.copies.custody.wishes(blob(1))


# --- safety --------------------------------------------------------------------------------------
async def test_a_member_says_whether_it_has_everything_safely(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        made.link(a, b)
        assert await a.copies.secure(B, C, 0, 7, [blob(1)])
        b.keeper.secured = lambda: False
        assert not await a.copies.secure(B, C, 0, 7, [blob(1)])

        def trouble() -> bool:
            raise UnavailableError("no")

        b.keeper.secured = trouble
        assert not await a.copies.secure(B, C, 0, 7, [blob(1)])
        assert not await a.copies.secure(C, C, 0, 7, [])


async def test_one_member_has_only_so_many_secured_at_a_time(autojump_clock: Clock) -> None:
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        made.link(a, b)
        b.keeper.gate = trio.Event()
        verdicts: list[bool] = []

        async def ask() -> None:
            verdicts.append(await a.copies.secure(B, C, 0, 1, []))

        async with trio.open_nursery() as nursery:
            for _ in range(SECURES_MAX + 3):
                nursery.start_soon(ask)
            await settled()
            assert verdicts == [False] * 3
            b.keeper.gate.set()
        assert verdicts.count(True) == SECURES_MAX
        assert await a.copies.secure(B, C, 0, 1, [])  # the places are free again


async def test_a_question_ends_with_its_link_and_only_who_was_asked_answers(
    autojump_clock: Clock,
) -> None:
    async with world() as made:
        a, b, c = await made.end(A), await made.end(B, 2), await made.end(C, 3)
        made.link(a, b)
        made.link(a, c)
        await settled()
        b.keeper.gate = trio.Event()
        verdicts: list[bool] = []

        async def ask() -> None:
            verdicts.append(await a.copies.secure(B, C, 0, 1, []))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settled()
            (asked,) = [each for each in a.sent if isinstance(each, Secure)]
            c.send(A, Secured(asked.request, durable=True))
            await settled()
            assert not verdicts
            made.cut(a, b)
        assert verdicts == [False]


async def test_a_new_wish_outlives_the_end_of_the_one_before_it(autojump_clock: Clock) -> None:
    """The first, given up for another member's, took the second's place away as it ended."""
    async with world() as made:
        a, b = await made.end(A), await made.end(B, 2)
        b.deaf = (Release,)
        made.link(a, b)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.copies.release, blob(1), [B])
            await trio.testing.wait_all_tasks_blocked()
            a.copies.custody.withdraw(blob(1))
            a.copies._lapse(blob(1))
            assert not await a.copies.release(blob(1), [B])
        assert not a.copies._released
        assert not a.copies.custody.wishes(blob(1))
