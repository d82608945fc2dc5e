"""The full-text index, on both databases: what it finds, for whom, and in which order."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import sqlalchemy as sa

from store import search as module
from store import search_text
from store.database import Database
from store.errors import UnavailableError
from store.search import SearchIndex
from store.search_query import FILENAMES, NAMES, Query, Term, fts5, tsquery
from store.search_text import POSTGRESQL_GONE, SQLITE_GONE
from store.search_writing import Document, DocumentKey

ALL = ("npm", "pypi", "private")


def document(
    repository: str, package: str, version: str = "1.0", path: str = "", **fields: object
) -> Document:
    """Give a document whose words are its package's."""
    key = DocumentKey(repository, package, version, path)
    told: dict[str, object] = {"format": repository, "names": package.replace("-", " "), **fields}
    return Document(key, **told)  # type: ignore[arg-type]  # keywords of Document


def term(text: str, column: str = "", *, whole: bool = False) -> Term:
    return Term(tuple(text.split()), column, whole)


@pytest.fixture
async def index(local: Database) -> SearchIndex:
    made = SearchIndex(local)
    await made.prepare()
    await made.prepare()  # again, at the next start
    await made.put(
        [
            document("npm", "left-pad", words="pads strings mit", license="MIT", updated=1),
            document("npm", "left-pad", "2.0", words="pads strings", license="MIT", updated=2),
            document("pypi", "padding", words="left or right", license="BSD", updated=3),
            document("private", "left-secret", words="strings", updated=4),
            document("npm", "", "", "notes/left.txt", filenames="notes left txt", updated=5),
        ],
        turn=1,
    )
    return made


async def names(index: SearchIndex, query: Query) -> list[str]:
    found = await index.search(query)
    rows = await index.load([each.id for each in found.matches])
    return [f"{r['repository']}/{r['package'] or r['path']} {r['version']}".strip() for r in rows]


async def test_words_begin_and_names_come_first(index: SearchIndex) -> None:
    readable = ("npm", "pypi")
    found = await names(index, Query(readable, (term("left"),)))
    assert found[0] == "npm/left-pad 2.0"
    assert set(found[1:]) == {"pypi/padding 1.0", "npm/notes/left.txt"}
    assert await names(index, Query(readable, (term("stri"), term("pad")))) == ["npm/left-pad 2.0"]
    assert await names(index, Query(readable, (term("stri", whole=True),))) == []
    assert await names(index, Query(readable, (term("left pa"),))) == ["npm/left-pad 2.0"]
    assert await names(index, Query(readable, (term("pad left"),))) == []
    assert await names(index, Query(readable, (term("left", NAMES),))) == ["npm/left-pad 2.0"]
    assert await names(index, Query(readable, (term("left", FILENAMES),))) == ["npm/notes/left.txt"]
    exact = Query(readable, (term("padding"),), exact="padding")
    assert await names(index, exact) == ["pypi/padding 1.0"]


async def test_parts_of_names_come_last(index: SearchIndex) -> None:
    readable = ("npm", "pypi")
    assert await names(index, Query(readable, (term("ddi"),))) == ["pypi/padding 1.0"]
    assert await names(index, Query(readable, (term("ft pa"),))) == ["npm/left-pad 2.0"]
    assert await names(index, Query(readable, (term("add"), term("ing")))) == ["pypi/padding 1.0"]
    assert await names(index, Query(readable, (term("secr"),))) == []
    more = [document("npm", "xpadx", updated=7), document("npm", "pad", "3", updated=6)]
    await index.put(more, turn=1)
    found = await names(index, Query(readable, (term("pad"),)))
    assert found[-1] == "npm/xpadx 1.0"
    assert set(found[:-1]) == {"npm/pad 3", "npm/left-pad 2.0", "pypi/padding 1.0"}
    for nothing in (
        Query(readable, (term("dd"),)),  # too short
        Query(readable, (term("ddi", whole=True),)),
        Query(readable, (term("ddi", FILENAMES),)),
        Query(readable, (term("ddi"),), latest=False),
        Query(readable, (term("ddi"), term("wor"))),
    ):
        assert await names(index, nothing) == []


async def test_parts_are_those_of_the_newest_version(index: SearchIndex) -> None:
    async def found(text: str) -> list[str]:
        return await names(index, Query(("npm",), (term(text, NAMES),)))

    assert await found("eft pa") == ["npm/left-pad 2.0"]
    await index.put([], [DocumentKey("npm", "left-pad", "2.0")], turn=1, keep_gone=True)
    assert await found("eft pa") == ["npm/left-pad 1.0"]
    await index.put([], [DocumentKey("npm", "left-pad", "1.0")], turn=1)
    assert await found("eft pa") == []
    await index.put([document("npm", "left-pad", "2.0", updated=9)], turn=1)
    assert await found("eft pa") == ["npm/left-pad 2.0"]


