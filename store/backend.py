"""What the port needs of a database.  ``store.sqlite`` and ``store.postgresql`` implement it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
Unit = Callable[[sa.Connection], T]


class Backend(Protocol):
    """Transactions, each one unit.  Lives on an asyncio event loop.

    Exceptions are the driver's, in SQLAlchemy's wrapping; ``store.failures`` knows what they mean.
    """

    dialect: str
    directory: Path | None  # where the file lies, if there is one

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit on one snapshot, read-only.  Cancelling stops it and keeps the connection."""
        ...

    async def write(self, unit: Unit[T], committing: Callable[[], None]) -> T:
        """Run a unit alone among all writers, and commit it.

        ``committing`` is called when all that remains is the commit, from any thread.  Not to be
        called concurrently.
        """
        ...

    def connect(self) -> sa.Connection | None:
        """Open a connection for short reads on the calling thread, if the database is that near."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
