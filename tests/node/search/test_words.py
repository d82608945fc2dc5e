"""Words: letters and digits of any script, and nothing that a query language could read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.search.words import TEXT_MAX, WORD_MAX, joined, name_words, words


def test_text_is_cut_and_folded() -> None:
    assert words('Crème "brûlée" -- NEAR(a*)') == ["creme", "brulee", "near", "a"]
    assert words("日本語 ﬁle ½") == ["日本語", "file", "1", "2"]
    assert words("") == words("!'\\;--") == []


def test_names_are_found_by_their_parts_and_as_a_whole() -> None:
    assert name_words("requests-toolbelt") == ["requests", "toolbelt", "requeststoolbelt"]
    assert name_words("@scope/myPackage") == [
        *("scope", "mypackage", "scope", "my", "package", "scopemypackage")
    ]
    assert name_words("HTTPServer") == ["httpserver", "http", "server"]
    assert name_words("org.apache/commons-lang3")[-1] == "commonslang3"
    assert name_words("demo") == ["demo"]


@given(st.text(max_size=300))
def test_words_are_plain(text: str) -> None:
    for word in [*words(text), *name_words(text)]:
        assert word.isalnum()
        assert word == word.lower()
        assert len(word) <= WORD_MAX
    assert len(joined(words(text) * 100)) <= TEXT_MAX
