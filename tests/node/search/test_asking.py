"""What people type: fields, phrases, digests, and nothing that reaches a query language."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.search import asking
from store.errors import RejectedError
from store.search_query import FILENAMES, NAMES, WORDS, Term, fts5, tsquery

READABLE = ("npm", "npm-local", "pypi")


def test_fields_say_where_and_what() -> None:
    asked = asking.read('http name:left-pad "two words" file:a.tgz description:x', READABLE).query
    assert asked.terms == (
        Term(("http",)),
        Term(("left", "pad"), NAMES),
        Term(("two", "words"), "", whole=True),
        Term(("a", "tgz"), FILENAMES),
        Term(("x",), WORDS),
    )
    assert not asked.latest  # file names are looked for in every version
    narrowed = asking.read(
        "format:npm license:mit repository:npm* version:1.0", READABLE, format="yarn, pnpm"
    ).query
    assert narrowed.formats == ("npm", "yarn", "pnpm")
    assert (narrowed.licenses, narrowed.version, narrowed.latest) == (("mit",), "1.0", False)
    assert narrowed.repositories == ["npm", "npm-local"]
    assert asking.read("repository:secret", READABLE).query.repositories == []
    assert asking.read("Left-Pad", READABLE).query.exact == "left-pad"
    assert asking.read("std::vector", READABLE).query.terms == (Term(("std", "vector")),)


def test_what_other_words_imply_is_not_looked_for() -> None:
    def kept(text: str) -> list[str]:
        return [" ".join(term.words) for term in asking.read(text, READABLE).query.terms]

    assert kept("gro grow grown") == ["grown"]
    assert kept("g gr g grown") == ["g", "gr", "grown"], "short words are whole"
    assert kept(" ".join(["same"] * 20)) == ["same"]
    assert kept('"left pad" left') == ["left pad"]
    assert kept('left "left"') == ["left"]
    assert kept("left-pad le pa ft") == ["left pad", "le", "pa", "ft"]
    assert kept("go-kit go") == ["go kit"]
    assert kept('kit-go go "a go"') == ["kit go", "a go"]
    assert kept("name:left lef description:lef") == ["left", "lef"]
    assert kept('name:left file:left "lef"') == ["left", "left", "lef"]


@pytest.mark.parametrize("length", [32, 40, 64, 128])
def test_digests_are_recognised(length: int) -> None:
    value = "Ab" * (length // 2)
    algorithm = asking.BY_LENGTH[length]
    for text in (value, f"{algorithm}:{value}"):
        assert asking.read(text, READABLE).digest == f"{algorithm}:{value.lower()}"
    assert asking.read("g" * length, READABLE).digest == ""


def test_queries_are_bounded() -> None:
    for text in ("x" * 1001, "a " * 21, "version:1 version:2"):
        with pytest.raises(RejectedError):
            asking.read(text, READABLE)


@given(st.text(max_size=80))
def test_no_text_reaches_a_query_language(text: str) -> None:
    try:
        query = asking.read(text, READABLE).query
    except RejectedError:
        return
    assert set(query.repositories) <= set(READABLE)
    for word in (word for term in query.terms for word in term.words):
        assert word.isalnum()
    if query.terms:
        bare = re.sub(r'"[^"]*"( \*)?|(names|words|filenames) : | AND ', "", fts5(query.terms))
        assert bare == ""
        bare = re.sub(r"'[^']*'(:\*?[ABC]?)?|[()]| <-> | & ", "", tsquery(query.terms))
        assert bare == ""
