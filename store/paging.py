"""Walking long results a page at a time, finding many keys, and text as databases compare it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

T = TypeVar("T")

LAST = 0x10FFFF  # the last code point
SURROGATES = range(0xD800, 0xE000)  # no characters: they cannot be encoded


class Paged(AsyncIterator[T], Generic[T]):
    """Iterate over rows, loading the page after the last row seen.  An empty page is the end.

    A class and not a generator, so that a caller may stop half-way without closing it.
    """

    def __init__(self, load: Callable[[T | None], Awaitable[Sequence[T]]]) -> None:
        self._load = load
        self._page: deque[T] = deque()
        self._last: T | None = None

    async def __anext__(self) -> T:
        if not self._page:
            self._page.extend(await self._load(self._last))
            if not self._page:
                raise StopAsyncIteration
        self._last = self._page.popleft()
        return self._last


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of at most ``size``."""
    iterator = iter(items)
    while part := list(itertools.islice(iterator, size)):
        yield part


def keyed(
    columns: Sequence[sa.ColumnElement[Any]], keys: Iterable[Sequence[object]]
) -> Iterator[sa.ColumnElement[bool]]:
    """Conditions that together find the rows with these composite keys, each by an index.

    ``tuple_(…).in_(keys)`` finds the same, but SQLite scans the whole table for it.
    """
    for before, lasts in grouped(keys).items():
        equal = (c == value for c, value in zip(columns[:-1], before, strict=True))
        yield sa.and_(*equal, columns[-1].in_(lasts))


def grouped(keys: Iterable[Sequence[object]]) -> dict[tuple[object, ...], list[object]]:
    """The last parts of composite keys, by what stands before them."""
    groups: dict[tuple[object, ...], list[object]] = {}
    for *leading, last in keys:
        groups.setdefault(tuple(leading), []).append(last)
    return groups


def prefix_end(prefix: str) -> str | None:
    """The smallest text above everything that starts with ``prefix``; None: there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[at]) + 1
        if following in SURROGATES:
            following = SURROGATES.stop
        if following <= LAST:
            return prefix[:at] + chr(following)
    return None


def storable(*texts: str) -> bool:
    """Tell whether a database can hold these texts; if not, they name nothing that is there."""
    return all("\0" not in text and (text.isascii() or encodable(text)) for text in texts)


def encodable(text: str) -> bool:
    """Tell whether text is free of lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def like(text: str) -> str:
    r"""The LIKE pattern that finds ``text`` anywhere, with ``\`` as its escape."""
    escaped = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"
