"""Several manifests of one blob, of which no record says which is right."""

from __future__ import annotations

import pytest

from mesh import messages as m
from mesh.effects import Effect, Finish, Open
from mesh.receiving import DRY_MAX
from store.chunks import Manifest
from tests.mesh.world import Node, World, blob


def made_up(held: tuple[Manifest, bytes]) -> tuple[Manifest, bytes]:
    """Return a manifest of other bytes, and those."""
    other, data = blob(len(held[0].chunks), seed=9)
    return Manifest(held[0].blob, held[0].size, other.chunks), data


class Rivals:
    """One that hears of a made-up manifest first, and what its disk is slow to do."""

    def __init__(self, slow: type[Effect]) -> None:
        self.world, self.held = World(), blob(40)
        self.rival, self.raw = made_up(self.held), self.held[0].blob.raw
        names = ("bad", "good", "c")
        self.bad, self.good, self.c = (self.world.node(name) for name in names)
        self.bad.whole[self.raw] = self.rival
        self.world.give(self.good, self.held)
        self.due: list[Effect] = []
        self.perform_one = self.c.perform_one

        def perform_one(effect: Effect) -> None:
            if isinstance(effect, slow):
                self.due.append(effect)
            else:
                self.perform_one(effect)

        self.c.perform_one = perform_one  # type: ignore[method-assign]  # a fake in its place
        self.world.link(self.bad, self.c)
        self.c.want(self.held[0], signed=False)
        self.until(1)
        self.world.link(self.good, self.c)
        self.c.want(self.held[0])  # as a record says

    def until(self, count: int) -> None:
        self.world.run(20.0, lambda: len(self.due) == count)
        assert len(self.due) == count


@pytest.mark.parametrize("late", [False, True])
def test_the_verdict_on_a_manifest_believed_no_longer_hurts_no_other(late: bool) -> None:
    """It made the authentic one refused for ever, and its honest giver got a strike."""
    rivals = Rivals(Finish)
    c, world, raw = rivals.c, rivals.world, rivals.raw
    if late:
        rivals.until(2)  # all of the authentic one is here, too, and not judged yet
    assert c.core.finished(rivals.rival[0], world.now, right=False) == []
    rivals.until(2)
    ids = (rivals.rival[0].id, rivals.held[0].id)
    assert rivals.due == [Finish(raw, manifest) for manifest in ids]
    assert ids[1] not in c.core.downloads[raw].refused
    rivals.perform_one(rivals.due[1])
    assert c.whole[raw][0].id == ids[1]
    assert not c.core.peers[rivals.good.name].strikes


def test_what_is_whole_by_a_manifest_believed_no_longer_is_told_by_that() -> None:
    rivals = Rivals(Finish)
    c, raw = rivals.c, rivals.raw
    other = Manifest(rivals.held[0].blob, 7, [])
    c.perform(c.core.received(rivals.bad.name, m.Find(raw, 0, b"", 0, (rivals.bad.name,)), 0.0))
    effects = c.core.finished(other, rivals.world.now, right=True)
    said = [getattr(effect, "message", None) for effect in effects]
    assert m.HaveBlob(raw, m.COMPLETE, 7, other.id) in said
    assert raw not in c.core.downloads


def test_what_is_opened_for_a_manifest_believed_no_longer_counts_for_no_other() -> None:
    rivals = Rivals(Open)
    c, now = rivals.c, rivals.world.now
    download = c.core.downloads[rivals.raw]
    assert c.core.opened(rivals.rival[0], 1, now) == []  # nor before the pages have come
    rivals.until(2)
    assert c.core.opened(rivals.rival[0], 1, now) == []
    assert (download.open, download.have) == (False, 0)
    c.perform(c.core.opened(rivals.held[0], 2, now))
    assert (download.open, download.have) == (True, 2)


def silent(node: Node, raw: bytes, manifest: bytes, size: int) -> None:
    """Let a node name a manifest of one blob, and say nothing more."""

    def heard(peer: bytes, message: m.Message, *, bulk: bool) -> None:
        if isinstance(message, m.Find) and message.blob == raw:
            said = m.HaveBlob(raw, m.COMPLETE, size, manifest)
            node.world.send(node.name, peer, said, bulk=False)

    node.heard = heard  # type: ignore[method-assign]  # a fake in its place


def test_nothing_is_in_vain_of_which_we_had_no_room_to_ask_for_anything() -> None:
    """What a client waits for fills all that the honest one may owe us."""
    world, urgent, held = World(), blob(120, seed=1), blob(40)
    raw, size = held[0].blob.raw, held[0].size
    good, bad, c = (world.node(name) for name in ("good", "bad", "c"))
    world.give(good, urgent)
    world.give(good, held)
    silent(bad, raw, bytes(32), size)
    world.link(good, c, rate=1.5e5)
    world.link(bad, c)
    c.want(urgent[0])
    c.perform(c.core.want(raw, world.now, priority=m.COURIER))
    world.run(4.5 * DRY_MAX)
    holders = c.core.downloads[raw].holders
    assert urgent[0].blob.raw not in c.whole
    assert holders[good.name].vain == 0
    assert holders[bad.name].vain > 0
    assert c.core.downloads[raw].have == 0
    world.run(60.0, lambda: urgent[0].blob.raw in c.whole)
    world.run(DRY_MAX + len(held[1]) / 1.5e5 + 2.0, lambda: raw in c.whole)
    assert raw in c.whole


def test_who_comes_after_many_vain_turns_has_its_own_soon() -> None:
    """Two liars that were tried in turn had 640 s each by then."""
    world, held = World(), blob(40)
    raw = held[0].blob.raw
    good, bad, worse, c = (world.node(name) for name in ("good", "bad", "worse", "c"))
    silent(bad, raw, bytes(32), 7_000_000)
    silent(worse, raw, b"x" * 32, 8_000_000)
    world.link(bad, c)
    world.link(worse, c)
    c.want(held[0], signed=False)
    world.run(20 * DRY_MAX)
    assert min(holder.vain for holder in c.core.downloads[raw].holders.values()) > 1
    world.give(good, held)
    world.link(good, c)
    world.run(DRY_MAX + 2.0, lambda: raw in c.whole)
    assert raw in c.whole
