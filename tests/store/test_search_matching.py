"""Searching for what is common: nothing is missed, nobody waits for all of it, rights hold."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from node.search.words import words
from store import search as module
from store import search_matching
from store.database import Database
from store.search import SearchIndex
from store.search_query import FILENAMES, NAMES, WORDS, Query, Term
from store.search_text import SQLITE, SQLITE_WORDS
from store.search_writing import Document, DocumentKey

# PostgreSQL ends by itself after enough matches, so nothing is looked through there.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PACKAGES = ("alpha", "alpha-tool", "beta-alphabet", "gamma", "tool", "x-alphas")


def document(repository: str, package: str, version: str = "1", **told: Any) -> Document:
    """A document whose words are its package's."""
    names = package.replace("-", " ")
    told = {"words": f"about {names} {version}", "filenames": f"{names} whl", **told}
    return Document(DocumentKey(repository, package, version), repository, names=names, **told)


async def crowd(index: SearchIndex, name: str, count: int) -> None:
    """Fill a repository with packages of like names."""
    await index.put([document("npm", f"{name}-{n}") for n in range(count)], turn=1)


def term(text: str, column: str = "", *, whole: bool = False) -> Term:
    return Term(tuple(text.split()), column, whole)


def common(monkeypatch: pytest.MonkeyPatch, places: int = 1, looked: int = 2) -> None:
    """Let every word of so many places be common."""
    monkeypatch.setattr(search_matching, "COMMON", places)
    monkeypatch.setattr(search_matching, "LOOKED_MAX", looked)
    monkeypatch.setattr(module, "LOOKED_MAX", looked)


@pytest.fixture
async def index(local: Database) -> SearchIndex:
    made = SearchIndex(local)
    await made.prepare()
    documents = [
        document(repository, package, version, updated=number)
        for number, version in enumerate(("1", "2"))
        for repository in ("npm", "private", "pypi")
        for package in PACKAGES
    ]
    await made.put(documents, turn=1)
    return made


async def found(index: SearchIndex, query: Query) -> set[tuple[str, str]]:
    return {(each.repository, each.package) for each in (await index.search(query)).matches}


QUERIES: Sequence[tuple[Term, ...]] = (
    (term("alpha"),),
    (term("alp"),),
    (term("alpha", whole=True),),
    (term("alpha tool"),),
    (term("alpha to"),),
    (term("tool alpha"),),
    (term("alpha", NAMES), term("tool", FILENAMES)),
    (term("about", WORDS), term("whl", FILENAMES), term("gam")),
    (term("about gamma", WORDS, whole=True),),
    (term("whl", NAMES),),
    (term("lph"),),
    (term("lpha"), term("ool")),
    (term("nothing"),),
    (term("alpha"), term("nothing")),
    (term("a"),),
    (term("2"), term("tool")),
)


@pytest.mark.parametrize("terms", QUERIES)
async def test_common_words_find_what_rare_ones_do(
    index: SearchIndex, monkeypatch: pytest.MonkeyPatch, terms: tuple[Term, ...]
) -> None:
    queries = [Query(("npm", "pypi"), terms), Query(("pypi",), terms, latest=False)]
    queries.append(replace(queries[0], package="alpha-tool"))
    rare = [await found(index, each) for each in queries]
    for places in (1, 5, 9, 30):
        common(monkeypatch, places)
        assert [await found(index, each) for each in queries] == rare


