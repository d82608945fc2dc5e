"""Quotas: how many bytes and files a repository, or all that a node lists, may come to.

Usage is the running total of each repository (``store.counting``), which changes in the transaction
of every commit, so it cannot drift from what is there, and costs one row however much that is.
Docs: docs/retention.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from node.directory import RepositoryEntry
from store.bulk import chunks
from store.errors import StoreFullError
from store.facts import Fact, Publish
from store.schema import files, totals


class Quota(NamedTuple):
    """Bounds; 0 is none."""

    bytes: int = 0
    files: int = 0


class Usage(NamedTuple):
    """What there is."""

    bytes: int
    files: int


def usage(connection: sa.Connection, repository: str | None) -> Usage:
    """A unit: what a repository, or (None) every one, comes to."""
    query = sa.select(
        sa.func.coalesce(sa.func.sum(totals.c.size), 0),
        sa.func.coalesce(sa.func.sum(totals.c.files), 0),
    )
    if repository is not None:
        query = query.where(totals.c.repository == repository)
    size, number = connection.execute(query).one()
    return Usage(int(size), int(number))


def check_quota(
    connection: sa.Connection, repository: RepositoryEntry, node: Quota, facts: Sequence[Fact]
) -> None:
    """Refuse what would exceed a quota; what is replaced makes room for what replaces it.

    Raises StoreFullError.
    """
    wanted = {
        file.path: file.size for fact in facts if isinstance(fact, Publish) for file in fact.files
    }
    own = Quota(repository.quota_bytes, repository.quota_files)
    if not wanted or not any((*own, *node)):
        return
    replaced = _replaced(connection, repository.key, list(wanted))
    more = Usage(sum(wanted.values()) - replaced.bytes, len(wanted) - replaced.files)
    for what, quota, key in ((repository.key, own, repository.key), ("this node", node, None)):
        if any(quota):
            _judge(what, quota, usage(connection, key), more)


def _replaced(connection: sa.Connection, repository: str, paths: Sequence[str]) -> Usage:
    size = number = 0
    for part in chunks(paths):
        query = sa.select(sa.func.coalesce(sa.func.sum(files.c.size), 0), sa.func.count()).where(
            files.c.repository == repository, files.c.path.in_(part)
        )
        found, count = connection.execute(query).one()
        size, number = size + int(found), number + count
    return Usage(size, number)


def _judge(what: str, quota: Quota, used: Usage, more: Usage) -> None:
    for unit, bound, held, new in zip(("bytes", "files"), quota, used, more, strict=True):
        if bound and new > 0 and held + new > bound:
            raise StoreFullError(f"{what} holds {held} of {bound} {unit}; {new} more do not fit")
