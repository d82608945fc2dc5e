"""What a hostile member may try on the cores, and what it may cost.  Spec: docs/mesh.md §10."""

from __future__ import annotations

import msgspec
import pytest

from mesh import messages as m
from mesh.download import LIES_MAX
from mesh.finding import HOPS_MAX
from mesh.wire import Decoder, encode
from store.errors import RemoteProtocolError
from tests.mesh.world import World, blob

HUGE = 1 << 61  # as a shift it would ask for an integer of 2^61 bits


def has(node, raw: bytes) -> bool:
    return raw in node.whole


@pytest.mark.parametrize(
    "message",
    [
        m.Bitfield(b"b" * 32, b"m" * 32, HUGE, b"\1"),
        m.Have(b"b" * 32, b"m" * 32, (0, HUGE)),
        m.Want(1, b"b" * 32, b"m" * 32, (0, HUGE), 1, 0, 0),
        m.Data(1, HUGE, 1, b"x"),
        m.Find(b"b" * 32, 1, bytes(60_000), 0, ()),
        m.HaveBlob(b"b" * 32, 1, 1, bytes(60_000)),
        m.Heads((), 1, bytes(60_000)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_numbers_and_ids_beyond_all_bounds_end_the_link(message: m.Message) -> None:
    decoder = Decoder(1 << 20)
    decoder.feed(encode(message))
    with pytest.raises(RemoteProtocolError):
        decoder.next()


def test_a_node_alone_has_no_hope() -> None:
    world, held = World(), blob(20)
    node = world.node("alone")
    node.want(held[0])
    assert node.core.hopeless(held[0].blob.raw, world.now)


def test_a_liar_next_door_does_not_hide_the_holder_behind_another() -> None:
    """liar – client – middle – source: the liar's claim must not end the search."""
    world, held = World(), blob(20)
    raw = held[0].blob.raw
    liar, client = world.node("liar", liar=True), world.node("client")
    middle, source = world.node("middle"), world.node("source")
    world.give(source, held)
    for other in (liar, middle):
        world.link(client, other)
    world.link(middle, source)
    client.want(held[0])
    world.run(20.0, lambda: has(client, raw))
    assert has(client, raw)
    assert world.now < 10.0
    notes = client.core.peers[liar.name].notes
    assert any("said it had" in note for note in notes)
    assert sum("said it had" in note for note in notes) <= LIES_MAX


@pytest.mark.parametrize("vice", ["corrupt", "stall"])
def test_a_bad_source_next_door_does_not_hide_a_good_one_two_hops_away(vice: str) -> None:
    world, held = World(), blob(20)
    raw = held[0].blob.raw
    bad, client = world.node("bad", **{vice: True}), world.node("client")
    middle, source = world.node("middle"), world.node("source")
    world.give(source, held)
    world.give(bad, held)
    for other in (bad, middle):
        world.link(client, other)
    world.link(middle, source)
    client.want(held[0])
    world.run(20.0, lambda: has(client, raw))
    assert has(client, raw)
    assert world.now < 10.0
    assert client.core.peers[bad.name].notes


def test_a_search_poisoned_with_a_false_path_hides_nothing_from_others() -> None:
    """A relay asks nobody on the asker's path; another asker must not suffer from that."""
    world, held = World(), blob(20)
    raw = held[0].blob.raw
    liar, relay = world.node("liar"), world.node("relay")
    source, client = world.node("source"), world.node("client")
    world.give(source, held)
    for other in (liar, source, client):
        world.link(relay, other)
    find = m.Find(raw, held[0].size, held[0].id, HOPS_MAX, (liar.name, source.name))
    world.send(liar.name, relay.name, find, bulk=False)
    world.run(0.2)
    client.want(held[0])
    world.run(5.0, lambda: has(client, raw))
    assert has(client, raw)


def test_a_search_poisoned_with_a_false_path_hides_nothing_from_ourselves() -> None:
    world, held = World(), blob(20)
    raw = held[0].blob.raw
    liar, relay, source = (world.node(name) for name in ("liar", "relay", "source"))
    world.give(source, held)
    for other in (liar, source):
        world.link(relay, other)
    find = m.Find(raw, held[0].size, held[0].id, HOPS_MAX, (liar.name, source.name))
    world.send(liar.name, relay.name, find, bulk=False)
    world.run(0.2)
    relay.want(held[0])
    world.run(5.0, lambda: has(relay, raw))
    assert has(relay, raw)


def test_who_only_redirects_is_soon_asked_no_more() -> None:
    world, held = World(), blob(40)
    raw = held[0].blob.raw
    client, evil = world.node("client"), world.node("evil", redirect=True)
    world.give(evil, held)
    world.link(client, evil)
    client.want(held[0])
    world.run(30.0)
    assert evil.redirects < 40  # not one a round trip
    assert client.core.downloads[raw].holders[evil.name].bad
    assert "redirects" in " ".join(client.core.peers[evil.name].notes)
    source = world.node("source")
    world.give(source, held)
    world.link(client, source)
    world.run(20.0, lambda: has(client, raw))
    assert has(client, raw)


def test_two_that_redirect_to_each_other_hide_nobody() -> None:
    world, held = World(), blob(40)
    raw = held[0].blob.raw
    client, source = world.node("client"), world.node("source")
    for name in ("one", "two"):
        evil = world.node(name, redirect=True)
        world.give(evil, held)
        world.link(client, evil)
    world.give(source, held)
    world.link(client, source)
    client.want(held[0])
    world.run(15.0, lambda: has(client, raw))
    assert client.done_at[raw] < 5.0


def test_a_trickle_does_not_keep_a_transfer_waiting() -> None:
    """One chunk every few seconds, from a peer that promised all: the rest comes from others."""
    world, held = World(), blob(80)
    raw = held[0].blob.raw
    client, slow, source = world.node("client"), world.node("slow"), world.node("source")
    world.give(slow, held)
    world.give(source, held)
    world.link(client, slow, rate=2e4)
    world.link(client, source, rate=2e6)
    client.want(held[0])
    world.run(60.0, lambda: has(client, raw))
    alone = len(held[1]) / 2e6
    assert client.done_at[raw] < 1.2 * alone + 3.0


def test_hops_beyond_the_maximum_are_not_passed_on() -> None:
    world, held = World(), blob(20)
    one, two, three = (world.node(name) for name in ("one", "two", "three"))
    world.link(one, two)
    world.link(two, three)
    find = m.Find(held[0].blob.raw, held[0].size, held[0].id, 8, (one.name,))
    world.send(one.name, two.name, find, bulk=False)
    world.send(one.name, two.name, msgspec.structs.replace(find, hops=8), bulk=False)
    world.run(1.0)
    assert two.core.downloads[held[0].blob.raw].hops <= HOPS_MAX
