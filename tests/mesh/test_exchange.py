"""Blobs between exchange cores in virtual time."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh import messages as m
from mesh.asking import CLAIM_MIN, Asking
from mesh.claims import CLAIM_MAX
from mesh.download import LIE_PAUSE, LIES_MAX, Download
from mesh.effects import Effect, ServeManifest
from mesh.finding import HAVE_MIN, HOP_WAIT, HOPS_MAX
from mesh.receiving import DRY_MAX
from store.chunks import Manifest
from store.errors import RemoteProtocolError
from tests.mesh.world import CHUNK, Node, World, blob

DAY = 24 * 3600.0


def has(node: Node, raw: bytes) -> bool:
    return raw in node.whole


def test_a_blob_comes_from_a_neighbour_at_the_rate_of_the_link() -> None:
    world = World()
    held = blob(160)
    a, b = world.node("a"), world.node("b")
    world.give(a, held)
    world.link(a, b, rate=2e6, delay=0.025)
    b.want(held[0])
    raw = held[0].blob.raw
    world.run(60, lambda: has(b, raw))
    bound = len(held[1]) / 2e6
    assert b.done_at[raw] < 1.15 * bound
    assert len(b.arrived) == 160
    assert world.sent(a, b) < 1.02 * len(held[1])


def test_two_sources_are_used_at_once() -> None:
    world = World()
    held = blob(160)
    a, b, c = (world.node(name) for name in "abc")
    world.give(a, held)
    world.give(b, held)
    world.link(a, c, rate=1e6)
    world.link(b, c, rate=1e6)
    c.want(held[0])
    raw = held[0].blob.raw
    world.run(60, lambda: has(c, raw))
    assert c.done_at[raw] < 0.65 * len(held[1]) / 1e6
    assert len(c.arrived) == 160


def test_many_small_blobs_cost_few_messages_and_few_looks_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What happens to one of them is no reason to plan the others anew."""
    world, count, planned = World(), 200, 0
    held = [blob(1, seed) for seed in range(count)]
    a, b = world.node("a"), world.node("b")
    for each in held:
        world.give(a, each)
    world.link(a, b, rate=1e6)
    said = Counter[type[m.Message]]()
    heard, asked = a.heard, Asking.plan

    def hear(peer: bytes, message: m.Message, *, bulk: bool) -> None:
        said[type(message)] += 1
        heard(peer, message, bulk=bulk)

    def plan(self: Asking, download: Download, now: float) -> list[Effect]:
        nonlocal planned
        planned += self.node == b.name
        return asked(self, download, now)

    monkeypatch.setattr(a, "heard", hear)
    monkeypatch.setattr(Asking, "plan", plan)
    waiting = iter(held)

    def more() -> bool:
        """Keep 64 of them under way."""
        while len(b.core.downloads) < 64 and (each := next(waiting, None)) is not None:
            b.want(each[0])
        return len(b.whole) == count

    world.run(60, more)
    assert len(b.whole) == count
    assert world.now < 1.25 * count * CHUNK / 1e6
    world.run(0.1)  # for the last word
    assert said == {m.Find: count, m.Want: count, m.Forget: count}
    assert planned < 20 * count + 64 * 10 * world.now  # the clock looks at all, ten times a second


def test_chunks_come_while_another_blobs_manifest_is_unknown() -> None:
    world = World()
    small, large = blob(1, seed=1), blob(40, seed=2)
    a, b, c = (world.node(name) for name in "abc")
    world.give(a, small)
    world.give(c, large)
    world.link(a, b)
    b.want(large[0])  # which nobody has whom it is linked with
    b.want(small[0])
    world.run(5, lambda: has(b, small[0].blob.raw))
    assert has(b, small[0].blob.raw)
    world.link(b, c)
    world.run(30, lambda: has(b, large[0].blob.raw))
    assert has(b, large[0].blob.raw)


def test_a_blob_without_a_signed_manifest_comes_too() -> None:
    world = World()
    held = blob(40)
    a, b = world.node("a"), world.node("b")
    world.give(a, held)
    world.link(a, b)
    b.want(held[0], signed=False)
    world.run(20, lambda: has(b, held[0].blob.raw))
    assert has(b, held[0].blob.raw)


