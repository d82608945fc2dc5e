"""What observers and subscribers hear of commits."""

from __future__ import annotations

import trio

from store.changes import Change, Listeners, changes
from store.facts import Delete, Flag, Point, Setting
from store.fold import FILE, FLAG, SETTING
from store.projection import Touched
from tests.store.ledgers import publish, single


def test_cells_are_sorted_by_repository() -> None:
    found = changes(
        [
            Touched(FILE, "b", "p", "x", 5),
            Touched(FILE, "a", "p", "x", 7),
            Touched(FLAG, "a", "q", "yanked", 6),
            Touched(SETTING, "user", "", "me", 9),
        ]
    )
    assert [(c.packages, c.settings, c.hlc) for c in found] == [
        ([], [("user", "me")], 9),
        ([("a", "p"), ("a", "q")], [], 7),
        ([("b", "p")], [], 5),
    ]
    assert dict(found[1].counts) == {"file": 1, "flag": 1}


async def test_writers_return_after_their_observers() -> None:
    node = await single()
    heard: list[Change] = []

    async def observe(change: Change) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(change)

    node.ledger.observe(observe)
    await node.append(publish("a"), Point("generic", "demo", "latest", b"1"))
    assert [list(change.packages) for change in heard] == [[("generic", "demo")]]
    assert dict(heard[0].counts) == {"file": 1, "pointer": 1}
    await node.append(Setting("user", "me", b"{}"), Flag("generic", "demo", "1", "", "y", b"1"))
    assert [list(change.settings) for change in heard[1:]] == [[("user", "me")], []]
    await node.append(Delete("generic", "a", ()))
    newest = max(row["hlc"] for row in node.rows("records"))
    assert heard[-1].hlc == newest  # the delete's own time, not the file's


async def test_bursts_become_one_and_the_deaf_are_forgotten() -> None:
    listeners = Listeners()
    quick, deaf = listeners.subscribe(), listeners.subscribe()
    for _ in range(3):
        await listeners.tell([])
    quick.receive_nowait()
    deaf.close()
    await listeners.tell([])
    quick.receive_nowait()
    assert len(listeners._subscribers) == 1


async def test_a_cancelled_writer_still_tells() -> None:
    node = await single()
    heard: list[Change] = []

    async def observe(change: Change) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(change)

    node.ledger.observe(observe)
    with trio.CancelScope() as scope:
        scope.cancel()
        await node.ledger.append([publish("a")], actor="me")
    assert len(heard) == len(node.rows("files")) == 1
