"""``atoll mesh why``: whatever befalls a transfer can be read afterwards."""

from __future__ import annotations

import msgspec

from mesh.explaining import Known, progress, transfers, waiting_for, why
from tests.mesh.world import Node, World, blob


def known(node: Node, world: World) -> Known:
    names = {other.name: (other.name[:1].decode(), "site") for other in world.nodes.values()}
    return Known(node.core, names, world.now)


def test_a_transfer_under_way_says_what_it_waits_for_and_how_long() -> None:
    world = World()
    held = blob(160)
    a, b = world.node("a"), world.node("b")
    raw = held[0].blob.raw
    b.want(held[0])
    (status,) = transfers(known(b, world))
    assert (status.state, status.left) == ("manifest", None)
    assert waiting_for(known(b, world), b.core.downloads[raw]).startswith("its manifest")
    world.give(a, held)
    world.link(a, b, rate=1e6)
    world.run(4.0)
    found = why(known(b, world), raw)
    assert found is not None
    assert found.state == "fetching"
    assert found.waiting == "chunks from a"
    assert 0 < found.verified < found.size == len(held[1])
    rate, left = progress(b.core.downloads[raw], world.now)
    assert found.rate == rate
    assert left is not None
    assert 0.5e6 < rate < 1.5e6
    assert abs(left - (found.size - found.verified) / rate) < 1e-6
    (source,) = found.sources
    assert (source.name, source.state, source.says) == ("a", "asked", "has all of it")
    assert source.awaited > 0
    assert source.share == 1.0
    assert msgspec.json.encode(found)


def test_every_trouble_of_a_transfer_is_told_with_its_culprit() -> None:
    world = World()
    held = blob(160)
    good, bad, mute = (
        world.node("g"),
        world.node("b", corrupt=True),
        world.node("m", stall=True),
    )
    receiver = world.node("r")
    for node in (good, bad, mute):
        world.give(node, held)
        world.link(node, receiver, rate=2e6)
    receiver.want(held[0])
    raw = held[0].blob.raw
    world.run(60, lambda: raw in receiver.whole)
    found = why(known(receiver, world), raw)
    assert found is not None
    assert (found.state, found.waiting, found.left) == ("complete", "", None)
    by_name = {source.name: source for source in found.sources}
    assert by_name["g"].received > 0.5 * len(held[1])
    assert by_name["b"].bad == 2
    assert by_name["b"].state == "banned"
    assert by_name["m"].stalls >= 1
    assert by_name["m"].received == 0
    what = {(event.what, event.node) for event in found.events}
    assert {("bad chunk", "b"), ("stalled", "m"), ("asked", "g"), ("lost", "b")} <= what
    assert all(event.why for event in found.events)
    assert found.events[0].what == "wanted"
    assert found.events[-1].what == "ended"


def test_nothing_is_explained_that_never_was() -> None:
    world = World()
    assert why(known(world.node("a"), world), b"x" * 32) is None