def test_a_blob_crosses_nodes_that_never_meet_while_it_arrives() -> None:
    """A–B–C–D: each link carries it once, and D is done soon after B."""
    world = World()
    held = blob(160)
    a, b, c, d = (world.node(name) for name in "abcd")
    world.give(a, held)
    for one, two in ((a, b), (b, c), (c, d)):
        world.link(one, two, rate=2e6)
    d.want(held[0])
    raw = held[0].blob.raw
    world.run(60, lambda: has(d, raw))
    size = len(held[1])
    for one, two in ((a, b), (b, c), (c, d)):
        assert world.sent(one, two) < 1.02 * size
    assert d.done_at[raw] < 1.5 * size / 2e6 + 2


def test_nobody_relays_what_a_neighbour_has() -> None:
    world = World()
    held = blob(20)
    a, b, c = (world.node(name) for name in "abc")
    world.give(a, held)
    for one, two in ((a, b), (b, c), (a, c)):
        world.link(one, two)
    c.want(held[0])
    world.run(10, lambda: has(c, held[0].blob.raw))
    assert has(c, held[0].blob.raw)
    assert world.sent(a, b) < CHUNK


def test_asking_in_circles_ends() -> None:
    world = World()
    held = blob(4)
    world.blobs[held[0].blob.raw] = held
    nodes = [world.node(name) for name in "abc"]
    for one, two in ((0, 1), (1, 2), (0, 2)):
        world.link(nodes[one], nodes[two])
    nodes[0].want(held[0])
    world.run(1.0)
    assert not nodes[0].core.hopeless(held[0].blob.raw, world.now)
    world.run(HOP_WAIT * HOPS_MAX + 2.0)
    assert nodes[0].core.hopeless(held[0].blob.raw, world.now)


def test_a_waiting_client_gets_its_bytes_in_order() -> None:
    world = World()
    held = blob(160)
    a, b = world.node("a"), world.node("b")
    world.give(a, held)
    world.link(a, b, rate=2e6)
    b.want(held[0])
    raw = held[0].blob.raw
    world.run(1.0)
    b.perform(b.core.readers(raw, [100], world.now))
    seen = len(b.arrived)
    world.run(2.0)
    after = b.arrived[seen:]
    inflight = 24  # chunks that were already asked for
    assert after[inflight : inflight + 20] == sorted(after[inflight : inflight + 20])
    assert 100 in after[: inflight + 2]


def test_a_cut_link_resumes_without_fetching_anything_twice() -> None:
    world = World()
    held = blob(160)
    a, b = world.node("a"), world.node("b")
    world.give(a, held)
    b.want(held[0])
    raw = held[0].blob.raw
    for _ in range(12):
        world.link(a, b, rate=2e6)
        world.run(0.7, lambda: has(b, raw))
        world.cut(a, b)
        world.run(0.5)
    assert has(b, raw)
    assert len(b.arrived) == len(set(b.arrived)) == 160


@pytest.mark.parametrize(
    ("vice", "said"),
    [
        ("corrupt", "sent wrong bytes"),
        ("liar", "had not"),
        ("stall", "stalled"),
        ("unasked", "than asked for"),
    ],
)
def test_a_bad_peer_costs_a_bounded_delay_and_is_named(vice: str, said: str) -> None:
    world = World()
    held = blob(80)
    good, bad, c = world.node("good"), world.node("bad", **{vice: True}), world.node("c")
    world.give(good, held)
    world.blobs[held[0].blob.raw] = held
    if vice != "liar":
        world.give(bad, held)
    world.link(bad, c, rate=50e6, delay=0.002)  # it even looks better than the good one
    world.link(good, c, rate=2e6)
    c.want(held[0])
    raw = held[0].blob.raw
    world.run(60, lambda: has(c, raw))
    assert c.done_at[raw] < len(held[1]) / 2e6 + 4.0
    assert any(said in note for note in c.core.peers[bad.name].notes)
    assert not c.core.peers[good.name].notes


