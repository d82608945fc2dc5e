"""Words on links travel through everybody, once over each link at most, and to no excess."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from mesh.beliefs import PeerBelief
from mesh.neighbourhood import SPACING, LinkWords, sign
from mesh.shell import neighbourhood as module
from mesh.shell.neighbourhood import LOOK, Neighbourhood
from tests.mesh.keys import MESH, Signer

Clock = trio.testing.MockClock
SIGNERS = {bytes.fromhex(each.node): each for each in map(Signer, "abcd")}


class World:
    """Ends whose links hand messages over at once; every message over a link is counted."""

    def __init__(self, names: str = "abcd") -> None:
        self.ends: dict[bytes, End] = {}
        self.carried: list[tuple[bytes, bytes]] = []
        for name in names:
            signer = Signer(name)
            self.ends[bytes.fromhex(signer.node)] = End(signer, self)
        self.named = dict(zip(names, self.ends.values(), strict=True))

    def link(self, one: str, other: str) -> None:
        a, b = self.named[one], self.named[other]
        shown = SimpleNamespace(relayed=False, address="tls://h:1")
        a.control[b.node], b.control[a.node] = shown, shown


class End:
    def __init__(self, signer: Signer, world: World) -> None:
        self.node, self.world = bytes.fromhex(signer.node), world
        self.control: dict[bytes, SimpleNamespace] = {}
        members = {node.hex(): None for node in SIGNERS}
        ledger = SimpleNamespace(
            node=signer.node,
            mesh=MESH.hex(),
            identity=signer,
            authority=SimpleNamespace(members=lambda: members),
        )
        self.beliefs: dict[bytes, PeerBelief] = {}
        self.part = Neighbourhood(
            ledger,  # type: ignore[arg-type]  # a fake of it
            self,  # type: ignore[arg-type]  # a fake of it
            self.beliefs,
            lambda node: SIGNERS[node].key if node in SIGNERS else None,
            random.Random(1),
        )

    def send(self, peer: bytes, message: LinkWords) -> None:
        self.world.carried.append((self.node, peer))
        self.world.ends[peer].part.heard(self.node, message)

    def knows(self) -> set[str]:
        return {SIGNERS[node].name for node in self.part.words.records}


@asynccontextmanager
async def running(*ends: End) -> AsyncGenerator[None]:
    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(end.part.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(time=lambda: 1_700_000_000.0 + trio.current_time())
    monkeypatch.setattr(module, "time", now)


@pytest.mark.usefixtures("clock")
async def test_a_word_reaches_who_is_linked_with_none_of_those_it_names(
    autojump_clock: Clock,
) -> None:
    world = World()
    for pair in ("ab", "bc", "cd"):
        world.link(*pair)
    world.named["a"].beliefs[world.named["b"].node] = PeerBelief(world.named["b"].node)
    async with running(*world.ends.values()):
        await trio.sleep(LOOK + 0.1)
        assert [end.knows() for end in world.ends.values()] == [set("abcd")] * 4


@pytest.mark.usefixtures("clock")
async def test_in_a_full_mesh_each_word_crosses_each_link_once(autojump_clock: Clock) -> None:
    world = World()
    for pair in ("ab", "ac", "ad", "bc", "bd", "cd"):
        world.link(*pair)
    async with running(*world.ends.values()):
        await trio.sleep(LOOK + 0.1)
        first = len(world.carried)
        assert first <= 4 * 3 + 4 * 3 * 2  # its word to each, and what it knew of to newcomers
        await trio.sleep(300.0)  # nobody comes or goes
        assert len(world.carried) - first <= 6 * 4 * 3


@pytest.mark.usefixtures("clock")
async def test_a_link_that_flaps_makes_no_flood(autojump_clock: Clock) -> None:
    world = World("ab")
    async with running(world.named["a"]):
        for _ in range(50):
            world.link("a", "b")
            await trio.sleep(LOOK)
            world.named["a"].control.clear()
            await trio.sleep(LOOK)
    assert len(world.carried) <= 50 + 50 * 2 * LOOK / SPACING


@pytest.mark.usefixtures("clock")
async def test_nobody_says_what_our_own_links_are(autojump_clock: Clock) -> None:
    world = World("ab")
    world.link("a", "b")
    forged = sign(Signer("a"), MESH, (), 1_700_000_500.0)
    world.named["a"].part.heard(world.named["b"].node, LinkWords((forged, b"junk")))
    assert world.named["a"].knows() == set()
