"""What the ledger and its helpers need of a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")


class Port(Protocol):
    """Transactions: ``store.database.Database``, or a synchronous one in tests and simulations."""

    async def read(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit that only reads."""
        ...

    async def write(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit and commit it.  It may run more than once."""
        ...
