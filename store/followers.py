"""How far each follower of the journal has read, and what else it must remember."""

from __future__ import annotations

from typing import TypeVar

import msgspec
import sqlalchemy as sa

from store.database import Database
from store.schema_followers import followers

State = TypeVar("State", bound=msgspec.Struct)


class Reading(msgspec.Struct):
    """A place in one node's journal.

    Positions mean nothing in another life of the node: a restored backup counts again from where
    it stood, so whoever read in ``incarnation`` begins anew in the next.
    """

    incarnation: int = 0
    position: int = 0


class Followers:
    """Remembers states by name, in the local database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, name: str, model: type[State]) -> State | None:
        """What was kept under a name; None if nothing was, or nothing that can be read."""
        query = sa.select(followers.c.value).where(followers.c.name == name)
        value = await self._database.read(lambda connection: connection.execute(query).scalar())
        try:
            return None if value is None else msgspec.json.decode(value, type=model)
        except msgspec.DecodeError:
            return None

    async def keep(self, name: str, state: msgspec.Struct) -> None:
        """Keep a state under a name."""
        await self._database.write(lambda connection: put(connection, name, state))


def put(connection: sa.Connection, name: str, state: msgspec.Struct) -> None:
    """A unit: keep a state; for those who write something else in the same transaction."""
    connection.execute(sa.delete(followers).where(followers.c.name == name))
    value = msgspec.json.encode(state).decode()
    connection.execute(sa.insert(followers).values(name=name, value=value))