def test_a_peer_that_corrupts_twice_is_banned() -> None:
    world = World()
    held = blob(80)
    bad, c = world.node("bad", corrupt=True), world.node("c")
    world.give(bad, held)
    world.link(bad, c)
    c.want(held[0])
    world.run(10)
    banned = c.core.peers[bad.name]
    assert not banned.usable(world.now)
    assert not banned.usable(world.now + DAY - 20.0)
    assert banned.banned_until <= world.now + DAY
    assert c.arrived == []
    assert world.sent(bad, c) < 30 * CHUNK


def test_a_swarm_fetches_each_chunk_from_the_source_little_more_than_once() -> None:
    world = World()
    held = blob(160)
    source = world.node("source")
    others = [world.node(f"n{i}") for i in range(4)]
    world.give(source, held)
    nodes = [source, *others]
    for i, one in enumerate(nodes):
        for two in nodes[:i]:
            world.link(one, two, rate=2e6)
    for node in others:
        node.want(held[0])
    raw = held[0].blob.raw
    world.run(60, lambda: all(has(node, raw) for node in others))
    assert all(has(node, raw) for node in others)
    copies = sum(world.sent(source, node) for node in others) / len(held[1])
    assert copies < 3.0  # the links are not shared here: this is not the bound, only sanity


def test_the_first_chunk_is_told_of_as_soon_as_it_is_verified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, held = World(), blob(400)
    source, near, far = (world.node(name) for name in ("source", "near", "far"))
    world.give(source, held)
    world.link(source, near, rate=1e6)
    world.link(near, far)
    raw, heard = held[0].blob.raw, list[float]()
    take = far.core.received

    def listen(peer: bytes, message: m.Message, now: float) -> list[Effect]:
        if isinstance(message, m.Have) and message.runs:
            heard.append(now)
        return take(peer, message, now)

    monkeypatch.setattr(far.core, "received", listen)
    near.want(held[0])
    far.want(held[0])
    world.run(40, lambda: bool(near.arrived))
    first = world.now
    world.run(40, lambda: has(near, raw) and has(far, raw))
    assert heard[0] < first + 0.1
    assert min(b - a for a, b in pairwise(heard)) >= HAVE_MIN - 0.001


def test_who_gave_a_blob_up_while_its_manifest_was_asked_for_is_asked_again() -> None:
    """Its disk was full for a moment: it takes back what it said, and then has all of it."""
    world, held = World(), blob(8)
    raw, id_ = held[0].blob.raw, held[0].id
    a, b = world.node("a"), world.node("b")
    world.link(a, b)
    b.want(held[0])
    world.run(0.3)
    for said in (
        m.HaveBlob(raw, m.PARTIAL, held[0].size, id_),
        m.HaveBlob(raw, m.NONE, 0, b""),
    ):
        b.perform(b.core.received(a.name, said, world.now))
    world.run(0.1)
    assert b.core.downloads[raw].holders[a.name].lies == 1  # both pages were empty
    world.give(a, held)
    all_of_it = m.HaveBlob(raw, m.COMPLETE, held[0].size, id_)
    b.perform(b.core.received(a.name, all_of_it, world.now))
    world.run(2.0, lambda: has(b, raw))
    assert has(b, raw)


def test_a_holder_that_cannot_read_the_manifest_is_asked_seldom_and_never_given_up() -> None:
    world, held = World(), blob(8)
    raw, asked = held[0].blob.raw, list[int]()
    a, b = world.node("a"), world.node("b")
    world.give(a, held)
    world.link(a, b)
    perform_one = a.perform_one

    def broken(effect: Effect) -> None:
        if isinstance(effect, ServeManifest):
            asked.append(effect.page)
            said = m.ManifestPage(raw, effect.manifest, effect.page, b"")
            world.send(a.name, b.name, said, bulk=False)
        else:
            perform_one(effect)

    a.perform_one = broken  # type: ignore[method-assign]  # a fake in its place
    b.want(held[0])
    world.run(20.0)
    assert asked == [0, 1] * LIES_MAX  # and then a pause
    a.perform_one = perform_one  # type: ignore[method-assign]  # the true one again
    world.run(LIE_PAUSE, lambda: has(b, raw))
    assert has(b, raw)


