"""Text as search matches it: words of letters and digits, lower case, without accents.  Pure.

Both databases are given these words, and queries are built of them alone, so they agree on what a
word is and no input is ever read as part of a query language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

WORD_MAX = 100  # characters; longer ones are cut
TEXT_MAX = 16_384  # characters of one column
PLAIN = re.compile(r"[a-z0-9]+")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words(text: str) -> list[str]:
    """The words of a text, in order."""
    text = text[:TEXT_MAX]
    if text.isascii():  # nearly all: a tenth of the time
        return [word[:WORD_MAX] for word in PLAIN.findall(text.lower())]
    plain = unicodedata.normalize("NFKD", text)
    kept = "".join(
        each if each.isalnum() else " " for each in plain if not unicodedata.combining(each)
    )
    return [word[:WORD_MAX] for word in kept.lower().split()]


def name_words(name: str) -> list[str]:
    """The words of a name: its parts, CamelCase apart, and the whole without what divides it.

    ``requests-toolbelt`` is also found as ``requeststoolbelt``, and ``@scope/myPackage`` as ``my``.
    """
    parts = words(name)
    humps = parts if name.islower() else words(HUMP.sub(" ", name))
    whole = "".join(parts)
    found = list(parts)
    if humps != parts:
        found += humps
    if len(parts) > 1:
        found.append(whole[:WORD_MAX])
        last = words(name.rpartition("/")[2])
        if 1 < len(last) < len(parts):
            found.append("".join(last)[:WORD_MAX])
    return found


def joined(words_of: Iterable[str]) -> str:
    """Words as a column keeps them."""
    return " ".join(words_of)[:TEXT_MAX]
