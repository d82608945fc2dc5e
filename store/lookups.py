"""Answers to point reads, remembered until their repository changes.

A small download was two fifths lookup: SQLAlchemy takes thirty times as long for a row that is
known as a dictionary does.  The key is the repository's revision, as for rendered documents, so
whatever tells ``Catalog.touched`` of a change forgets what was remembered before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

SIZE_MAX: Final = 8 << 20  # bytes, as estimated by ``weight``
ROWS_MAX: Final = 32  # longer answers become documents, which have a cache of their own
OVERHEAD: Final = 700  # bytes of an entry or a row, its texts of usual length included


class Lookups:
    """Least recently used answers, by question; bounded in bytes.  Not thread-safe."""

    def __init__(self, size_max: int = SIZE_MAX) -> None:
        self._entries: OrderedDict[Hashable, tuple[int, int, Any]] = OrderedDict()
        self._size_max = size_max
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Hashable, revision: int) -> tuple[Any] | None:
        """The answer in a tuple, since None is one, if it is of this revision."""
        entry = self._entries.get(question)
        if entry is None or entry[0] != revision:
            return None
        self._entries.move_to_end(question)
        return (entry[2],)

    def keep(self, question: Hashable, revision: int, answer: Any, size: int) -> None:
        """Remember an answer.  ``revision`` was read before the database was asked."""
        old = self._entries.pop(question, None)
        if old is not None:
            self.size -= old[1]
        if size > self._size_max // 16:
            return
        self._entries[question] = (revision, size, answer)
        self.size += size
        while self.size > self._size_max:
            _, (_, dropped, _) = self._entries.popitem(last=False)
            self.size -= dropped

    def forget(self, question: Hashable) -> None:
        """Let go of an answer that nobody will ask for again."""
        old = self._entries.pop(question, None)
        if old is not None:
            self.size -= old[1]


def weight(texts: tuple[str, ...], rows: list[Any]) -> int:
    """About how many bytes a question and the rows that answer it take."""
    held = sum(OVERHEAD + sum(len(cell) for cell in row if isinstance(cell, bytes)) for row in rows)
    return OVERHEAD + sum(map(len, texts)) + held
