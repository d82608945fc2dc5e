"""What people type into a search, as a query.  Pure.

Words are all looked for, those of three letters and more as the beginning of a word;
``"quoted words"`` follow each other and are whole.  ``name:``, ``description:``, ``keyword:``,
``file:`` say where; ``version:``, ``license:``, ``format:``, ``repository:``, ``tag:`` say what
else must hold.  A digest, with its algorithm or by its length, finds files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from node.search.words import words
from store.errors import RejectedError
from store.search_query import FILENAMES, NAMES, WORDS, Query, Term

TERMS_MAX = 20
QUERY_MAX = 1000  # characters
PIECE = re.compile(r'([a-z0-9]+:)?(?:"([^"]*)"|(\S+))')
COLUMNS = {
    "name": NAMES,
    "package": NAMES,
    "description": WORDS,
    "keyword": WORDS,
    "keywords": WORDS,
    "file": FILENAMES,
    "filename": FILENAMES,
}
FILTERS = ("version", "license", "format", "repository", "tag")
LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}  # hex characters
BY_LENGTH = {length: name for name, length in LENGTHS.items()}
HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, or a digest (``sha1:…``) that was asked for instead."""

    query: Query
    digest: str = ""


def read(text: str, readable: Sequence[str], **given: str) -> Asked:
    """Read what was typed, for a caller who may read these repositories.

    ``given`` are filters by name, as the API takes them beside the text.  Raises RejectedError.
    """
    if len(text) > QUERY_MAX:
        raise RejectedError(f"a query of more than {QUERY_MAX} characters")
    filters: dict[str, list[str]] = {name: [] for name in FILTERS}
    terms: list[Term] = []
    digest, plain = "", list[str]()
    for field, quoted, bare in PIECE.findall(text):
        name, value = field.rstrip(":"), quoted or bare
        if name in FILTERS:
            filters[name].append(value)
        elif name in LENGTHS or (not name and _digest(bare)):
            digest = f"{name}:{value.lower()}" if name else _digest(bare)
        else:
            kind = COLUMNS.get(name)
            cut = words(value if kind is not None or not name else f"{name} {value}")
            if cut:
                terms.append(Term(tuple(cut), kind or "", whole=bool(quoted)))
            plain += [value] if kind in {None, NAMES} else []
    if len(terms) > TERMS_MAX:
        raise RejectedError(f"a query of more than {TERMS_MAX} terms")
    for name, each in given.items():
        filters[name] += [part.strip() for part in each.split(",") if part.strip()]
    query = Query(
        repositories=_chosen(readable, filters["repository"]),
        terms=needed(terms),
        formats=tuple(filters["format"]),
        licenses=tuple(filters["license"]),
        version=_one("version", filters["version"]),
        tag=_one("tag", filters["tag"]),
        latest=not (filters["version"] or filters["tag"]),
        exact=" ".join(plain).strip().lower(),
    )
    if any(term.column == FILENAMES for term in terms):
        query = replace(query, latest=False)
    return Asked(query, digest)


def needed(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms without those that others imply: each costs all documents that it matches in memory."""
    unique = tuple(dict.fromkeys(terms))
    return tuple(term for term in unique if not any(_implies(other, term) for other in unique))


def _implies(one: Term, other: Term) -> bool:
    """Whether what matches ``one`` matches another term, a single word that nobody quoted."""
    if one == other or other.whole or len(other.words) > 1:
        return False
    if other.column not in {"", one.column}:
        return False
    if other.begins:
        return any(word.startswith(other.words[0]) for word in one.words)
    return other.words[0] in (one.words[:-1] if one.begins else one.words)


def _one(name: str, values: Sequence[str]) -> str:
    if len(set(values)) > 1:
        raise RejectedError(f"more than one {name}")
    return values[0] if values else ""


def _chosen(readable: Sequence[str], patterns: Iterable[str]) -> list[str]:
    """The readable repositories that were asked for; others are as good as not there."""
    named = list(patterns)
    match: Callable[[str], bool] = lambda key: any(fnmatchcase(key, p) for p in named)  # noqa: E731  one line says it
    return [key for key in readable if not named or match(key)]


def _digest(text: str) -> str:
    """Name the algorithm of a bare digest by its length, or ""."""
    lower = text.lower()
    algorithm = BY_LENGTH.get(len(lower))
    return f"{algorithm}:{lower}" if algorithm and HEX.fullmatch(lower) else ""