async def test_an_exact_name_is_first_among_many(
    index: SearchIndex, local: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await crowd(index, "a-tool", 200)
    common(monkeypatch, looked=20)
    answer = await index.search(Query(("npm", "pypi"), (term("tool"),), exact="tool"))
    assert answer.matches[0].package == "tool"
    assert answer.more == (local.dialect == "sqlite")


@on_sqlite
async def test_few_documents_are_looked_at_where_many_match(
    index: SearchIndex, local: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await crowd(index, "tool", 400)
    common(monkeypatch, looked=250)
    for terms in ((term("tool"),), (term("too"), term("whl"))):
        answer = await index.search(Query(("npm", "pypi"), terms))
        assert 100 <= len(answer.matches) <= 250
        assert answer.more
    names = await index.search(Query(("npm",), (term("ool"),)))
    assert 200 < len(names.matches) <= 250
    assert names.more


async def test_hidden_matches_do_not_hide_visible_ones(
    index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [document("private", f"tool-{n}") for n in range(400)]
    await index.put([*many, document("npm", "z-toolbox")], turn=1)
    common(monkeypatch, places=50, looked=10)
    for text in ("tool", "toolb", "ool"):
        seen = await found(index, Query(("npm",), (term(text),)))
        assert ("npm", "z-toolbox") in seen
        assert {repository for repository, _ in seen} == {"npm"}
        assert await found(index, Query(("nobody",), (term(text),))) == set()


async def test_a_look_that_takes_too_long_shows_what_it_found(
    index: SearchIndex, local: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    common(monkeypatch)
    monkeypatch.setattr(module, "LOOK_SECONDS_MAX", 0.0)
    answer = await index.search(Query(("npm",), (term("tool"),)))
    if local.dialect == "sqlite":
        assert (answer.matches, answer.more) == ([], True)


@on_sqlite
async def test_each_group_of_repositories_has_its_share(
    index: SearchIndex, local: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_matching, "GROUPS_MAX", 2)
    query = Query(("npm", "private", "pypi"), (term("alpha"),))
    place = search_matching.Place.first(query)
    assert place.groups == (("npm", "private"), ("pypi",))
    unit: Any = partial(search_matching.look, query=query, place=place, most=3)
    rows, place = await local.read(unit)
    assert [each.repository for each in rows] == ["npm", "pypi", "pypi"]
    assert (place.passed, place.named) == ((1, 2), True)
    while not place.ended:
        more, place = await local.read(
            partial(search_matching.look, query=query, place=place, most=5)
        )
        rows += more
    assert len({each.id for each in rows}) == 3 * 4


def test_words_are_counted_no_more_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def rare(_: object, word: str, *, begins: bool) -> bool:
        asked.append(word)
        return False

    monkeypatch.setattr(search_matching, "_rare", rare)
    many = term(" ".join(f"w{n}" for n in range(400)), whole=True)

    class Connection:
        dialect = sa.create_engine("sqlite://").dialect

    plan = search_matching._plan(Connection(), (many, many))  # type: ignore[arg-type]  # a fake of it
    assert (plan.looked_up, plan.compared) == ((), (many, many))
    assert len(asked) == search_matching.COUNTED_MAX


def test_what_is_counted_is_the_word_that_the_index_knows() -> None:
    """Or a word that is nowhere in this form would be rare, and looking it up cost anything."""
    letters = [chr(code) for code in range(128, sys.maxunicode + 1) if chr(code).isalnum()]
    spelled = {f"a{letter}b" for letter in letters}
    asked = {word for text in spelled for word in words(text) if len(words(text)) == 1}
    looked_up = [word for word in sorted(asked) if not search_matching.BROKEN.search(word)]
    index = sqlite3.connect(":memory:")
    for statement in (*SQLITE[:1], SQLITE_WORDS):
        index.execute(statement.replace("content='search_documents', content_rowid='id',", ""))
    filled = ((number, word) for number, word in enumerate(looked_up))
    index.executemany("INSERT INTO search_text(rowid, names) VALUES (?, ?)", filled)
    known = [term for (term,) in index.execute("SELECT term FROM search_words ORDER BY doc")]
    index.close()
    assert known == [word.replace("ς", "σ") for word in looked_up]


@on_sqlite
@pytest.mark.parametrize("text", ["tool\u19b0", "\u19b0tool", "toolς"])
async def test_what_the_index_takes_for_other_words_is_not_looked_up_as_rare(
    index: SearchIndex, local: Database, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    await crowd(index, "toolσ", 9)
    common(monkeypatch, places=9)
    unit: Any = partial(search_matching.matches, query=Query(("npm",), (term(text),)))
    assert await local.read(unit) == ([], False)
