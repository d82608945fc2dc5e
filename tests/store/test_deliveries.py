"""The queue of deliveries: in order, bounded, and ended ones can be queued again."""

from __future__ import annotations

import pytest

from store import deliveries
from store.database import Database
from store.deliveries import DEAD, DELIVERED, PENDING, Deliveries, New
from store.followers import Followers, Reading


def new(number: int, webhook: str = "hook") -> New:
    return New(webhook, f"event-{number}", "artifact.created", "{}")


async def test_deliveries_live_and_end(local: Database) -> None:
    queue = Deliveries(local)
    assert await queue.next_due() is None
    assert await queue.queue([new(1), new(2)], 10.0, name="w", state=Reading(1, 5)) == 0
    assert await Followers(local).load("w", Reading) == Reading(1, 5)
    assert await queue.due(9.0) == []
    first, second = await queue.due(10.0)
    assert (first.event, first.attempts, first.state) == ("event-1", 0, PENDING)
    await queue.again(first, 40.0, 500, "x" * 1000)
    assert [each.event for each in await queue.due(10.0)] == ["event-2"]
    (late,) = [each for each in await queue.due(40.0) if each.id == first.id]
    assert (late.attempts, late.status, len(late.error)) == (1, 500, deliveries.ERROR_MAX)
    await queue.end(second, DELIVERED, 11.0, 200, "")
    await queue.end(late, DEAD, 41.0, 500, "gave up")
    assert await queue.counts("hook") == {PENDING: 0, DELIVERED: 1, DEAD: 1}
    (dead,) = await queue.listed("hook", DEAD)
    assert (dead.attempts, dead.error, dead.ended) == (2, "gave up", 41.0)
    assert await queue.redeliver("other", None, 50.0) == 0
    assert await queue.redeliver("hook", None, 50.0) == 1
    (again,) = await queue.due(50.0)
    assert (again.event, again.attempts) == ("event-1", 0)
    assert await queue.redeliver("hook", [second.id, again.id], 60.0) == 1
    assert await queue.next_due() == 50.0
    listed = await queue.listed("hook")
    assert [each.id for each in listed] == [second.id, first.id]
    assert [each.id for each in await queue.listed("hook", after=second.id)] == [first.id]
    await queue.forget("hook")
    assert await queue.listed("hook") == []


async def test_a_queue_is_bounded(local: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "WAITING_MAX", 2)
    monkeypatch.setattr(deliveries, "KEPT", 1)
    queue = Deliveries(local)
    assert await queue.queue([new(n) for n in range(3)] + [new(9, "other")], 1.0) == 1
    assert await queue.counts("hook") == {PENDING: 2, DELIVERED: 0, DEAD: 1}
    for each in await queue.due(1.0):
        await queue.end(each, DELIVERED, 2.0, 200, "")
    assert await queue.counts("hook") == {PENDING: 0, DELIVERED: 1, DEAD: 1}
