"""The audit log of this node: who tried what, and what came of it.

Refused attempts are only here; writes that succeeded are also in the ledger, which replicates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from store.database import Database
from store.paging import storable
from store.rows import AuditRow
from store.schema import audit

PAGE_MAX = 1000  # entries of one page
TEXT_MAX = 4000  # characters kept of a field: clients choose some of them
RETENTION = 365 * 86400.0  # seconds that entries are kept by default
EXPIRE_MAX = 5000  # entries deleted in one transaction, so that writers are not kept waiting


class AuditLog:
    """Write and read the log, in the local database.  ``clock`` is seconds since 1970."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def write(
        self,
        actor: str,
        action: str,
        target: str,
        outcome: str,
        *,
        address: str = "",
        detail: str = "",
    ) -> None:
        """Add an entry.  Never give it a secret."""
        texts = {
            "actor": actor,
            "action": action,
            "target": target,
            "outcome": outcome,
            "address": address,
            "detail": detail,
        }
        row = {"at": self._clock(), **{name: clean(text) for name, text in texts.items()}}

        def unit(connection: sa.Connection) -> None:
            connection.execute(sa.insert(audit), row)

        await self._database.write(unit)

    async def entries(
        self,
        *,
        before: int | None = None,
        since: float | None = None,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        outcome: str | None = None,
        limit: int = 100,
    ) -> Sequence[AuditRow]:
        """A page of entries, newest first; ``before`` is the last id of the page before."""
        if not storable(*(text for text in (actor, action, target, outcome) if text)):
            return []
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(min(limit, PAGE_MAX))
        if before is not None:
            query = query.where(audit.c.id < before)
        if since is not None:
            query = query.where(audit.c.at >= since)
        wanted = {"actor": actor, "action": action, "target": target, "outcome": outcome}
        for name, text in wanted.items():
            if text is not None:
                query = query.where(audit.c[name] == text)
        found = await self._database.read(lambda c: c.execute(query).all())
        return [AuditRow(*row) for row in found]

    async def expire(self, age: float = RETENTION) -> int:
        """Delete entries older than ``age`` seconds; return how many."""
        old = sa.select(audit.c.id).where(audit.c.at < self._clock() - age).limit(EXPIRE_MAX)
        statement = sa.delete(audit).where(audit.c.id.in_(old))
        total = 0
        while count := await self._database.write(lambda c: c.execute(statement).rowcount):
            total += count
        return total


def clean(text: str) -> str:
    """Text as both databases can hold it, and of bounded length."""
    text = text[:TEXT_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode(errors="replace").decode()
