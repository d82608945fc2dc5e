"""Members that cannot dial each other meet through a third; abuse stays within bounds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
import trio.testing

from mesh import messages as m
from mesh.relay import Quota
from mesh.shell.watching import EVERY
from mesh.status import PeerStatus
from store.blobs import BlobRange
from store.chunks import Manifest
from tests.mesh.nodes import Fleet, Node, until

carriers = pytest.mark.parametrize("tls", [False, True], ids=["memory", "tls"])


def status(node: Node, other: Node) -> PeerStatus:
    (found,) = [p for p in node.mesh.peers() if p.node == other.identity.node]
    return found


async def path(one: Node, two: Node, wanted: str, seconds: float = 15.0) -> None:
    async def is_so() -> bool:
        sides = [
            peer
            for node, other in ((one, two), (two, one))
            for peer in node.mesh.peers()
            if peer.node == other.identity.node
        ]
        up = [peer for peer in sides if peer.state == "up" and peer.path.startswith(wanted)]
        return len(up) == 2

    await until(is_so, seconds)


@pytest.fixture
def no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fetches blobs for others, so chunks must go through the relay as they are."""
    monkeypatch.setattr("mesh.finding.RELAYS_MAX", 0)


async def test_a_relay_fetches_blobs_itself_and_serves_them(tmp_path: Path) -> None:
    """So a thin link carries each chunk once, however many are behind the relay."""
    async with Fleet(tmp_path).open() as fleet:
        relay, a, b = await outbound_only(fleet)
        await path(a, b, "relayed by")
        manifest = await published(a, 2_000_000, b, relay)
        assert await b.read(manifest) == content(2_000_000)
        assert await relay.has(manifest)
        assert status(b, a).bulk_path == ""
        assert relay.mesh.relaying().carried < 100_000


async def outbound_only(fleet: Fleet, **options) -> tuple[Node, Node, Node]:
    """A relay that everybody can dial, and two nodes that nobody can."""
    relay = await fleet.node("relay", **options)
    a, b = await fleet.node("a"), await fleet.node("b")
    fleet.world.reachable = lambda one, two: two == "relay"
    await fleet.join(a, relay)
    await fleet.join(b, relay)
    return relay, a, b


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def published(node: Node, size: int, *others: Node) -> Manifest:
    manifest = await node.add(content(size))
    await node.publish("x.bin", manifest)
    for other in others:

        async def known(other: Node = other) -> bool:
            return await other.reach(node) == await node.reach(node) > 0

        await until(known)
    return manifest


@pytest.mark.usefixtures("no_gateway")
@carriers
async def test_outbound_only_nodes_are_linked_and_fetch(tmp_path: Path, tls: bool) -> None:
    async with Fleet(tmp_path, tls=tls).open() as fleet:
        relay, a, b = await outbound_only(fleet)
        await path(a, b, "relayed by")
        manifest = await published(a, 2_000_000, b, relay)
        assert await b.read(manifest) == content(2_000_000)
        assert status(b, a).bulk_path.startswith("relayed by")
        assert status(b, a).found == "relay"
        assert status(b, relay).path == "direct"
        a.mesh._board.watch.look(trio.current_time() + EVERY)  # nobody counts segments there
        assert a.mesh._board._exchange.peers[b.id].history.loss is None
        assert relay.mesh._relays.core.carried > 2_000_000
        assert not await relay.has(manifest)  # it has carried the bytes, and never read them


@carriers
async def test_a_relay_that_can_only_dial_out_joins_those_it_dials(
    tmp_path: Path, tls: bool
) -> None:
    async with Fleet(tmp_path, tls=tls).open() as fleet:
        relay, a, b = [await fleet.node(name) for name in ("relay", "a", "b")]
        fleet.world.reachable = lambda one, two: two == "relay"
        await fleet.join(a, relay)
        await fleet.join(b, relay)
        await path(a, relay, "direct")
        await path(b, relay, "direct")

        async def told() -> bool:  # until then nobody could know where to dial
            return all(relay.mesh._links._addresses.of(node.id) for node in (a, b))

        await until(told)
        fleet.world.reachable = lambda one, two: one == "relay"

        async def turned() -> bool:
            links = [relay.mesh._links.control.get(node.id) for node in (a, b)]
            for link in links:
                if link is not None and not link.dialled:
                    link.close("test")
            return all(link is not None and link.dialled for link in links)

        await until(turned)
        await path(a, b, "relayed by", 30.0)


