"""The order of Debian versions.  Spec: Debian Policy §5.6.12 (Version), deb-version(7)."""

from __future__ import annotations

import re

NUMBER = re.compile(r"(\D*)(\d*)", re.ASCII)
VERSION = re.compile(r"(?:(?P<epoch>\d{1,9}):)?(?P<rest>[A-Za-z0-9][A-Za-z0-9.+:~-]*)\Z", re.ASCII)
VERSION_MAX = 200  # characters
Part = tuple[tuple[tuple[int, ...], int], ...]
Key = tuple[int, Part, Part]
END = ((0,), 0)  # the end of a part: after a tilde, before everything else


def is_version(text: str) -> bool:
    """Tell whether the text may be a version at all."""
    return len(text) <= VERSION_MAX and not text.endswith("-") and VERSION.match(text) is not None


def without_epoch(version: str) -> str:
    """A version as filenames spell it."""
    return re.sub(r"\A\d+:", "", version)


def sort_key(version: str) -> Key:
    """A key that sorts as dpkg compares."""
    found = VERSION.match(version)
    epoch, rest = (found["epoch"] or "0", found["rest"]) if found else ("0", version)
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch), _part(upstream), _part(revision)


def _part(text: str) -> Part:
    """Alternate runs of non-digits and digits; a missing revision equals a revision of 0."""
    pieces = [(_letters(word), int(number or 0)) for word, number in NUMBER.findall(text)]
    while len(pieces) > 1 and pieces[-1] == END:
        pieces.pop()
    return (*pieces, END)


def _letters(word: str) -> tuple[int, ...]:
    """Ranks of characters: tilde, the end, letters, all else.  The end is always there."""
    ranks = [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in word]
    return (*ranks, 0)
