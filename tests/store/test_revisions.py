"""Revisions only grow, and tell apart what changed from what did not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import hlc
from store import revisions as module
from store.revisions import Revisions


def revisions(now: float = 100.0) -> Revisions:
    return Revisions(lambda: now)


def test_a_change_counts_for_its_package_and_its_repository() -> None:
    each = revisions()
    before = {key: each.revision(*key) for key in KEYS}
    each.touched([("pypi", "a")], hlc.stamp(7.0))
    grown = [key for key in KEYS if each.revision(*key) > before[key]]
    assert grown == [("pypi", None), ("pypi", "a")]
    assert each.modified("pypi") == 7.0
    assert each.modified("npm") == 0.0


KEYS: list[tuple[str, str | None]] = [("pypi", None), ("pypi", "a"), ("pypi", "b"), ("npm", None)]


def test_a_change_without_a_package_counts_for_all_of_them() -> None:
    each = revisions()
    each.touched([("pypi", "a")], 1)
    before = [each.revision("pypi", "a"), each.revision("pypi", "b")]
    each.touched([("pypi", "")], 2)
    assert each.revision("pypi", "a") > before[0]
    assert each.revision("pypi", "b") > before[1]


def test_a_late_record_counts_although_its_time_is_old() -> None:
    each = revisions()
    each.touched([("pypi", "a")], hlc.stamp(50.0))
    before = each.revision("pypi")
    each.touched([("pypi", "a")], hlc.stamp(20.0))
    assert each.revision("pypi") > before
    assert each.modified("pypi") == 50.0


def test_a_later_run_starts_above_an_earlier_one() -> None:
    earlier = revisions(100.0)
    for _ in range(1000):
        earlier.touched([("pypi", "a")], 1)
    assert revisions(101.0).revision("pypi") > earlier.revision("pypi")


@given(st.lists(st.tuples(st.floats(0, 1e9), st.sampled_from("ab"))))
def test_revisions_only_grow(changes: list[tuple[float, str]]) -> None:
    now = 0.0
    each = Revisions(lambda: now)
    last = each.revision("r")
    for now, package in changes:  # clocks jump back, too
        each.touched([("r", package)], hlc.stamp(now))
        assert each.revision("r") == each.revision("r", package) > last
        last = each.revision("r")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES_MAX", 10)
    each = revisions()
    seen: dict[int, int] = {}
    for number in range(25):
        each.touched([("r", f"{number}")], 1)
        seen[number] = each.revision("r", f"{number}")
        assert len(each._packages) <= 10
    for number, revision in seen.items():  # forgotten ones count as changed, never as unchanged
        assert each.revision("r", f"{number}") >= revision


def test_loading_again_only_counts_what_is_newer() -> None:
    each = revisions()
    each.load({"a": 5, "b": 5})
    before = each.revision("a"), each.revision("b")
    each.load({"a": 5, "b": 6})
    assert each.revision("a") == before[0]
    assert each.revision("b") > before[1]


def test_names_change_only_where_packages_come_or_go() -> None:
    each = revisions()
    before = each.names("pypi")
    each.touched([("pypi", "a")], 1)
    assert each.names("pypi") == before
    each.touched([("pypi", "b")], 1, named=True)
    assert each.names("pypi") > before
    assert each.names("npm") == before
    last = each.names("pypi")
    each.touched([("pypi", "")], 1)  # nobody knows what changed
    assert each.names("pypi") > last
