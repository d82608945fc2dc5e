"""Followers remember where they stood."""

from __future__ import annotations

import msgspec

from store import schema, schema_followers
from store.database import Database
from store.followers import Followers, Reading


class Other(msgspec.Struct, forbid_unknown_fields=True):
    """A state of another shape."""

    name: str


async def test_states_are_kept_by_name(local: Database) -> None:
    followers = Followers(local)
    assert await followers.load("search", Reading) is None
    await followers.keep("search", Reading(3, 7))
    await followers.keep("search", Reading(3, 8))
    await followers.keep("hooks", Reading(1, 1))
    assert await followers.load("search", Reading) == Reading(3, 8)
    assert await followers.load("search", Other) is None  # as good as none: begin anew


def test_their_tables_are_part_of_the_local_database() -> None:
    assert schema_followers.followers.metadata is schema.local