def test_a_holder_that_never_answers_for_the_manifest_keeps_it_from_nobody_for_long() -> None:
    """The nearest one is silent: after 3 s the next is asked, for the second blob at once."""
    world, blobs = World(), [blob(40), blob(40, seed=2)]
    good, bad, c = world.node("good"), world.node("bad"), world.node("c")
    for held in blobs:
        world.give(good, held)
        world.give(bad, held)
    world.link(bad, c, delay=0.002)
    world.link(good, c)
    heard = bad.heard

    def silent(peer: bytes, message: m.Message, *, bulk: bool) -> None:
        if not isinstance(message, m.ManifestGet):
            heard(peer, message, bulk=bulk)

    bad.heard = silent  # type: ignore[method-assign]  # a fake in its place
    for held, late in zip(blobs, (4.5, 1.5), strict=True):
        begun, raw = world.now, held[0].blob.raw
        c.want(held[0])
        world.run(late, partial(has, c, raw))
        assert has(c, raw), f"{world.now - begun:.1f} s"


@pytest.mark.parametrize("size", [1, 999_999])
@pytest.mark.parametrize("answers", [True, False])
def test_who_first_names_another_size_hides_no_holder(size: int, answers: bool) -> None:
    """No record names size or manifest: both are claims, and each has its turn."""
    world, held = World(), blob(40)
    raw, made_up = held[0].blob.raw, bytes(32)
    if size == 1:
        made_up = Manifest.whole(held[0].blob, 1).id
    good, bad, c = world.node("good"), world.node("bad"), world.node("c")
    world.give(good, held)
    world.link(bad, c, delay=0.002)
    world.link(good, c)

    def lies(peer: bytes, message: m.Message, *, bulk: bool) -> None:
        if isinstance(message, m.Find):
            said: m.Message = m.HaveBlob(raw, m.COMPLETE, size, made_up)
            world.send(bad.name, peer, said, bulk=False)
        elif isinstance(message, m.ManifestGet) and answers:
            said = m.ManifestPage(raw, message.manifest, message.page, b"")
            world.send(bad.name, peer, said, bulk=False)

    bad.heard = lies  # type: ignore[method-assign]  # a fake in its place
    c.want(held[0], signed=False)
    world.run(DRY_MAX + 5.0, lambda: has(c, raw))
    assert has(c, raw)
    assert not c.core.peers[good.name].strikes


def test_chunks_beyond_the_end_are_refused() -> None:
    world = World()
    held = blob(8)
    a, b = world.node("a"), world.node("b")
    world.link(a, b)
    world.give(a, held)
    b.want(held[0])
    world.run(0.2)
    raw, id_ = held[0].blob.raw, held[0].id
    with pytest.raises(RemoteProtocolError):
        b.core.received(a.name, m.Have(raw, id_, (0, 9)), world.now)
    with pytest.raises(RemoteProtocolError):
        b.core.received(a.name, m.Have(raw, id_, (), (0, 9)), world.now)
    with pytest.raises(RemoteProtocolError):
        b.core.received(a.name, m.Bitfield(raw, id_, 0, b"\xff\xff"), world.now)


def test_an_abandoned_search_lapses() -> None:
    world = World()
    held = blob(4)
    world.blobs[held[0].blob.raw] = held
    a, b, c = (world.node(name) for name in "abc")
    world.link(a, b)
    world.link(b, c)
    a.want(held[0])
    world.run(3)
    assert held[0].blob.raw in b.core.downloads
    a.core.unwant(held[0].blob.raw, world.now)
    world.run(700)
    for node in (a, b, c):
        assert not node.core.downloads, node.name
        assert not node.core.finding.interests


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["corrupt", "liar", "stall", "unasked", "honest"]), max_size=4),
    st.lists(st.tuples(st.integers(0, 4), st.floats(0.05, 1.5)), max_size=6),
    st.integers(0, 99),
)
@example(["stall", "corrupt", "stall"], [(1, 1.0)], 0)
def test_whatever_peers_do_an_honest_one_is_enough(
    vices: list[str], cuts: list[tuple[int, float]], seed: int
) -> None:
    world, rng = World(), random.Random(seed)
    held = blob(40, seed)
    raw = held[0].blob.raw
    world.blobs[raw] = held
    client = world.node("client")
    peers = [world.node("honest")]
    for number, vice in enumerate(vices):
        more = {} if vice == "honest" else {vice: True}
        peers.append(world.node(f"p{number}", **more))
    for peer in peers:
        if not peer.vice.liar:
            world.give(peer, held)
        world.link(peer, client, rate=rng.uniform(5e5, 5e7), delay=rng.uniform(0.001, 0.1))
    client.want(held[0])
    for victim, pause in cuts:
        world.run(pause, lambda: has(client, raw))
        peer = peers[victim % len(peers)]
        world.cut(peer, client)
        world.run(0.3)
        world.link(peer, client, rate=2e6)
    world.run(40.0, lambda: has(client, raw))
    assert has(client, raw)
    for peer in peers:
        belief = client.core.peers[peer.name]
        if not (peer.vice.corrupt or peer.vice.unasked):
            assert belief.strikes == 0


