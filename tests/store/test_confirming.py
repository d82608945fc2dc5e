"""The home confirms what was published elsewhere; somebody else of its site steps in later."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
import trio
from trio.testing import MockClock

from store import confirming
from store.facts import Setting
from tests.store.ledgers import deliver, mesh, publish, single


async def test_the_home_confirms_what_reaches_it() -> None:
    home, away = await mesh(2, sites=("reef", "shore"))
    await home.append(Setting("repository", "generic", b'{"home":"reef"}'))
    await deliver(home, away)
    await away.append(publish("a"), publish("b", repository="free"))
    assert await away.ledger.confirm() == 0
    assert [row["pending"] for row in away.rows("files")] == [False, True]
    await deliver(away, home)
    assert await home.ledger.confirm() == 1
    assert await home.ledger.confirm() == 0
    await deliver(home, away)
    assert away.catalog() == home.catalog()
    assert not any(row["pending"] or row["conflicted"] for row in away.rows("files"))


async def test_others_of_the_site_wait_their_turn() -> None:
    one, two, away = await mesh(3, sites=("reef", "reef", "shore"))
    first, second = sorted((one, two), key=lambda node: node.ledger.node)
    await one.append(Setting("repository", "generic", b'{"home":"reef"}'))
    await deliver(one, away)
    await away.append(publish("a"))
    await deliver(away, second)
    assert await second.ledger.confirm() == 0
    second.clock.now += 61
    assert await second.ledger.confirm() == 1
    await deliver(second, first)
    await deliver(away, first)
    assert await first.ledger.confirm() == 0


async def test_the_ledgers_own_task_does_both(autojump_clock: MockClock) -> None:
    home, away = await mesh(2, sites=("reef", "shore"))
    await home.append(Setting("repository", "generic", b'{"home":"reef"}'))
    home.ledger._clock = lambda: away.clock.now - 700  # so that what comes is held at first
    await away.ledger.adopt((await home.ledger.roots())[-1])
    await away.ledger.apply(await home.batches())
    await away.append(publish("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(home.ledger.run)
        await trio.sleep(5)
        await home.ledger.apply(await away.batches())
        assert home.rows("files") == []
        home.ledger._clock = away.clock
        await trio.sleep(60)
        assert [row["pending"] for row in home.rows("files")] == [False]
        nursery.cancel_scope.cancel()


async def test_looking_for_what_is_pending_scans_nothing() -> None:
    """A commit is followed by this look: it must not cost what the whole catalog holds."""
    node = await single()
    await node.append(publish("a"))

    def plans(connection: sa.Connection) -> list[str]:
        found: list[str] = []

        def explain(_c: object, _d: object, statement: str, values: Any, *_: object) -> None:
            raw = connection.connection.driver_connection
            assert raw is not None
            found.extend(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", values))

        sa.event.listen(connection, "before_cursor_execute", explain)
        confirming.due(connection, node.ledger.authority, node.ledger.node, now=time.time())
        sa.event.remove(connection, "before_cursor_execute", explain)
        return found

    assert await node.port.read(plans) == ["SCAN files USING INDEX files_pending"]
