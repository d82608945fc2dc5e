"""What a query matches, at a cost that the number of matches does not decide: units of work.

SQLite's FTS5 reads every place of a beginning before it tells of the first, and every place of a
word to rank by it.  So the words of a query that are rare (``search_words`` tells, and counts no
further than COMMON) are looked up, and common ones compared in the documents that those find.
Where all are common, the documents that the caller may read are looked through, those whose name
begins so first, until there are enough: whatever is in each of many is soon found.

PostgreSQL ends when it has enough by itself.

Spec: sqlite.org/fts5.html §4.3.4, §4.4.3, §8 (fts5vocab); PostgreSQL 16 F.35.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from store.paging import like, prefix_end
from store.schema_followers import search_documents
from store.search_query import FILENAMES, NAMES, WORDS, Query, Term, fts5, tsquery
from store.search_text import VECTOR

MATCH_MAX = 10_000  # documents that one query finds; more are said to be "at least" so many
REPOSITORIES_MAX = 20_000
COMMON = 20_000  # places of a word, or of all that begin so, from which on it is common
COUNTED_MAX = 50  # words of one query that are counted; others are taken for common
LOOKED_MAX = 20_000  # documents that are looked at before anybody asks whether to go on
GROUPS_MAX = 50  # of repositories, each of which is looked through beside the others
ENOUGH = 100  # documents, from which on nobody looks for parts of names, or any further
RUN = 3  # letters
RUNS_MAX = 32  # of one part that are looked up; the whole part is compared in any case
PARTIAL = 1.0  # rank of what only a part of its name finds: behind all others
RANKS = {NAMES: -10.0, WORDS: -3.0, FILENAMES: -1.0}  # of a word by where it is, as bm25 is asked
# Letters that came to Unicode, or became such, after FTS5's table was made: it breaks words there.
BROKEN = re.compile("[\u19b0-\u19c0\u19c8\u19c9\u1cf2\u1cf3]")

d = search_documents.c
PLACES = sa.table("search_words", sa.column("term", sa.Text))


class Match(NamedTuple):
    """One document that matches, before it is loaded."""

    id: int
    rank: float
    repository: str
    format: str
    license: str
    package: str
    updated: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Terms that are looked up, and those that are compared in what is found."""

    looked_up: tuple[Term, ...]
    compared: tuple[Term, ...] = ()


class LookedUp(NamedTuple):
    """Matches in no order.  ``ended``: there are no others, but for MATCH_MAX."""

    matches: list[Match]
    ended: bool


# --- looking up ---------------------------------------------------------------------------------
def matches(connection: sa.Connection, query: Query) -> LookedUp:
    """A unit: what matches; parts of names only where words find little.

    Nothing where every word is common: then it is ``look`` that finds.
    """
    plan = _plan(connection, query.bounded)
    if query.terms and not plan.looked_up:
        return LookedUp([], ended=False)
    found = _by_words(connection, query, plan)
    if len(found) >= ENOUGH or not query.parts:
        return LookedUp(found, ended=True)
    known = {each.id for each in found}
    by_parts, ended = _by_parts(connection, query)
    return LookedUp([*found, *(each for each in by_parts if each.id not in known)], ended)


def _plan(connection: sa.Connection, terms: Sequence[Term]) -> Plan:
    if connection.dialect.name != "sqlite":
        return Plan(tuple(terms))
    counted = 0

    @lru_cache(maxsize=COUNTED_MAX)
    def rare(word: str, *, begins: bool = False) -> bool:
        nonlocal counted
        counted += 1
        return counted <= COUNTED_MAX and _rare(connection, word, begins=begins)

    looked_up, compared = list[Term](), list[Term]()
    for term in terms:
        chosen = _looked_up(term, rare)
        looked_up += [chosen] if chosen is not None else []
        compared += [term] if chosen != term else []
    return Plan(tuple(looked_up), tuple(compared))


def _looked_up(term: Term, rare: Callable[..., bool]) -> Term | None:
    """What of a term to look up: all, the words before a common beginning, or nothing."""
    if not term.begins:
        return term if any(map(rare, term.words)) else None
    *before, last = term.words
    if rare(last, begins=True):
        return term
    return replace(term, words=tuple(before), whole=True) if any(map(rare, before)) else None