def beside_one_that_awaits(claims: tuple[float, ...]) -> tuple[World, Node, bytes]:
    """Return one that fetches from a source, and hears at times that a neighbour awaits all."""
    world, held = World(), blob(40)
    a, b, c = (world.node(name) for name in "abc")
    world.give(a, held)
    world.link(a, b, rate=1e6)
    world.link(b, c)
    raw = held[0].blob.raw
    said = m.Have(raw, held[0].id, (), (0, 40))
    for at in claims:
        world.after(at, lambda: b.perform(b.core.received(c.name, said, world.now)))
    b.want(held[0])
    return world, b, raw


def test_what_a_neighbour_awaits_is_left_to_it_for_a_while() -> None:
    free, alone, raw = beside_one_that_awaits(())
    free.run(20, lambda: has(alone, raw))
    world, b, raw = beside_one_that_awaits((0.3, 1.0, 2.0, 3.0))  # again and again gains nothing
    world.run(1.2)
    assert len(b.arrived) < 20
    world.run(20, lambda: has(b, raw))
    assert alone.done_at[raw] < b.done_at[raw] < alone.done_at[raw] + CLAIM_MIN + 0.3


def test_who_awaits_all_by_ever_new_links_delays_a_blob_once() -> None:
    """Three in turn, each of which comes back by a new link, and says that all is on its way."""
    world, held = World(), blob(40)
    a, b, *liars = (world.node(name) for name in "abcde")
    world.give(a, held)
    world.link(a, b, rate=1e6)
    raw = held[0].blob.raw

    def lie(liar: Node) -> None:
        if (liar.name, b.name) in world.wires:
            world.cut(liar, b)
        world.link(liar, b)
        said = m.Have(raw, held[0].id, (), (0, 40))
        world.after(0.1, lambda: b.perform(b.core.received(liar.name, said, world.now)))

    for number in range(60):
        world.after(0.2 + 0.7 * number, partial(lie, liars[number % 3]))
    b.want(held[0])
    world.run(40, lambda: has(b, raw))
    assert has(b, raw)
    assert b.done_at[raw] < 0.2 + 40 * CHUNK / 1e6 + CLAIM_MAX + 0.5


def test_what_a_client_needs_next_is_left_to_nobody() -> None:
    world, b, raw = beside_one_that_awaits((0.3,))
    world.after(0.8, lambda: b.perform(b.core.readers(raw, [30], world.now)))
    world.run(1.4)
    assert 30 in b.arrived
    assert len(b.arrived) < 25  # all else is


def test_neighbours_hear_what_is_on_its_way() -> None:
    world, said = World(), list[m.Have]()
    held = blob(40)
    a, b, c = (world.node(name) for name in "abc")
    world.give(a, held)
    world.link(a, b, rate=1e6)
    world.link(b, c)
    heard = c.core.received

    def listen(peer: bytes, message: m.Message, now: float) -> list[Effect]:
        if isinstance(message, m.Have):
            said.append(message)
        return heard(peer, message, now)

    c.core.received = listen  # type: ignore[method-assign]  # a fake in its place
    b.want(held[0])
    c.want(held[0])
    world.run(20, lambda: has(c, held[0].blob.raw))
    first = next(have for have in said if have.coming)
    came = [number for number, have in enumerate(said) if set(have.runs) & set(first.coming[:1])]
    assert said.index(first) < came[0]  # before it was there
    assert has(c, held[0].blob.raw)
