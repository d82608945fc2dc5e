"""Which dials go on when a link is up, and which are called off."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mesh.dialling import CROSSING
from mesh.shell.attempts import Attempts

SMALL, LARGE = b"a" * 32, b"b" * 32


class Link:
    def __init__(self, node: bytes, *, dialled: bool, attempt: Any = None) -> None:
        self.node, self.dialled, self.attempt, self.relayed = node, dialled, attempt, False


class Case:
    """A node that dials a peer."""

    def __init__(self, node: bytes, nursery: trio.Nursery) -> None:
        self.control: dict[bytes, Any] = {}
        self.attempts = Attempts(lambda: node, self.control)
        self.ended: list[str] = []
        self.nursery = nursery

    async def dial(self, peer: bytes, name: str) -> None:
        with self.attempts.begun(peer) as scope:
            setattr(self, name, scope)
            await trio.sleep_forever()
        self.ended.append(name)

    async def start(self, peer: bytes, *names: str) -> None:
        for name in names:
            self.nursery.start_soon(self.dial, peer, name)
        await wait_all_tasks_blocked()

    async def up(self, link: Link) -> None:
        self.control[link.node] = link
        self.nursery.start_soon(self.attempts.needless, link)
        await wait_all_tasks_blocked()


async def test_our_own_link_ends_the_other_dials_and_not_itself(nursery: trio.Nursery) -> None:
    case: Any = Case(SMALL, nursery)
    await case.start(LARGE, "first", "second")
    await case.up(Link(LARGE, dialled=True, attempt=case.first))
    assert case.ended == ["second"]
    await case.up(Link(LARGE, dialled=True))  # one that takes over: the first ends by itself
    assert case.ended == ["second"]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("node", "peer"), [(SMALL, LARGE), (LARGE, SMALL)])
async def test_of_links_that_cross_the_smaller_ids_is_given_time(
    node: bytes, peer: bytes, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Each would otherwise end its own for the other's, and both be gone, again and again."""
    case = Case(node, nursery)
    await case.start(peer, "ours")
    await case.up(Link(peer, dialled=False))
    assert case.ended == ([] if node == SMALL else ["ours"])
    await trio.sleep(CROSSING + 0.1)
    assert case.ended == ["ours"]
    nursery.cancel_scope.cancel()


async def test_a_link_that_is_gone_by_then_calls_nothing_off(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    case = Case(SMALL, nursery)
    await case.start(LARGE, "ours")
    await case.up(Link(LARGE, dialled=False))
    del case.control[LARGE]
    await trio.sleep(CROSSING + 0.1)
    assert case.ended == []
    nursery.cancel_scope.cancel()