@pytest.mark.usefixtures("no_gateway")
async def test_the_relay_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds every byte that passes, and none of the content is among them."""
    async with Fleet(tmp_path).open() as fleet:
        seen = bytearray()
        relay, a, b = await outbound_only(fleet)
        core = relay.mesh._relays
        pump = core._pump

        async def spy(joint, source, target, scope) -> None:
            receive = source.receive_some

            async def receive_some(size=None):
                data = await receive(size)
                seen.extend(data)
                return data

            source.receive_some = receive_some
            await pump(joint, source, target, scope)

        monkeypatch.setattr(core, "_pump", spy)
        await path(a, b, "relayed by")
        manifest = await published(a, 300_000, b)
        data = await b.read(manifest)
        assert data == content(300_000)
        assert len(seen) > 300_000
        assert data[1000:1032] not in seen
        assert b.identity.key not in seen


@pytest.mark.usefixtures("no_gateway")
async def test_a_direct_path_takes_over_without_breaking_a_transfer(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        _, a, b = await outbound_only(fleet, quota=Quota(pair_rate=2_000_000, rate=2_000_000))
        await path(a, b, "relayed by")
        size = 8_000_000
        manifest = await published(a, size, b)
        received = bytearray()
        async with b.mesh.stream(BlobRange(manifest.blob, manifest.size, manifest.id)) as blocks:
            async for block in blocks:
                received += block
                if len(received) > 1_000_000 and fleet.world.reachable("relay", "a") is False:
                    fleet.world.reachable = lambda one, two: True
                    b.mesh._relays.moved(a.id)
        assert received == content(size)
        await path(a, b, "direct")
        assert status(b, a).bulk_path in ("direct", "")  # none, once nothing is left to fetch
        assert status(b, a).wasted == 0
        assert not status(b, a).notes
        assert a.mesh._links.control[b.id].dialled is not b.mesh._links.control[a.id].dialled


async def test_nothing_that_was_said_is_lost_in_the_hand_over(tmp_path: Path) -> None:
    """Records go on through every change of path, and nobody is suspected of anything."""
    async with Fleet(tmp_path).open() as fleet:
        _, a, b = await outbound_only(fleet)
        await path(a, b, "relayed by")
        for n in range(6):
            manifest = await a.add(content(1000 + n))
            await a.publish(f"{n}.bin", manifest)
            fleet.world.reachable = lambda one, two: True
            b.mesh._relays.moved(a.id)
            await b.publish(f"b{n}.bin", manifest)
            await trio.sleep(0.3)
        await path(a, b, "direct")

        async def same() -> bool:
            return await b.reach(a) == await a.reach(a) and await a.reach(b) == await b.reach(b)

        await until(same)
        for one, two in ((a, b), (b, a)):
            assert status(one, two).trouble == ""


async def test_direct_paths_that_open_from_both_sides_become_one(tmp_path: Path) -> None:
    """Both stayed, each side speaking on its own, for as long as the nodes lived."""
    async with Fleet(tmp_path).open() as fleet:
        _, a, b = await outbound_only(fleet)
        await path(a, b, "relayed by")
        fleet.world.reachable = lambda one, two: True
        for one, two in ((a, b), (b, a)):
            one.mesh._relays.moved(two.id)
        await path(a, b, "direct")

        async def settled() -> bool:
            return not any(node.mesh._links._standing._better for node in (a, b))

        await until(settled)
        sides = a.mesh._links.control[b.id], b.mesh._links.control[a.id]
        assert sides[0].dialled is not sides[1].dialled
        assert sides[0].dialled is (a.id < b.id)


async def test_a_lost_direct_path_falls_back_to_the_relay(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        relay, a, b = [await fleet.node(name) for name in ("relay", "a", "b")]
        await fleet.join(a, relay)
        await fleet.join(b, relay)
        await path(a, b, "direct")
        fleet.world.reachable = lambda one, two: two == "relay"
        await fleet.world.cut("a", "b")
        await path(a, b, "relayed by", 20.0)


async def test_an_operator_switches_it_off(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        relay, a, b = await outbound_only(fleet, quota=None)
        await path(a, relay, "direct")
        await path(b, relay, "direct")
        assert a.mesh._relays.detours(b.id) == ()
        with pytest.raises(OSError, match="no relay"):
            await a.mesh._relays.open(relay.id, b.id)


async def test_a_member_without_any_role_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        relay, a, b = await outbound_only(fleet)
        await path(a, b, "relayed by")
        monkeypatch.setattr(relay.mesh._relays, "_is_member", lambda node: False)
        with pytest.raises(OSError, match="not linked with that member"):
            await a.mesh._relays.open(relay.id, b.id)


async def test_who_is_evicted_is_cut_off_at_once(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        relay, a, b = await outbound_only(fleet)
        await path(a, b, "relayed by")
        assert relay.mesh._relays.core.joints
        relay.mesh._relays.keep(lambda node: node != b.id)
        assert not relay.mesh._relays.core.joints

        async def down() -> bool:
            return status(a, b).state != "up" or bool(relay.mesh._relays.core.joints)

        await until(down)


async def test_bytes_in_hand_when_two_are_parted_go_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted once the joint is closed, which had ended the whole node."""
    async with Fleet(tmp_path).open() as fleet:
        relay, a, b = await outbound_only(fleet)
        got: list[bytearray] = []

        async def collect(stream, _relay, _source) -> None:
            got.append(into := bytearray())
            async for data in stream:
                into.extend(data)

        monkeypatch.setattr(b.mesh._relays.carrier, "take", collect)
        core = relay.mesh._relays.core
        earlier = set(core.joints)
        stream = await a.mesh._relays.open(relay.id, b.id)
        await stream.send_all(b"before")

        async def carried() -> bool:
            return any(each.carried == 6 for each in core.joints if each not in earlier)

        await until(carried)
        (joint,) = (each for each in core.joints if each not in earlier and each.carried == 6)

        async def brought() -> bool:
            return b"before" in got

        await until(brought)
        await stream.send_all(b"after")
        relay.mesh._relays.keep(lambda node: node != b.id)  # before the relay's task runs again
        assert await ended(stream)

        async def counted() -> bool:
            return joint.carried == len(b"beforeafter")

        await until(counted)
        await trio.testing.wait_all_tasks_blocked(0.01)  # or the test's own end hides what follows
        assert not any(b"after" in each for each in got)