def _rare(connection: sa.Connection, word: str, *, begins: bool) -> bool:
    """Whether a word, or all that begin so, are in few places; nobody counts further than that.

    What FTS5 would not take for this word is never rare: it is not among the words in this form.
    """
    if BROKEN.search(word):
        return False
    word = word.replace("ς", "σ")  # as it folds them
    same = PLACES.c.term == word
    if begins:
        same = sa.and_(PLACES.c.term >= word, PLACES.c.term < (prefix_end(word) or word))
    counted = _count(sa.select(sa.literal(1)).select_from(PLACES).where(same).limit(COMMON))
    return (connection.execute(counted).scalar() or 0) < COMMON


def _by_words(connection: sa.Connection, query: Query, plan: Plan) -> list[Match]:
    lite = connection.dialect.name == "sqlite"
    rank: Any = sa.literal(0.0)
    table: Any = search_documents
    conditions = [*_filters(query), *map(_holds, plan.compared)]
    terms = plan.looked_up
    if terms and lite:
        table = _matching("search_text")
        conditions.append(sa.text("search_text MATCH :match").bindparams(match=fts5(terms)))
        rank = sa.literal_column("bm25(search_text, 10.0, 3.0, 1.0)")
    elif terms:
        asked = sa.func.to_tsquery(sa.text("'simple'::regconfig"), tsquery(terms))
        vector: sa.ColumnElement[Any] = sa.literal_column(f"({VECTOR})")
        conditions.append(vector.op("@@")(asked))
        rank = -sa.func.ts_rank(vector, asked)
    chosen = _selected(rank).select_from(table).where(*conditions)
    if not terms:
        chosen = chosen.order_by(d.updated.desc())
    return [Match(*row) for row in connection.execute(chosen.limit(MATCH_MAX))]


def _by_parts(connection: sa.Connection, query: Query) -> LookedUp:
    """What has all parts in its name; on SQLite among the first LOOKED_MAX that anybody has."""
    conditions = [*_filters(query), _has_parts(query.parts)]
    if connection.dialect.name != "sqlite":
        chosen = _selected(sa.literal(PARTIAL)).where(*conditions).limit(MATCH_MAX)
        return LookedUp([Match(*row) for row in connection.execute(chosen)], ended=True)
    asked = " AND ".join(f'"{run}"' for part in query.parts for run in runs(part))
    match = sa.text("search_parts MATCH :match").bindparams(match=asked)
    index = sa.table("search_parts", sa.column("rowid", sa.Integer))
    first = sa.select(index.c.rowid.label("id")).where(match).limit(LOOKED_MAX).cte("chosen")
    count = sa.select(sa.func.count()).select_from(first)
    chosen = _selected(sa.literal(PARTIAL)).add_columns(count.scalar_subquery())
    chosen = chosen.select_from(_chosen(first)).where(*conditions).limit(MATCH_MAX)
    rows = connection.execute(chosen).all()  # each with the count
    there = rows[0][-1] if rows else connection.execute(count).scalar() or 0
    return LookedUp([Match(*row[:-1]) for row in rows], ended=there < LOOKED_MAX)


def _matching(index: str) -> sa.FromClause:
    """Documents that an FTS5 index names.

    The plus keeps SQLite from going through the documents and asking the index about each, which
    it would where it overrates a filter: the whole match is made again for every document.
    """
    rowid: sa.ColumnElement[int] = sa.literal_column(f"+{index}.rowid")
    return sa.table(index).join(search_documents, d.id == rowid)


def _chosen(ids: sa.FromClause) -> sa.FromClause:
    """Documents by id, of a query named "chosen" that is made once; the plus is as above."""
    number: sa.ColumnElement[int] = sa.literal_column("+chosen.id")
    return ids.join(search_documents, d.id == number)


def runs(part: str) -> list[str]:
    """The runs of three letters in a part of a name, each once."""
    every = (part[at : at + RUN] for at in range(len(part) - RUN + 1))
    return list(dict.fromkeys(every))[:RUNS_MAX]


