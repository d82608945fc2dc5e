"""The order of Maven versions.

Spec: Maven POM reference §Version Order Specification (as Maven 3.9 and later apply it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import zip_longest

QUALIFIERS = ("alpha", "beta", "milestone", "rc", "snapshot", "", "sp")
RELEASES = frozenset({"ga", "final", "release"})  # as good as no qualifier
ALIASES = {"cr": "rc"}
SHORTHANDS = {"a": "alpha", "b": "beta", "m": "milestone"}  # only before a digit
TOKEN = re.compile(r"[0-9]+|[^0-9.-]+|[.-]")


@dataclass(frozen=True, slots=True)
class Text:
    """A qualifier, and the number that was glued to it or stood after one hyphen."""

    value: str
    number: int | None = None

    @property
    def rank(self) -> tuple[int, str]:
        """Known qualifiers in their order, unknown ones after all of them."""
        value = ALIASES.get(self.value, self.value)
        if value in RELEASES:
            value = ""
        if value in QUALIFIERS:
            return QUALIFIERS.index(value), ""
        return len(QUALIFIERS), value


Item = int | Text | list["Item"]
RELEASE = (QUALIFIERS.index(""), "")


def compare(left: str, right: str) -> int:
    """Tell which version is older: negative, zero or positive."""
    return _compare(_parse(left), _parse(right))


def ordered(versions: Iterable[str]) -> list[str]:
    """Versions, oldest first; those that compare equal in the order of their text."""
    parsed = {version: _parse(version) for version in versions}

    def compare_parsed(left: str, right: str) -> int:
        return _compare(parsed[left], parsed[right])

    return sorted(sorted(parsed), key=cmp_to_key(compare_parsed))


# --- reading ------------------------------------------------------------------------------------
class Reader:
    """Builds the nested list that a version becomes: hyphens and changes of kind open sublists."""

    def __init__(self) -> None:
        self.root: list[Item] = []
        self.lists = [self.root]

    def add(self, item: Item) -> None:
        """Append to the innermost list."""
        self.lists[-1].append(item)

    def nest(self) -> None:
        """Open a sublist, unless there is nothing before it."""
        if self.lists[-1]:
            inner: list[Item] = []
            self.add(inner)
            self.lists.append(inner)

    def close(self) -> list[Item]:
        """Drop what counts for nothing, innermost first."""
        for each in reversed(self.lists):
            _normalize(each)
        return self.root


def _parse(version: str) -> list[Item]:
    pieces = TOKEN.findall(version.lower())
    reader, at, empty = Reader(), 0, True  # empty: no item since the last separator
    while at < len(pieces):
        piece = pieces[at]
        at += 1
        if piece in ".-":
            if empty:
                reader.add(0)
            empty = True
            if piece == "-":
                reader.nest()
            continue
        if piece[0].isdigit():
            reader.add(int(piece))
            empty = False
            if at < len(pieces) and not pieces[at][0].isdigit() and pieces[at] not in ".-":
                reader.nest()  # 1a is 1-a
            continue
        at, item = _qualifier(pieces, at, piece)
        if item.number is not None or at == len(pieces):
            reader.nest()  # 1.0.x1 is 1.0-x1, and a last .x is -x
        reader.add(item)
        empty = False
        if item.number is not None and at < len(pieces) and pieces[at] not in ".-":
            reader.nest()
    return reader.close()


def _qualifier(pieces: list[str], at: int, value: str) -> tuple[int, Text]:
    """A qualifier with the number that belongs to it: x1 and x-1 are the same."""
    ahead = at + 1 if at < len(pieces) and pieces[at] == "-" else at
    if ahead < len(pieces) and pieces[ahead][0].isdigit():
        return ahead + 1, Text(SHORTHANDS.get(value, value), int(pieces[ahead]))
    return at, Text(value)


def _normalize(items: list[Item]) -> None:
    for index in range(len(items) - 1, -1, -1):
        if items[index] not in (0, []):
            continue
        after = items[index + 1] if index + 1 < len(items) else None
        first = after[0] if isinstance(after, list) and after else after
        plain = isinstance(after, Text) and after.number is None
        if after is None or plain or (isinstance(after, list) and isinstance(first, Text)):
            del items[index]


# --- comparing ----------------------------------------------------------------------------------
def _compare(left: Item | None, right: Item | None) -> int:
    if left is None:
        return 0 if right is None else -_compare(right, None)
    if isinstance(left, int):
        return _compare_number(left, right)
    if isinstance(left, Text):
        return _compare_text(left, right)
    return _compare_list(left, right)


def _compare_number(left: int, right: Item | None) -> int:
    if right is None:
        return _sign(left, 0)
    return _sign(left, right) if isinstance(right, int) else 1


def _compare_text(left: Text, right: Item | None) -> int:
    if right is None:
        return _sign(left.rank, RELEASE)
    if not isinstance(right, Text):
        return -1
    if left.rank != right.rank:
        return _sign(left.rank, right.rank)
    return _sign(
        -1 if left.number is None else left.number, -1 if right.number is None else right.number
    )


def _compare_list(left: list[Item], right: Item | None) -> int:
    if right is None:
        return next((found for each in left if (found := _compare(each, None))), 0)
    if isinstance(right, int):
        return -1
    if isinstance(right, Text):
        return 1
    pairs = zip_longest(left, right)
    return next((found for one, other in pairs if (found := _compare(one, other))), 0)


def _sign(left: int | tuple[int, str], right: int | tuple[int, str]) -> int:
    return (left > right) - (left < right)  # type: ignore[operator]  # both of one kind