async def ended(stream) -> bool:
    """Read a stream to its end."""
    try:
        while await stream.receive_some(10):
            pass
    except trio.BrokenResourceError:
        pass
    return True


async def test_relay_abuse_costs_the_abuser_alone(tmp_path: Path) -> None:
    """Offers that nobody takes, stolen tokens and floods: bounded, and others are served."""
    async with Fleet(tmp_path).open() as fleet:
        relay, a, b = await outbound_only(fleet)
        await path(a, b, "relayed by")
        link = a.mesh._links.control[relay.id]
        for n in range(2000):
            link.send(m.RelayOpen(1_000_000 + n, b.id))
            link.send(m.RelayOffer(b"t" * 16, b.id))
            link.send(m.RelayReady(n, b"t" * 16, ""))
        await trio.sleep(0.5)
        core = relay.mesh._relays
        assert len(core.core.joints) <= core.core.quota.pair_streams
        assert relay.mesh._relays._taking <= 16
        assert status(relay, a).state == status(relay, b).state == "up"
        stolen = await a.mesh._links.dial_socket(relay.id)
        await stolen.stream.send_all(b"not a token of mine")
        with trio.fail_after(5):
            assert await ended(stolen.stream)
        await path(a, b, "relayed by")


async def test_a_slow_reader_holds_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-pressure reaches the sender; what the relay holds is a piece in each direction."""
    async with Fleet(tmp_path, tls=True).open() as fleet:
        relay, a, b = await outbound_only(fleet, quota=Quota(pair_rate=0, rate=0))
        await path(a, b, "relayed by")
        raw: list[trio.abc.Stream] = []

        async def hold(stream, _relay, _source) -> None:
            raw.append(stream)
            try:
                await trio.sleep_forever()
            finally:
                await trio.aclose_forcefully(stream)

        monkeypatch.setattr(b.mesh._relays.carrier, "take", hold)
        stream = await a.mesh._relays.open(relay.id, b.id)
        sent = 0
        with trio.move_on_after(1.5):
            while True:
                await stream.send_all(bytes(65536))
                sent += 65536
        assert raw
        assert sent < 32_000_000  # what kernels buffer, and no more
        await stream.aclose()
