"""Webhook deliveries that wait, were made, or were given up.  On the node that owns the webhook.

They are written in the transaction that moves the follower on, so an event is never forgotten and
never queued twice, whatever ends the node in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from store import followers
from store.database import Database
from store.schema_followers import deliveries

PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"
STATES = (PENDING, DELIVERED, DEAD)
WAITING_MAX = 10_000  # of one webhook; what comes then is given up at once, and listed
KEPT = 1000  # delivered and dead ones of one webhook that are kept, each
ERROR_MAX = 300  # characters

c = deliveries.c


class Delivery(NamedTuple):
    """One event for one webhook."""

    id: int
    webhook: str
    event: str
    type: str
    body: str
    created: float
    state: str
    attempts: int
    due: float
    status: int  # of the last answer; 0: none
    error: str
    ended: float


class New(NamedTuple):
    """A delivery to be queued."""

    webhook: str
    event: str
    type: str
    body: str


class Deliveries:
    """The queue of one node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def queue(
        self, new: Sequence[New], now: float, *, name: str = "", state: msgspec.Struct | None = None
    ) -> int:
        """Queue deliveries, and keep how far their follower has read; how many found no room."""

        def unit(connection: sa.Connection) -> int:
            waiting: dict[str, int] = {}
            full = 0
            for each in new:
                if each.webhook not in waiting:
                    waiting[each.webhook] = _waiting(connection, each.webhook)
                room = waiting[each.webhook] < WAITING_MAX
                waiting[each.webhook] += room
                full += not room
                ended = {} if room else {"state": DEAD, "error": "too many wait", "ended": now}
                row = {**each._asdict(), "created": now, "due": now, "state": PENDING, **ended}
                empty = {"attempts": 0, "status": 0, "error": "", "ended": 0.0}
                connection.execute(sa.insert(deliveries), {**empty, **row})
            if state is not None:
                followers.put(connection, name, state)
            return full

        return await self._database.write(unit)

    async def due(self, now: float, limit: int = 100) -> list[Delivery]:
        """The deliveries to try now, those that wait longest first."""
        query = sa.select(deliveries).where(c.state == PENDING, c.due <= now)
        return await self._rows(query.order_by(c.due, c.id).limit(limit))

    async def next_due(self) -> float | None:
        """When the next one is to be tried; None if none waits."""
        query = sa.select(sa.func.min(c.due)).where(c.state == PENDING)
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def end(
        self, delivery: Delivery, state: str, now: float, status: int, error: str
    ) -> None:
        """Note that a delivery was made or given up; older ones of its kind are forgotten."""
        values = {"state": state, "ended": now, "status": status, "error": error[:ERROR_MAX]}

        def unit(connection: sa.Connection) -> None:
            mine = sa.update(deliveries).where(c.id == delivery.id)
            connection.execute(mine.values(attempts=delivery.attempts + 1, **values))
            same = (c.webhook == delivery.webhook, c.state == state)
            kept = sa.select(c.id).where(*same).order_by(c.id.desc()).offset(KEPT).limit(1)
            oldest = connection.execute(kept).scalar()
            if oldest is not None:
                connection.execute(sa.delete(deliveries).where(*same, c.id <= oldest))

        await self._database.write(unit)

    async def again(self, delivery: Delivery, due: float, status: int, error: str) -> None:
        """Note a try that failed, and when the next one is due."""
        values = {"due": due, "status": status, "error": error[:ERROR_MAX]}
        mine = sa.update(deliveries).where(c.id == delivery.id)
        changed = mine.values(attempts=delivery.attempts + 1, **values)
        await self._database.write(lambda connection: connection.execute(changed))

    async def redeliver(self, webhook: str, ids: Iterable[int] | None, now: float) -> int:
        """Queue ended deliveries again, or (None) every dead one; how many."""
        mine = [c.webhook == webhook, c.state != PENDING]
        mine.append(c.state == DEAD if ids is None else c.id.in_(list(ids)))
        changed = sa.update(deliveries).where(*mine)
        changed = changed.values(state=PENDING, due=now, attempts=0, error="", ended=0.0)
        return await self._database.write(lambda connection: connection.execute(changed).rowcount)

    async def listed(
        self, webhook: str, state: str = "", after: int = 0, limit: int = 100
    ) -> list[Delivery]:
        """A page of a webhook's deliveries, newest first; ``after`` is the last id seen."""
        query = sa.select(deliveries).where(c.webhook == webhook)
        if state:
            query = query.where(c.state == state)
        if after:
            query = query.where(c.id < after)
        return await self._rows(query.order_by(c.id.desc()).limit(limit))

    async def counts(self, webhook: str) -> dict[str, int]:
        """How many deliveries of a webhook are in each state."""
        query = sa.select(c.state, sa.func.count()).where(c.webhook == webhook).group_by(c.state)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return dict.fromkeys(STATES, 0) | dict(map(tuple, rows))

    async def forget(self, webhook: str) -> None:
        """Forget a webhook's deliveries."""
        gone = sa.delete(deliveries).where(c.webhook == webhook)
        await self._database.write(lambda connection: connection.execute(gone))

    async def _rows(self, query: sa.Select[Any]) -> list[Delivery]:
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Delivery(*row) for row in rows]


def _waiting(connection: sa.Connection, webhook: str) -> int:
    query = sa.select(sa.func.count()).where(c.webhook == webhook, c.state == PENDING)
    return connection.execute(query).scalar() or 0
