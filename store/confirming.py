"""What a home has to say: confirm the files that others published while they were away from it."""

from __future__ import annotations

import sqlalchemy as sa

from store import hlc, projection
from store.authority import Authority
from store.facts import Confirm
from store.schema import files, is_pending, settings

CONFIRM_MAX = 500  # files confirmed at once
PATIENCE = 60.0  # seconds that each member of a home's site leaves to the one before it


def due(connection: sa.Connection, authority: Authority, node: str, *, now: float) -> list[Confirm]:
    """The confirmations that this node owes, oldest files first.

    Of several members at a home's site the first confirms at once, the next ones step in later, so
    that usually one record is written and a dead node holds nothing up.
    """
    if connection.execute(sa.select(files.c.path).where(is_pending).limit(1)).first() is None:
        return []
    found: list[Confirm] = []
    mine = sa.select(settings.c.key, settings.c.value).where(settings.c.kind == "repository")
    for repository, value in connection.execute(mine).all():
        rules = projection.read_rules(value, authority)
        if rules.rank(node) != 0:
            continue
        members = sorted(each for each in rules.homes[0] if authority.is_member(each))
        before = hlc.stamp(now - PATIENCE * (members.index(node) if node in members else 0))
        query = (
            sa.select(files.c.path, files.c.record)
            .where(is_pending, files.c.repository == repository, files.c.hlc <= before + 0xFFFF)
            .order_by(files.c.hlc)
            .limit(CONFIRM_MAX - len(found))
        )
        for path, record in connection.execute(query):
            found.append(Confirm(repository, path, bytes(record)))
        if len(found) >= CONFIRM_MAX:
            break
    return found
