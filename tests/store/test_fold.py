"""The fold's rules, one by one, and its law: the order of claims never matters."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from store import fold
from store.facts import (
    Cached,
    Confirm,
    Delete,
    Fact,
    Flag,
    Point,
    Publish,
    Resolve,
    Restore,
    Setting,
)
from store.fold import Claim, FileState, RegisterState, Rules
from tests.store.ledgers import file, publish

HOME = Rules((frozenset({"home"}),))


def claim(number: int, fact: Fact, author: str = "a", hlc: int | None = None) -> Claim:
    return Claim(bytes([number]) * 32, 0, number if hlc is None else hlc, author, fact)


def id_(number: int) -> bytes:
    return bytes([number]) * 32


def digest(content: str) -> str:
    return file("a", content).digest


def files(*claims: Claim, rules: Rules = fold.NO_RULES) -> FileState:
    return fold.resolve_file(claims, rules)


def winner(state: FileState) -> str | None:
    return fold.file_of(state.winner).digest if state.winner else None


# --- files ---------------------------------------------------------------------------------------
def test_equal_bytes_merge_and_the_first_record_stands() -> None:
    state = files(claim(2, publish("a", "x")), claim(1, publish("a", "x")))
    assert (state.winner and state.winner.record, state.conflicted) == (id_(1), False)


def test_rivals_without_a_home_the_first_wins_and_the_conflict_shows() -> None:
    state = files(claim(2, publish("a", "x")), claim(1, publish("a", "y")))
    assert (winner(state), state.conflicted, state.pending) == (digest("y"), True, False)
    tied = files(claim(2, publish("a", "x"), hlc=5), claim(1, publish("a", "y"), hlc=5))
    assert winner(tied) == digest("y")


def test_away_from_home_a_publish_is_pending_until_confirmed() -> None:
    away = claim(1, publish("a", "x"), "away")
    assert files(away, rules=HOME).pending
    assert not files(away, claim(2, Confirm("generic", "a", id_(1)), "home"), rules=HOME).pending
    assert files(away, claim(2, Confirm("generic", "a", id_(1)), "other"), rules=HOME).pending
    assert not files(claim(1, publish("a", "x"), "home"), rules=HOME).pending


def test_the_homes_first_word_orders_rivals() -> None:
    early, late = claim(1, publish("a", "x"), "away"), claim(9, publish("a", "y"), "home")
    state = files(early, late, rules=HOME)
    assert (winner(state), state.pending, state.conflicted) == (digest("y"), False, True)
    confirmed = claim(3, Confirm("generic", "a", id_(1)), "home")
    assert winner(files(early, late, confirmed, rules=HOME)) == digest("x")


def test_a_former_homes_word_counts_where_the_present_one_is_silent() -> None:
    moved = Rules((frozenset({"new"}), frozenset({"old"})))
    rivals = claim(1, publish("a", "x"), "away"), claim(2, publish("a", "y"), "away")
    old = claim(3, Confirm("generic", "a", id_(2)), "old")
    assert winner(files(*rivals, old, rules=moved)) == digest("y")
    new = claim(4, Confirm("generic", "a", id_(1)), "new")
    assert winner(files(*rivals, old, new, rules=moved)) == digest("x")


def test_an_operator_settles_what_it_saw() -> None:
    rivals = [claim(1, publish("a", "x")), claim(2, publish("a", "y"))]
    word = claim(3, Resolve("generic", "a", digest("y"), (id_(1), id_(2))))
    state = files(*rivals, word)
    assert (winner(state), state.conflicted) == (digest("y"), False)
    state = files(*rivals, word, claim(4, publish("a", "z")))
    assert (winner(state), state.conflicted) == (digest("y"), True)
    nobody = claim(5, Resolve("generic", "a", digest("w"), ()))
    assert winner(files(*rivals, nobody)) == digest("x")


def test_a_delete_hides_what_it_saw_and_burns_the_coordinate() -> None:
    gone = claim(2, Delete("generic", "a", (id_(1),)))
    state = files(claim(1, publish("a", "x")), gone)
    assert (state.winner, state.burnt, state.tombstones) == (None, digest("x"), (id_(2),))
    again = files(claim(1, publish("a", "x")), gone, claim(3, publish("a", "x")))
    assert (winner(again), again.conflicted, again.burnt) == (digest("x"), False, digest("x"))


def test_a_publish_that_a_delete_did_not_see_stays() -> None:
    state = files(
        claim(1, publish("a", "x")),
        claim(2, Delete("generic", "a", (id_(1),))),
        claim(3, publish("a", "y")),
    )
    assert (winner(state), state.conflicted) == (digest("y"), True)


def test_a_restore_undoes_the_tombstones_it_saw() -> None:
    story = [
        claim(1, publish("a", "x")),
        claim(2, Delete("generic", "a", (id_(1),))),
        claim(3, Restore("generic", "a", (id_(2),))),
    ]
    assert (winner(files(*story)), files(*story).burnt) == (digest("x"), "")
    assert files(*story, claim(4, Delete("generic", "a", (id_(1),)))).winner is None


def test_mutable_files_newest_wins_and_a_delete_reveals_nothing_older() -> None:
    old, new = (claim(n, publish("a", c, mutable=True)) for n, c in ((1, "x"), (2, "y")))
    state = files(new, old)
    assert (winner(state), state.mutable, state.conflicted) == (digest("y"), True, False)
    gone = claim(3, Delete("generic", "a", (id_(2),)))
    assert (files(old, new, gone).winner, files(old, new, gone).burnt) == (None, "")
    assert winner(files(old, new, gone, claim(4, publish("a", "z", mutable=True)))) == digest("z")


def test_what_is_released_beats_what_is_mutable_and_that_what_is_cached() -> None:
    cached = claim(9, Cached("generic", "p", "1", (file("a", "c"),)))
    mutable = claim(8, publish("a", "m", mutable=True))
    assert winner(files(cached)) == digest("c")
    assert winner(files(cached, mutable)) == digest("m")
    assert winner(files(cached, mutable, claim(1, publish("a", "r")))) == digest("r")
    newer = claim(10, Cached("generic", "p", "1", (file("a", "d"),)))
    assert (winner(files(newer, cached)), files(newer, cached).conflicted) == (digest("d"), False)


# --- registers -----------------------------------------------------------------------------------
def point(number: int, value: bytes | None, *seen: int, author: str = "a") -> Claim:
    return claim(number, Point("r", "p", "n", value, tuple(map(id_, seen))), author)


def flag(number: int, value: bytes | None, *seen: int) -> Claim:
    return claim(number, Flag("r", "p", "1", "", "yanked", value, tuple(map(id_, seen))))


def setting(number: int, value: bytes | None, *seen: int) -> Claim:
    return claim(number, Setting("user", "u", value, tuple(map(id_, seen))))


def test_a_pointer_reads_as_its_last_writer_with_siblings_beside_it() -> None:
    state = fold.resolve_pointer([point(1, b"x"), point(2, b"y"), point(3, b"z", 2)])
    assert (state.value, state.siblings) == (b"z", (b"x",))
    assert state.records == (id_(1), id_(3))
    state = fold.resolve_pointer([point(1, b"x"), point(2, None, 1)])
    assert (state.value, state.records) == (None, (id_(2),))


def test_an_older_writer_that_saw_more_wins() -> None:
    state = fold.resolve_pointer([point(5, b"early"), point(3, b"late", 5)])
    assert (state.value, state.siblings) == (b"late", ())


def test_setting_a_flag_beats_clearing_it_at_the_same_time() -> None:
    assert fold.resolve_flag([flag(1, b"why"), flag(2, None)]).value == b"why"
    assert fold.resolve_flag([flag(1, b"why"), flag(2, None, 1)]).value is None
    assert fold.resolve_flag([flag(1, b"a"), flag(2, None, 1), flag(3, b"b", 2)]).value == b"b"
    assert fold.resolve_flag([flag(1, b"a"), flag(2, b"b", 1), flag(3, None, 1)]).value == b"b"


@pytest.mark.parametrize(
    ("claims", "value"),
    [
        ([setting(1, b"{}"), setting(2, b'{"new":1}')], b'{"new":1}'),
        ([setting(1, None), setting(2, b"{}")], None),
        ([setting(1, b'{"disabled":true}'), setting(2, b"{}")], b'{"disabled":true}'),
        ([setting(1, b'{"is_active":false}'), setting(2, b"{}")], b'{"is_active":false}'),
        ([setting(1, b'{"revoked":true}'), setting(2, b"{}")], b'{"revoked":true}'),
        ([setting(1, b'{"disabled":true}'), setting(2, b"{}", 1)], b"{}"),
        ([setting(1, None), setting(2, b'{"disabled":true}')], None),
        ([setting(1, b"not json"), setting(2, b"[" * 5000)], b"[" * 5000),
    ],
)
def test_among_concurrent_settings_the_narrower_wins(
    claims: list[Claim], value: bytes | None
) -> None:
    assert fold.resolve_setting(claims).value == value


# --- laws ----------------------------------------------------------------------------------------
ids = st.lists(st.integers(1, 12).map(id_), max_size=3).map(tuple)
contents = st.sampled_from(["x", "y", "z"])
file_facts = st.one_of(
    st.builds(publish, st.just("a"), contents, mutable=st.booleans()),
    st.builds(
        Cached,
        st.just("generic"),
        st.just("p"),
        st.just("1"),
        contents.map(lambda c: (file("a", c),)),
    ),
    st.builds(Delete, st.just("generic"), st.just("a"), ids),
    st.builds(Restore, st.just("generic"), st.just("a"), ids),
    st.builds(Confirm, st.just("generic"), st.just("a"), st.integers(1, 12).map(id_)),
    st.builds(Resolve, st.just("generic"), st.just("a"), contents.map(digest), ids),
)
register_values = st.sampled_from([None, b"1", b"2", b'{"disabled":true}'])
register_facts = {
    fold.POINTER: st.builds(Point, *map(st.just, "rpn"), register_values, ids),
    fold.FLAG: st.builds(Flag, *map(st.just, "rpvxn"), register_values, ids),
    fold.SETTING: st.builds(Setting, *map(st.just, "kk"), register_values, ids),
}
rules = st.sampled_from([fold.NO_RULES, HOME, Rules((frozenset({"a", "b"}), frozenset({"home"})))])
times, writers = st.integers(1, 4), st.sampled_from(["a", "b", "home"])


def stories(facts: st.SearchStrategy[Fact]) -> st.SearchStrategy[list[Claim]]:
    parts = st.lists(st.tuples(facts, times, writers), min_size=1, max_size=12)
    return parts.map(
        lambda story: [claim(n, f, who, at) for n, (f, at, who) in enumerate(story, 1)]
    )


@given(story=stories(file_facts), seed=st.integers(0, 999), rule=rules)
def test_files_fold_alike_in_any_order(story: list[Claim], seed: int, rule: Rules) -> None:
    state = fold.resolve_file(story, rule)
    random.Random(seed).shuffle(story)
    assert fold.resolve_file(story, rule) == state
    if state.conflicted or state.pending:
        assert state.winner is not None
        assert not state.mutable
    if state.winner is not None:
        assert isinstance(state.winner.fact, Publish | Cached)


@pytest.mark.parametrize("kind", [fold.POINTER, fold.FLAG, fold.SETTING])
@given(data=st.data(), seed=st.integers(0, 999))
def test_registers_fold_alike_in_any_order(kind: str, data: st.DataObject, seed: int) -> None:
    story = data.draw(stories(register_facts[kind]))
    state = fold.resolve(kind, story)
    assert isinstance(state, RegisterState)
    random.Random(seed).shuffle(story)
    assert fold.resolve(kind, story) == state


@given(st.lists(st.text(max_size=6), min_size=2, max_size=5), st.data())
def test_no_two_cells_share_a_key(parts: list[str], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.text(max_size=6), min_size=len(parts), max_size=len(parts)))
    same = fold.cell_key("p", *parts) == fold.cell_key("p", *others)
    assert same == (parts == others)


def test_a_publish_speaks_about_each_of_its_files() -> None:
    fact = Publish("r", "p", "1", (file("a"), file("b")))
    assert fold.cell_keys(fact) == [fold.file_cell("r", "a"), fold.file_cell("r", "b")]
    assert [part.files for _, part in fold.cells_of(fact)] == [(file("a"),), (file("b"),)]
    assert fold.cell_keys(Delete("r", "a", ())) == [fold.file_cell("r", "a")]