# --- looking through ----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Place:
    """How far a look has come: documents passed in each group of repositories, None at its end.

    ``named``: only those are looked at whose name begins as the first word does.
    """

    groups: tuple[tuple[str, ...], ...]
    passed: tuple[int | None, ...]
    named: bool = True

    @classmethod
    def first(cls, query: Query) -> Place:
        """Where a look begins."""
        keys = sorted(query.repositories)[:REPOSITORIES_MAX]
        size = -(-len(keys) // GROUPS_MAX)
        groups = tuple(tuple(keys[at : at + size]) for at in range(0, len(keys), size))
        return cls(groups, (0,) * len(groups))

    @property
    def ended(self) -> bool:
        """Whether everything was looked at."""
        return not self.named and all(each is None for each in self.passed)


def look(
    connection: sa.Connection, query: Query, place: Place, most: int
) -> tuple[list[Match], Place]:
    """A unit: compare the next documents, ``most`` or a few more; each group has its share."""
    found: list[Match] = []
    passed = list(place.passed)
    left = [at for at, each in enumerate(passed) if each is not None]
    for position, at in enumerate(left):
        share = max(1, most // (len(left) - position))
        there = _readable(query, place, at).limit(share).offset(passed[at])
        looked = connection.execute(_count(there)).scalar() or 0
        most -= looked
        if looked:
            found += _compared(connection, query, there)
        passed[at] = None if looked < share else (passed[at] or 0) + share
    if place.named and all(each is None for each in passed):
        return found, Place(place.groups, (0,) * len(passed), named=False)
    return found, replace(place, passed=tuple(passed))


def _readable(query: Query, place: Place, at: int) -> sa.Select[Any]:
    """Ids of the documents of a group of repositories, in the order of an index."""
    chosen = sa.select(d.id).where(d.repository.in_(place.groups[at]))
    if query.latest:
        chosen = chosen.where(d.latest.is_(sa.true()))
    if query.package:
        chosen = chosen.where(d.package == query.package)
    word = next((t.words[0] for t in query.terms if t.column in {"", NAMES}), "")
    if place.named:
        end = prefix_end(word) if word else None
        chosen = chosen.where(d.package >= word, d.package < end if end else sa.false())
    return chosen.order_by(d.repository, d.package)


def _count(chosen: sa.Select[Any]) -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(chosen.subquery())


def _compared(connection: sa.Connection, query: Query, there: sa.Select[Any]) -> list[Match]:
    terms = query.bounded
    words = sa.and_(*map(_holds, terms))
    rank: sa.ColumnElement[Any] = sum(map(_rank, terms), start=sa.literal(0.0))
    if query.parts:
        rank = sa.case((words, rank), else_=PARTIAL)
        words = sa.or_(words, _has_parts(query.parts))
    chosen = (
        _selected(rank)
        .select_from(_chosen(there.subquery("chosen")))
        .where(*_filters(query), words)
    )
    return [Match(*row) for row in connection.execute(chosen.limit(MATCH_MAX))]


def _places(term: Term) -> Iterable[tuple[str, sa.ColumnElement[bool]]]:
    """Where a term may be, and whether it is there: its words follow each other."""
    text = f" {' '.join(term.words)}" + ("" if term.begins else " ")
    for name in (term.column,) if term.column else RANKS:
        padded = sa.literal(" ") + search_documents.c[name] + " "
        yield name, sa.func.instr(padded, text) > 0


def _holds(term: Term) -> sa.ColumnElement[bool]:
    return sa.or_(*(there for _, there in _places(term)))


def _rank(term: Term) -> sa.ColumnElement[Any]:
    return sa.case(*((there, RANKS[name]) for name, there in _places(term)), else_=0.0)


def _has_parts(parts: Iterable[str]) -> sa.ColumnElement[bool]:
    return sa.and_(*(d.names.like(like(part), escape="\\") for part in parts))


# --- either way ---------------------------------------------------------------------------------
def _selected(rank: sa.ColumnElement[Any]) -> sa.Select[Any]:
    names = (d.repository, d.format, d.license, d.package, d.updated)
    return sa.select(d.id, rank.label("rank"), *names)


def _filters(query: Query) -> list[Any]:
    found: list[Any] = [
        d.gone.is_(sa.false()),
        d.repository.in_(list(query.repositories)[:REPOSITORIES_MAX]),
    ]
    if query.latest:
        found.append(d.latest.is_(sa.true()))
    if query.formats:
        found.append(d.format.in_(query.formats))
    if query.licenses:
        found.append(sa.func.lower(d.license).in_([each.lower() for each in query.licenses]))
    if query.package:
        found.append(d.package == query.package)
    if query.version.endswith("*"):
        found.append(d.version.startswith(query.version[:-1], autoescape=True))
    elif query.version:
        found.append(d.version == query.version)
    if query.tag:
        found.append((sa.literal(" ") + d.tags + " ").like(like(f" {query.tag} "), escape="\\"))
    return found
