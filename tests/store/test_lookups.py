"""Remembered answers: of the present revision only, and bounded."""

from __future__ import annotations

from store.lookups import OVERHEAD, Lookups, weight


def test_an_answer_holds_for_its_revision() -> None:
    lookups = Lookups()
    assert lookups.get("q", 1) is None
    lookups.keep("q", 1, None, 10)
    assert lookups.get("q", 1) == (None,)  # that nothing is there is an answer too
    assert lookups.get("q", 2) is None
    lookups.keep("q", 2, "x", 20)
    assert (lookups.get("q", 2), lookups.get("q", 1), lookups.size) == (("x",), None, 20)


def test_the_longest_unused_make_way() -> None:
    lookups = Lookups(size_max=1600)
    for number in range(16):
        lookups.keep(number, 1, number, 100)
    assert lookups.get(0, 1) == (0,)
    lookups.keep("new", 1, "new", 100)
    assert (lookups.get(1, 1), lookups.get(0, 1), len(lookups)) == (None, (0,), 16)
    lookups.keep("huge", 1, "huge", 101)  # would drive out too many others
    assert (lookups.get("huge", 1), lookups.size) == (None, 1600)


def test_weight_counts_texts_and_bytes() -> None:
    assert weight(("ab", "c"), []) == OVERHEAD + 3
    assert weight(("a",), [("text", b"12345", None)]) == 2 * OVERHEAD + 6
