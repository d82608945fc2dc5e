"""What to look for, and how each database's full-text language says it.  Pure.

Terms hold words of letters and digits only, so that nothing anybody types is read as part of
either language.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

NAMES, WORDS, FILENAMES = "names", "words", "filenames"
PART_MIN = 3  # letters of a part of a name that may be looked for
# A beginning costs memory and time for every document that has a word which begins so.
BEGINNING_MIN = 3  # letters of a word that is looked for as the beginning of others
BEGINNINGS_MAX = 3  # of them in one query
WEIGHTS = {NAMES: "A", WORDS: "B", FILENAMES: "C"}  # PostgreSQL's, best first


@dataclass(frozen=True, slots=True)
class Term:
    """Words that follow each other; the last one is a beginning unless ``whole`` or short.

    Each word is letters and digits only.  ``column`` is NAMES, WORDS, FILENAMES or "" for any.
    """

    words: tuple[str, ...]
    column: str = ""
    whole: bool = False

    @property
    def begins(self) -> bool:
        """Whether the last word is looked for as the beginning of others, too."""
        return not self.whole and len(self.words[-1]) >= BEGINNING_MIN


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for.  ``repositories`` are those that the caller may read: nothing else counts.

    Without terms everything that the filters leave is found, newest first.
    """

    repositories: Sequence[str]
    terms: tuple[Term, ...] = ()
    formats: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    package: str = ""
    version: str = ""
    tag: str = ""
    latest: bool = True  # only the newest version of each package
    exact: str = ""  # a name to put first

    @property
    def bounded(self) -> tuple[Term, ...]:
        """The terms with no more beginnings than may be: the longest stay, others are whole."""
        beginnings = [term for term in self.terms if term.begins]
        beginnings.sort(key=lambda term: len(term.words[-1]), reverse=True)
        cut = set(beginnings[BEGINNINGS_MAX:])
        return tuple(replace(term, whole=True) if term in cut else term for term in self.terms)

    @property
    def parts(self) -> tuple[str, ...]:
        """What names must hold for the terms to be parts of them; empty where that cannot be.

        Whole words, other columns than names and less than PART_MIN letters are no parts.
        """
        texts = tuple(" ".join(term.words) for term in self.terms)
        fit = all(t.column in {"", NAMES} and not t.whole for t in self.terms)
        long = all(len(text) >= PART_MIN for text in texts)
        return texts if fit and long and self.latest else ()


def fts5(terms: Iterable[Term]) -> str:
    """The terms in FTS5's language.  Words hold letters and digits only, so nothing is quoted."""
    parts = []
    for term in terms:
        phrase = f'"{" ".join(term.words)}"' + (" *" if term.begins else "")
        parts.append(f"{term.column} : {phrase}" if term.column else phrase)
    return " AND ".join(parts)


def tsquery(terms: Iterable[Term]) -> str:
    """The terms in PostgreSQL's language."""
    parts = []
    for term in terms:
        weight = WEIGHTS.get(term.column, "")
        marks = [weight] * len(term.words)
        if term.begins:
            marks[-1] = f"*{weight}"
        words = (
            f"'{word}'" + (f":{mark}" if mark else "")
            for word, mark in zip(term.words, marks, strict=True)
        )
        parts.append(f"({' <-> '.join(words)})")
    return " & ".join(parts)
