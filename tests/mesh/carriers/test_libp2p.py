"""What libp2p adds, and its traps: downgrade, dial delay, pauses, limits, laziness."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from mesh.carrier import Accepted
from mesh.carriers import libp2p
from mesh.carriers.libp2p import KEY_PREFIX, Libp2pCarrier, key_of, peer_id_of
from tests.mesh.keys import Signer
from tests.mesh.nodes import Fleet, until

A, B = Signer("a"), Signer("b")
needed = pytest.mark.skipif(
    not libp2p.installed(), reason="libp2p is not installed (requirements-mesh.txt)"
)
pytestmark = [  # the library's own warnings, and sockets
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("swept"),
]


async def echo(accepted: Accepted) -> None:
    while data := await accepted.stream.receive_some():
        await accepted.stream.send_all(data)


def test_a_node_that_does_without_never_imports_it() -> None:
    code = "import sys, mesh.carriers.libp2p, node.swarm; sys.exit('libp2p' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_peer_id_spells_the_key_out() -> None:
    assert key_of(peer_id_of(A.key)) == A.key
    for bad in (b"", KEY_PREFIX, b"\x12\x20" + bytes(32), peer_id_of(A.key) + b"x"):
        with pytest.raises(OSError):
            key_of(bad)


@needed
async def test_auto_waits_until_somebody_cannot_be_met_otherwise(nursery: trio.Nursery) -> None:
    carrier = Libp2pCarrier(A.seed, mode="auto")
    assert await nursery.start(carrier.serve, echo) == ()
    await trio.sleep(0.05)
    assert carrier.host is None
    carrier.want()
    with trio.fail_after(60):
        await carrier._up.wait()
    assert carrier.bound


@needed
async def test_a_peer_that_speaks_plaintext_gets_nowhere(nursery: trio.Nursery) -> None:
    """By default the library accepts it; ours offers Noise alone."""
    (address,) = await nursery.start(Libp2pCarrier(B.seed, eager=True).serve, echo)
    lib = libp2p.load()
    insecure = __import__("libp2p.security.insecure.transport", fromlist=["x"])
    pair = lib.ed25519.create_new_key_pair(A.seed)
    listen = [lib.multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]
    plain = {insecure.PLAINTEXT_PROTOCOL_ID: insecure.InsecureTransport(pair)}
    host = lib.libp2p.new_host(key_pair=pair, sec_opt=plain, listen_addrs=listen)
    where = lib.multiaddr.Multiaddr(address.removeprefix("p2p://"))
    async with host.run(listen_addrs=listen):
        with pytest.raises(Exception, match="unable to connect") as caught, trio.fail_after(20):
            await host.connect(lib.peerinfo.info_from_p2p_addr(where))
        assert not isinstance(caught.value, trio.TooSlowError)


@needed
async def test_a_dial_does_not_wait_out_the_delay_for_a_second_address(
    nursery: trio.Nursery,
) -> None:
    (address,) = await nursery.start(Libp2pCarrier(B.seed, eager=True).serve, echo)
    one = Libp2pCarrier(A.seed, eager=True)
    await nursery.start(one.serve, echo)
    assert libp2p.load().swarm._HAPPY_EYEBALLS_DELAY < 0.01
    dialled = await one.dial(address)
    assert dialled.key == B.key
    await dialled.stream.aclose()


@needed
async def test_whoever_answers_must_hold_the_key(nursery: trio.Nursery) -> None:
    (address,) = await nursery.start(Libp2pCarrier(B.seed, eager=True).serve, echo)
    one = Libp2pCarrier(A.seed, eager=True)
    await nursery.start(one.serve, echo)
    other = Libp2pCarrier(Signer("c").seed, eager=True)
    (wrong,) = await nursery.start(other.serve, echo)
    forged = address.rpartition("/")[0] + "/" + wrong.rpartition("/")[2]
    with pytest.raises(OSError), trio.fail_after(20):
        await one.dial(forged)


@needed
@pytest.mark.slow
async def test_a_reader_may_pause_longer_than_five_seconds(nursery: trio.Nursery) -> None:
    got = trio.Event()

    async def late(accepted: Accepted) -> None:
        await trio.sleep(7)
        count = 0
        while count < 4_000_000:
            data = await accepted.stream.receive_some()
            assert data
            count += len(data)
        got.set()

    (address,) = await nursery.start(Libp2pCarrier(B.seed, eager=True).serve, late)
    one = Libp2pCarrier(A.seed, eager=True)
    await nursery.start(one.serve, echo)
    dialled = await one.dial(address)
    with trio.fail_after(30):
        await dialled.stream.send_all(bytes(4_000_000))
        await got.wait()
    await dialled.stream.aclose()


@needed
async def test_limits_are_set(nursery: trio.Nursery) -> None:
    carrier = Libp2pCarrier(B.seed, eager=True)
    await nursery.start(carrier.serve, echo)
    network = carrier.host.get_network()
    assert network.connection_config.max_connections == libp2p.CONNECTIONS_MAX
    assert network.connection_config.low_watermark == 0
    assert network._resource_manager.limits.max_streams == libp2p.STREAMS_MAX


@needed
async def test_a_host_that_falls_over_is_started_again(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p, "RESTART", 0.01)
    falls = [True]

    async def fall(host: object) -> None:
        if falls.pop() if falls else False:
            raise KeyError("something inside the library")
        await trio.sleep_forever()

    carrier = Libp2pCarrier(B.seed, eager=True, attach=fall)
    with trio.fail_after(60):
        await nursery.start(carrier.serve, echo)
        while not carrier.bound:  # noqa: ASYNC110  binding tells nobody
            await trio.sleep(0.01)
    assert falls == []


@needed
async def test_nodes_are_linked_and_fetch_over_libp2p(tmp_path: Path) -> None:
    async with Fleet(tmp_path, libp2p=True).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)

        async def known() -> bool:
            return all(
                any("p2p://" in address for peer in node.mesh.peers() for address in peer.addresses)
                for node in (a, b)
            )

        await until(known, 60.0)
        fleet.world.reachable = lambda one, two: False
        await fleet.world.cut("a", "b")

        async def up() -> bool:
            return [(p.state, p.path) for n in (a, b) for p in n.mesh.peers()] == [
                ("up", "libp2p")
            ] * 2

        await until(up, 60.0)
        manifest = await a.add(bytes(range(256)) * 8000)
        await a.publish("x.bin", manifest)
        assert await b.read(manifest) == bytes(range(256)) * 8000
        assert [p.bulk_path for p in b.mesh.peers()] == ["libp2p"]