async def test_an_index_of_an_older_program_learns_parts_of_names(
    index: SearchIndex, local: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = SQLITE_GONE if local.dialect == "sqlite" else POSTGRESQL_GONE

    def older(connection: sa.Connection) -> None:
        for statement in gone:
            if "search_parts" in statement:
                connection.exec_driver_sql(statement)

    await local.write(older)
    monkeypatch.setattr(search_text, "PARTS_RANGE", 2)
    await index.prepare()
    assert index.partial == (local.dialect == "sqlite")
    await index.put([document("npm", "xaddx", updated=7)], turn=1)
    await index.put([], [DocumentKey("npm", "left-pad", "2.0")], turn=1)
    if index.partial:  # what came since, and nothing else; and it is said
        found = await index.search(Query(ALL, (term("add"),)))
        assert ([each.package for each in found.matches], found.more) == (["xaddx"], True)
    await index.put([document("npm", "left-pad", "2.0", updated=9)], turn=1)
    while await index.fill_parts():
        await index.put([document("pypi", "padding", updated=8)], turn=1)
    assert not (await index.search(Query(ALL, (term("add"),)))).more
    await index.put([], [DocumentKey("npm", "xaddx", "1.0")], turn=1)
    assert await names(index, Query(ALL, (term("ddi"),))) == ["pypi/padding 1.0"]
    assert await names(index, Query(("npm",), (term("eft pa", NAMES),))) == ["npm/left-pad 2.0"]


async def test_a_query_that_takes_too_long_is_given_up(
    index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_MAX", 0.0)
    with pytest.raises(UnavailableError, match="too long"):
        await index.search(Query(ALL, (term("left"),)))


async def test_filters_narrow(index: SearchIndex) -> None:
    every = Query(("npm",), latest=False)
    assert await names(index, every) == [
        "npm/notes/left.txt",
        "npm/left-pad 2.0",
        "npm/left-pad 1.0",
    ]
    assert await names(index, Query(("npm",))) == ["npm/notes/left.txt", "npm/left-pad 2.0"]
    for wanted, expected in (
        (Query(("npm",), version="1.0", latest=False), ["npm/left-pad 1.0"]),
        (Query(("npm",), version="1*", latest=False), ["npm/left-pad 1.0"]),
        (Query(("npm",), version="%", latest=False), []),
        (Query(("npm",), package="left-pad"), ["npm/left-pad 2.0"]),
        (Query(ALL, licenses=("bsd",)), ["pypi/padding 1.0"]),
        (Query(ALL, formats=("pypi",)), ["pypi/padding 1.0"]),
        (Query(ALL, formats=("a\0b",)), []),
        (Query(ALL, tag="x' OR 1=1 --"), []),
    ):
        assert await names(index, wanted) == expected


async def test_nothing_of_an_unreadable_repository_is_matched(index: SearchIndex) -> None:
    query = Query(("npm", "pypi"), (term("strings"),), latest=False)
    found = await index.search(query)
    assert {each.repository for each in found.matches} == {"npm"}
    assert (await index.search(Query((), (term("strings"),)))).matches == []
    assert len((await index.search(Query(ALL, (term("strings"),)))).matches) == 2


async def test_documents_are_replaced_and_dropped(index: SearchIndex) -> None:
    await index.put([document("npm", "left-pad", "2.0", words="now aligned", updated=9)], turn=1)
    assert await names(index, Query(ALL, (term("pads"),))) == []
    assert await names(index, Query(ALL, (term("aligned"),))) == ["npm/left-pad 2.0"]
    await index.put([], [DocumentKey("npm", "left-pad", "2.0")], turn=1)
    assert await names(index, Query(("npm",), (term("pads"),))) == ["npm/left-pad 1.0"]
    newest = await index.newest("npm", "left-pad")
    assert newest is not None
    assert newest["version"] == "1.0"
    await index.put([], [DocumentKey("npm", "left-pad", "1.0")], turn=1)
    assert await index.newest("npm", "left-pad") is None
    assert await index.count() == 3


async def test_a_rebuild_drops_what_it_did_not_write(index: SearchIndex) -> None:
    await index.put([document("pypi", "padding", updated=3)], turn=2)
    assert await index.drop_older(2) == 4
    assert await index.drop_older(2) == 0
    assert await names(index, Query(ALL)) == ["pypi/padding 1.0"]


async def test_changes_are_told_in_order_until_forgotten(index: SearchIndex) -> None:
    first = await index.changed(0, 100)
    assert len(first) == 5
    stamps = [row["stamp"] for row in first]
    assert stamps == sorted(set(stamps))
    key = DocumentKey("npm", "left-pad", "2.0")
    await index.put([], [key], turn=1, keep_gone=True)
    later = await index.changed(stamps[-1], 100)
    told = [(row["version"], bool(row["gone"]), bool(row["latest"])) for row in later]
    assert told == [("2.0", True, False), ("1.0", False, True)]
    assert await names(index, Query(("npm",), version="2.0", latest=False)) == []
    await index.forget_gone(later[-1]["stamp"])
    assert [row["version"] for row in await index.changed(stamps[-1], 100)] == ["1.0"]
    await index.put([document("npm", "left-pad", "2.0", updated=9)], turn=1)
    assert await index.load_keys([key, DocumentKey("npm", "x", "1")]) != []


async def test_digests_find_paths_of_readable_repositories(index: SearchIndex) -> None:
    digests = (("md5:00", "a.tgz"), ("md5:00", "a.tgz"), ("sha1:11", "a.tgz"))
    await index.put([document("npm", "digested", digests=digests)], turn=1)
    await index.put([document("private", "digested", digests=digests)], turn=1)
    assert await index.by_digest("md5:00", ["npm"], 10) == [("npm", "a.tgz")]
    assert await index.by_digest("md5:00", ["npm", "private"], 1) == [("npm", "a.tgz")]
    assert await index.by_digest("md5:\0", ["npm"], 10) == []
    await index.put([], [DocumentKey("npm", "digested", "1.0")], turn=1)
    assert await index.by_digest("md5:00", ["npm"], 10) == []


async def test_tagged_versions_are_found_again(index: SearchIndex) -> None:
    await index.put([document("npm", "left-pad", "1.0", tags="old stable")], turn=1)
    assert await index.tagged("npm", "left-pad") == ["1.0"]
    stable = Query(("npm",), tag="stable", latest=False)
    assert await names(index, stable) == ["npm/left-pad 1.0"]
    assert await names(index, Query(("npm",), tag="stab", latest=False)) == []


@pytest.mark.parametrize("language", [fts5, tsquery])
def test_the_languages_hold_words_only(language: object) -> None:
    def asked(terms: Iterable[Term]) -> str:
        return str(language(terms))  # type: ignore[operator]  # any of the languages

    assert asked([term("a b"), term("c", NAMES, whole=True)]) in {
        '"a b" AND names : "c"',
        "('a' <-> 'b') & ('c':A)",
    }
    assert asked([term("a bcd"), term("bcd", whole=True)]) in {
        '"a bcd" * AND "bcd"',
        "('a' <-> 'bcd':*) & ('bcd')",
    }


async def test_short_words_are_whole(index: SearchIndex) -> None:
    await index.put([document("npm", "le-go", updated=6), document("npm", "go", updated=7)], turn=1)
    found = await index.search(Query(ALL, (term("le"),)))
    assert ([each.package for each in found.matches], found.more) == (["le-go"], False)
    assert set(await names(index, Query(("npm",), (term("go"),)))) == {
        "npm/go 1.0",
        "npm/le-go 1.0",
    }
    assert await names(index, Query(ALL, (term("l"),))) == []
    assert await names(index, Query(("npm",), (term("left pa"),))) == ["npm/left-pad 2.0"], "a part"


async def test_few_words_of_a_query_are_beginnings_and_the_answer_says_so(
    index: SearchIndex,
) -> None:
    words = "alpha bravos charlies deltas"
    await index.put([document("npm", "phonetic", words=words, updated=6)], turn=1)
    three = (term("bravo"), term("charlie"), term("delta"))
    found = await index.search(Query(ALL, three))
    assert ([each.package for each in found.matches], found.more) == (["phonetic"], False)
    found = await index.search(Query(ALL, (term("alph"), *three)))
    assert ([each.package for each in found.matches], found.more) == ([], True), "alph is whole"
    found = await index.search(Query(ALL, (*three, term("alpha"))))
    assert ([each.package for each in found.matches], found.more) == (["phonetic"], True)
    wholes = (term("bravos", whole=True), *three[1:], term("alpha", whole=True))
    found = await index.search(Query(ALL, wholes))
    assert ([each.package for each in found.matches], found.more) == (["phonetic"], False)
