"""Every carrier, one suite: bytes arrive whole, the listener's key is proven, ends are noticed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import trio
import trio.testing

from mesh.carrier import Accepted, Carrier, Dialled, Handler, scheme_of
from mesh.carriers import libp2p
from mesh.carriers.libp2p import Libp2pCarrier
from mesh.carriers.memory import MemoryCarrier, World
from mesh.carriers.relayed import RelayedCarrier
from mesh.carriers.tls import TlsCarrier
from mesh.relay import detour
from tests.mesh.keys import Signer

Pair = Callable[[], tuple[Carrier, Carrier]]
A, B = Signer("a"), Signer("b")


def memory_pair() -> tuple[Carrier, Carrier]:
    world = World()
    return MemoryCarrier(world, "a", A.key), MemoryCarrier(world, "b", B.key)


def tls_pair() -> tuple[Carrier, Carrier]:
    return TlsCarrier(A.seed), TlsCarrier(B.seed, listen=[("127.0.0.1", 0)])


class BehindRelay:
    """A carrier that is only met through a relay, which here is a pair of memory streams."""

    schemes = RelayedCarrier.schemes
    bound: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.carrier = RelayedCarrier(B.seed, self.join)
        self.nursery: trio.Nursery | None = None

    async def join(self, relay: bytes, target: bytes) -> trio.abc.Stream:
        if self.nursery is None:
            raise ConnectionRefusedError("the relay is not linked with that member")
        near, far = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.carrier.take, far, relay, target)
        return near

    async def dial(self, address: str) -> Dialled:
        return await self.carrier.dial(address)

    def want(self) -> None:
        """Always ready."""

    async def serve(self, handler: Handler, *, task_status) -> None:
        async with trio.open_nursery() as self.nursery:
            await self.nursery.start(self.carrier.serve, handler)
            task_status.started((detour(b"r" * 32, B.key),))


def relayed_pair() -> tuple[Carrier, Carrier]:
    two = BehindRelay()
    return RelayedCarrier(A.seed, two.join), two


def libp2p_pair() -> tuple[Carrier, Carrier]:
    return Libp2pCarrier(A.seed, eager=True), Libp2pCarrier(B.seed, eager=True)


without = pytest.mark.skipif(
    not libp2p.installed(), reason="libp2p is not installed (requirements-mesh.txt)"
)
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("swept")]


async def ready(carrier: Carrier, nursery: trio.Nursery) -> None:
    """libp2p runs a host even where nobody listens."""
    if isinstance(carrier, Libp2pCarrier):
        await nursery.start(carrier.serve, echo)


pairs = pytest.mark.parametrize(
    "pair", [memory_pair, tls_pair, relayed_pair, pytest.param(libp2p_pair, marks=without)]
)


async def echo(accepted: Accepted) -> None:
    while data := await accepted.stream.receive_some():
        await accepted.stream.send_all(data)
    await accepted.stream.aclose()


@pairs
async def test_bytes_go_there_and_back_and_the_key_is_shown(
    pair: Pair, nursery: trio.Nursery
) -> None:
    one, two = pair()
    await ready(one, nursery)
    (address,) = await nursery.start(two.serve, echo)
    assert scheme_of(address) in one.schemes
    dialled = await one.dial(address)
    assert dialled.key == B.key
    sent, received = bytes(range(256)) * 8000, bytearray()
    async with trio.open_nursery() as both:
        both.start_soon(dialled.stream.send_all, sent)
        while len(received) < len(sent):
            received += await dialled.stream.receive_some(65536)
    assert received == sent
    await dialled.stream.aclose()


@pairs
async def test_a_close_is_seen_at_the_other_end(pair: Pair, nursery: trio.Nursery) -> None:
    one, two = pair()
    await ready(one, nursery)
    ended = trio.Event()

    async def wait(accepted: Accepted) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            assert not await accepted.stream.receive_some()
        ended.set()

    (address,) = await nursery.start(two.serve, wait)
    dialled = await one.dial(address)
    await dialled.stream.aclose()
    await ended.wait()


@pairs
async def test_nobody_home_is_an_os_error(pair: Pair, nursery: trio.Nursery) -> None:
    one, _ = pair()
    await ready(one, nursery)
    with pytest.raises(OSError):
        await one.dial(f"{next(iter(one.schemes))}://127.0.0.1:1")
