"""Putting more versions in order than memory should hold: a database that lies on the disk only.

SQLite keeps a database without a name in a temporary file that nobody else sees, and that goes with
the connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

PAGE = 500  # versions in one step
SCHEMA = """
CREATE TABLE held (version TEXT NOT NULL, published REAL NOT NULL, path TEXT NOT NULL);
CREATE TABLE ordered (place INTEGER PRIMARY KEY, version TEXT NOT NULL);
"""
SORT = """
INSERT INTO ordered (version)
  SELECT version FROM held GROUP BY version ORDER BY max(published) DESC, version DESC;
CREATE INDEX held_version ON held (version);
"""
STEP = """
SELECT ordered.version, held.path FROM ordered JOIN held ON held.version = ordered.version
  WHERE ordered.place > ? AND ordered.place <= ? ORDER BY ordered.place, held.path
"""


class Ordered:
    """Files by version, the newest version first.  Blocks: use it in a thread, a call at a time."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.executescript(SCHEMA)

    def add(self, rows: Iterable[tuple[str, float, str]]) -> None:
        """Take (version, published, path)s."""
        self._database.executemany("INSERT INTO held VALUES (?, ?, ?)", rows)

    def sort(self) -> None:
        """Put them in order; nothing may be added after."""
        self._database.commit()
        self._database.executescript(SORT)

    def steps(self) -> Iterator[dict[str, list[str]]]:
        """The paths of each version, a bounded number of versions at a time."""
        place = 0
        while rows := self._database.execute(STEP, (place, place + PAGE)).fetchall():
            found: dict[str, list[str]] = {}
            for version, path in rows:
                found.setdefault(version, []).append(path)
            yield found
            place += PAGE

    def close(self) -> None:
        """Remove them."""
        self._database.close()
