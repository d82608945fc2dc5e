"""Errands between two ends of a pretended link, in virtual time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio

from mesh.messages import Errand
from mesh.shell.errands import ASKED, DONE, ERRANDS_MAX, FAILED, SILENCE, Errands

A, B, FAR = b"a" * 32, b"b" * 32, b"f" * 32
SITES = {A: "here", B: "here", FAR: "there"}


class Links:
    """Control links that hand messages to the other end at once."""

    def __init__(self, me: bytes) -> None:
        self.me = me
        self.control: dict[bytes, object] = {}
        self.ends: dict[bytes, Errands] = {}
        self.sent: list[Errand] = []

    def send(self, peer: bytes, message: Errand) -> None:
        self.sent.append(message)
        if peer in self.ends:
            self.ends[peer].heard(self.me, message)


def end(me: bytes) -> tuple[Errands, Links]:
    members = {node.hex(): SimpleNamespace(site=site) for node, site in SITES.items()}
    authority = SimpleNamespace(members=lambda: members)
    links = Links(me)
    return Errands(links, SimpleNamespace(node=me.hex(), authority=authority)), links


def pair() -> tuple[Errands, Errands, Links, Links]:
    a, b = end(A), end(B)
    a[1].control[B] = a[1].control[FAR] = b[1].control[A] = object()
    a[1].ends[B], b[1].ends[A] = b[0], a[0]
    return a[0], b[0], a[1], b[1]


def test_both_ends_choose_the_same_node_of_their_site() -> None:
    a, b, links, _ = pair()
    chosen = {(a.chosen(str(n)), b.chosen(str(n))) for n in range(50)}
    assert chosen == {(None, A), (B, None)}
    links.control.clear()
    assert a.chosen("0") is None


async def test_an_errand_is_done_however_long_it_takes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    a, b, _, links = pair()
    done: list[tuple[str, ...]] = []

    async def perform(*what: str) -> bool:
        await trio.sleep(10 * SILENCE)
        done.append(what)
        return True

    b.perform = perform
    await nursery.start(b.run)
    assert await a.ask(B, "r", "/p", "*/*")
    assert done == [("r", "/p", "*/*")]
    assert links.sent[-1].step == DONE


@pytest.mark.parametrize("how", ["fails", "cannot", "silent", "cut", "full", "malformed"])
async def test_an_errand_that_is_not_done_ends(
    how: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    a, b, links, others = pair()

    async def perform(*what: str) -> bool:
        if how in {"cut", "full"}:
            await trio.sleep_forever()
        return False

    b.perform = None if how == "cannot" else perform
    await nursery.start(b.run)
    if how == "silent":
        links.ends.clear()
    if how == "cut":
        nursery.start_soon(cut_later, links)
    if how == "full":
        for number in range(ERRANDS_MAX):
            b.heard(A, Errand(number, ASKED, ("r", "/p", "")))
    if how == "malformed":
        b.heard(A, Errand(7, ASKED, ("r",)))
        assert others.sent[-1].step == FAILED
    assert not await a.ask(B, "r", "/p", "")
    nursery.cancel_scope.cancel()


async def cut_later(links: Links) -> None:
    await trio.sleep(2.5)
    links.control.clear()
