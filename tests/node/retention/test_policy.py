"""Policies, judged by themselves, and by their laws over any set of versions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from formats.releases import Edition
from node.retention.policy import DAY, Policy, Used, judge

NOW = 1_000 * DAY


def edition(version: str, age: float, *names: str, pre: bool = False) -> Edition:
    return Edition(version, NOW - age * DAY, (), names, pre)


def going(*policies: Policy, editions: list[Edition], **used: float) -> list[str]:
    times = {k: Used(NOW - v * DAY) for k, v in used.items()}
    found = judge(policies, "demo", editions, times, NOW)
    return [each.edition.version for each in found if not each.kept]


SOME = [edition("1", 90), edition("2", 60), edition("3", 30), edition("4", 0.5)]


def test_age_count_and_use() -> None:
    assert going(Policy(id="p", max_age=50 * DAY), editions=SOME) == ["1", "2"]
    assert going(Policy(id="p", keep_last=3), editions=SOME) == ["1"]
    assert going(Policy(id="p", keep_last=3, max_age=100 * DAY), editions=SOME) == []
    used = {"1": Used(NOW - 2.0 * DAY)}
    found = judge([Policy(id="p", unused_for=20 * DAY)], "demo", SOME, used, NOW)
    assert [each.edition.version for each in found] == ["2", "3"]
    assert found[0].why == "not read for 60.0 days"


def test_patterns_names_and_prereleases() -> None:
    some = [edition("sha256:a", 9, "nightly-1"), edition("sha256:b", 9, "1.0"), edition("c", 9)]
    nightly = Policy(id="p", include=("*@nightly-*",), max_age=DAY)
    assert going(nightly, editions=some) == ["sha256:a"]
    spared = Policy(id="p", include=("demo@*",), exclude=("*@1.*", "*@c"), max_age=DAY)
    assert going(spared, editions=some) == ["sha256:a"]
    assert going(Policy(id="p", include=("other@*",), max_age=DAY), editions=some) == []
    pre = Policy(id="p", prereleases=True, max_age=DAY)
    assert going(pre, editions=[edition("1rc1", 9, pre=True), edition("1", 9)]) == ["1rc1"]


def test_what_one_policy_keeps_no_other_removes() -> None:
    remove = Policy(id="b", max_age=DAY)
    assert going(remove, Policy(id="a", keep=True, keep_last=2), editions=SOME) == ["1", "2"]
    assert going(remove, Policy(id="z", keep=True, include=("*@1",)), editions=SOME) == ["2", "3"]
    assert going(remove, Policy(id="z", keep=True, max_age=40 * DAY), editions=SOME) == ["1", "2"]
    saved = judge([remove, Policy(id="z", keep=True)], "demo", SOME, {}, NOW)
    assert {each.kept for each in saved} == {"policy z"}


def test_downloads_beside_an_age() -> None:
    counts = {"1": Used(downloads=3), "2": Used(downloads=2), "4": Used(downloads=0)}

    def left(*policies: Policy) -> list[str]:
        found = judge(policies, "demo", SOME, counts, NOW)
        return [each.edition.version for each in found if not each.kept]

    rare = Policy(id="p", downloads_below=3, max_age=10 * DAY)
    assert left(rare) == ["2", "3"], "1 is read, and 4 is new"
    found = judge([rare], "demo", SOME, counts, NOW)
    assert found[0].why == "published 60.0 days ago, 2 downloads"
    assert left(Policy(id="p", downloads_below=4, unused_for=40 * DAY, keep_last=3)) == ["1"]
    for alone in (
        Policy(id="p", downloads_below=3),
        Policy(id="p", downloads_below=3, keep_last=1),
    ):
        assert left(alone) == [], "by downloads alone all that is new would go"
    assert left(Policy(id="p", downloads_below=3, max_age=DAY / 2)) == [], "others may not be heard"
    old = Policy(id="p", max_age=DAY)
    assert left(old, Policy(id="k", keep=True, downloads_below=2)) == ["3"]
    assert left(old, Policy(id="k", keep=True, downloads_below=2, keep_last=2)) == []


versions = st.lists(
    st.builds(
        edition,
        st.integers(0, 30).map(str),
        st.integers(0, 400).map(float),
        pre=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda each: each.version,
)
policies = st.builds(
    Policy,
    id=st.sampled_from("abc"),
    include=st.sampled_from([(), ("demo@1*",), ("none",)]),
    prereleases=st.booleans(),
    keep=st.booleans(),
    max_age=st.sampled_from([0.0, 100 * DAY]),
    keep_last=st.sampled_from([0, 1, 3]),
    unused_for=st.sampled_from([0.0, 200 * DAY]),
    downloads_below=st.sampled_from([0, 2]),
)


@given(versions, st.lists(policies, max_size=4))
def test_laws(some: list[Edition], rules: list[Policy]) -> None:
    some_going = set(going(*rules, editions=some))
    assert some_going == set(going(*rules, editions=list(reversed(some)))), "no order matters"
    without = [each for each in rules if not each.keep]
    assert some_going <= set(going(*without, editions=some)), "to keep never removes"
    for policy in without:
        if policy.keep_last:
            concerned = [each for each in some if policy.speaks_of("demo", each)]
            alone = going(policy, editions=some)
            assert len(alone) <= max(0, len(concerned) - policy.keep_last)
