"""A repository's files as folders.  Reads only.

Folders are not stored: they are what paths have in common.  A listing skips from one entry to the
next by the index of paths, so that a folder of a million files below costs one look, not a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from store import catalog_rows
from store.catalog import between
from store.paging import prefix_end
from store.rows import Artifact
from store.schema import files

LIMIT_MAX = 1000  # entries of one page: each costs a look


@dataclass(frozen=True, slots=True)
class Node:
    """A folder (``artifact`` is None) or a file.  ``name`` is its last part."""

    name: str
    path: str
    artifact: Artifact | None = None

    @property
    def cursor(self) -> str:
        """What ``children`` goes on after: ``a.sig`` stands between a file ``a`` and ``a/``."""
        return self.name if self.artifact else f"{self.name}/"


def children(
    connection: sa.Connection, repository: str, folder: str, after: str, limit: int
) -> Sequence[Node]:
    """A unit: what lies directly in a folder ("" is the top), in byte order, after a cursor.

    A folder and a file of one name, which only hostile records could bring, are both listed.
    """
    prefix = f"{folder}/" if folder else ""
    found: list[Node] = []
    start = f"{prefix}{after}" if after else ""
    folder_end = prefix_end(start) if after.endswith("/") else None
    while len(found) < min(limit, LIMIT_MAX):
        conditions = between(files.c.path, prefix, start)
        if folder_end is not None:  # past all that lies in the folder named last
            conditions[0] = files.c.path >= folder_end
        query = sa.select(files).where(files.c.repository == repository, *conditions)
        row = connection.execute(query.order_by(files.c.path).limit(1)).first()
        if row is None:
            break
        artifact = catalog_rows.artifact(row)
        name, inside, _ = artifact.path[len(prefix) :].partition("/")
        if inside:
            path = f"{prefix}{name}"
            found.append(Node(name, path))
            start, folder_end = path, prefix_end(f"{path}/")
        else:
            found.append(Node(name, artifact.path, artifact))
            start, folder_end = artifact.path, None
    return found
