"""The shell under attack and at its edges: real connections, real files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from mesh import messages as m
from mesh.addresses import AddressBook
from mesh.beliefs import BAN, PeerBelief
from mesh.effects import LookUp
from mesh.handshake import Self, hello
from mesh.invitation import Book
from mesh.shell.memory import FILE, HALFLIFE, Memory, Remembered, recall
from mesh.shell.transfers import QUESTIONS_MAX
from mesh.wire import Decoder, encode
from store.identity import Identity
from tests.mesh.nodes import Fleet, Node, until
from tests.mesh.test_invitation import issue


async def stranger(fleet: Fleet, node: Node) -> tuple[trio.abc.Stream, m.Challenge]:
    """Dial a node, and hear its challenge."""
    from mesh.carriers.memory import MemoryCarrier

    carrier = MemoryCarrier(fleet.world, "stranger", b"?" * 32)
    stream = (await carrier.dial(f"memory://{node.name}")).stream
    decoder = Decoder()
    while True:
        decoder.feed(await stream.receive_some(4096))
        for said in decoder:
            assert isinstance(said, m.Challenge)
            return stream, said  # type: ignore[return-value]  # a fake of it


async def answer(stream: trio.abc.Stream, data: bytes) -> list[m.Message]:
    """Say something; return all that is said before the node hangs up."""
    decoder = Decoder()
    with trio.fail_after(5):
        await stream.send_all(data)
        while True:
            try:
                received = await stream.receive_some(4096)
            except trio.BrokenResourceError:
                break
            if not received:
                break
            decoder.feed(received)
    return list(decoder)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\1\xff" * 100 + b"\0\0\0\0",
        b"\xff" * 5000,
        encode(m.OpenBulk()),
        encode(m.Find(b"b" * 32, 1, b"", 4, ())),
        encode(m.Welcome(b"n" * 32, 1, "", (), 0, 0)),
    ],
)
async def test_strangers_get_nothing_and_harm_nobody(tmp_path: Path, said: bytes) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a = await fleet.node("a")
        stream, _ = await stranger(fleet, a)
        assert await answer(stream, said) == []
        b = await fleet.node("b")
        await fleet.join(b, a)  # the node is well


async def test_a_member_of_another_mesh_is_told_why_not(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        c = Identity.generate()
        for mesh, why in ((a.ledger.mesh, "not a member"), ("00" * 32, "another mesh")):
            stream, challenge = await stranger(fleet, a)
            me = Self(c, bytes.fromhex(mesh), 1)
            said = encode(hello(me, challenge, a.identity.key, m.CONTROL, 0.0))
            (refusal,) = await answer(stream, said)
            assert isinstance(refusal, m.Refused)
            assert why in refusal.reason


async def test_the_newer_link_of_one_peer_replaces_a_dead_one(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)

        async def up() -> bool:
            return all(p.state == "up" for node in (a, b) for p in node.mesh.peers())

        await until(up)
        for _ in range(3):
            await fleet.world.cut("a", "b")
            await trio.sleep(0.05)
            await until(up)


async def test_memory_outlives_the_process_and_is_private(tmp_path: Path) -> None:
    book, addresses = Book(), AddressBook()
    issued = issue(book, expires=2e9)
    addresses.hint(b"n" * 32, "tls://h:1")
    await Memory(tmp_path, book, addresses).save()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    other, found = Book(), AddressBook()
    await Memory(tmp_path, other, found).load()
    assert other.secret_of(issued.id, 1e9) == issued.secret
    assert found.of(b"n" * 32) == ("tls://h:1",)
    (tmp_path / FILE).write_bytes(b"damaged")
    empty = Book()
    await Memory(tmp_path, empty, AddressBook()).load()
    assert empty.granted == {}


async def test_several_may_wait_until_a_link_has_drained(tmp_path: Path) -> None:
    """Two answers to one peer, both larger than what may be queued: neither is left waiting."""
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        await until(lambda: _linked(a, b))
        connection = a.mesh._links.control[b.id]
        over = []

        async def fill_and_wait() -> None:
            for _ in range(60):
                connection.send(m.Fork(bytes(50_000)))
            await connection.drained(1000)
            over.append(1)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(fill_and_wait)
        assert over == [1, 1]


async def _linked(one: Node, two: Node) -> bool:
    return two.id in one.mesh._links.control and one.id in two.mesh._links.control


async def test_questions_of_one_peer_are_answered_a_few_at_a_time(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        await until(lambda: _linked(a, b))
        most, transfers = 0, a.mesh._transfers
        look_up = transfers._tasks[LookUp]

        async def watched(asked: LookUp) -> None:
            nonlocal most
            most = max(most, transfers._questions[asked.peer])
            await look_up(asked)

        transfers._tasks[LookUp] = watched
        link = b.mesh._links.control[a.id]
        blobs = [number.to_bytes(32, "big") for number in range(500)]
        for blob in blobs:
            link.send(m.Find(blob, 1, b"", 0, (b.id,)))

        async def all_heard() -> bool:
            return len(a.mesh._exchange.finding.interests) == len(blobs)

        await until(all_heard)

        async def idle() -> bool:
            return transfers._questions[b.id] == 0

        await until(idle)
        assert 0 < most <= QUESTIONS_MAX


async def test_strikes_bans_and_paths_outlive_the_process(tmp_path: Path) -> None:
    now, beliefs = trio.current_time(), {}
    bad = beliefs[b"b" * 32] = PeerBelief(b"b" * 32)
    bad.strike("sent wrong bytes", now)
    bad.strike("sent wrong bytes", now)
    bad.rtt.add(0.4, now)
    bad.rate.add(50_000, 1.0, now)
    await Memory(tmp_path, Book(), AddressBook(), beliefs).save()
    found: dict[bytes, PeerBelief] = {}
    await Memory(tmp_path, Book(), AddressBook(), found).load()
    again = found[b"b" * 32]
    assert again.strikes == 2
    assert not again.usable(now + BAN - 60)
    assert "sent wrong bytes" in again.notes
    assert again.rtt.smoothed == pytest.approx(0.4, rel=0.01)
    assert again.rate.average == pytest.approx(50_000, rel=0.01)
    assert not again.rate.measured  # the first sample will replace it


async def test_what_was_known_of_a_path_fades() -> None:
    belief = PeerBelief(b"b" * 32)
    before = belief.rate.average
    recall(belief, Remembered(rate=before / 2, rtt=5.0, at=time.time() - HALFLIFE))
    assert belief.rate.average == pytest.approx(before * 0.75, rel=0.01)
    assert 2.0 < belief.rtt.smoothed < 3.0
