"""What people look for in a package: its description, keywords and licence.

A format says which file of a version tells it, and how to read that.  Everything here was written
by whoever published: it is bounded, and only ever shown or searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

DESCRIPTION_MAX = 500  # characters
KEYWORDS_MAX = 50
KEYWORD_MAX = 64
LICENSE_MAX = 100
CONTENT_MAX = 1 << 20  # bytes of a file that is read for its description
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError)


@dataclass(frozen=True, slots=True)
class Description:
    """What a version says of itself.  ``make`` bounds it."""

    summary: str = ""
    keywords: tuple[str, ...] = ()
    license: str = ""

    @classmethod
    def make(
        cls, summary: object = "", keywords: Iterable[object] = (), licence: object = ""
    ) -> Description:
        """Take what is text, on one line and within bounds; the rest is left out."""
        words = (_line(each, KEYWORD_MAX) for each in keywords)
        kept = tuple(dict.fromkeys(filter(None, words)))[:KEYWORDS_MAX]
        return cls(_line(summary, DESCRIPTION_MAX), kept, _line(licence, LICENSE_MAX))


@dataclass(frozen=True, slots=True)
class Describe:
    """Where a format's descriptions are.

    ``roles`` are those of the files that tell, the best first.  ``content`` says that the file
    itself is read, else the metadata that the catalog keeps of it.  ``read`` is pure and takes
    hostile bytes: what it raises from MALFORMED means that there is no description.
    """

    roles: tuple[str, ...]
    read: Callable[[bytes], Description]
    content: bool = False

    def describe(self, data: bytes) -> Description:
        """Read a description; an empty one of what cannot be read."""
        try:
            return self.read(data)
        except MALFORMED:
            return Description()


def json_object(data: bytes) -> dict[str, object]:
    """Read a JSON object; raises what is in MALFORMED."""
    found = msgspec.json.decode(data)
    if not isinstance(found, dict):
        raise TypeError("not an object")
    return found


def _line(value: object, limit: int) -> str:
    if not isinstance(value, str):
        return ""
    return " ".join(value[: 4 * limit].replace("\0", " ").split())[:limit].strip()
