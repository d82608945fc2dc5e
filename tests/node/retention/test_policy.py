"""Policies, judged by themselves, and by their laws over any set of versions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from formats.releases import Edition
from node.retention.policy import DAY, Policy, judge

NOW = 1_000 * DAY


def edition(version: str, age: float, *names: str, pre: bool = False) -> Edition:
    return Edition(version, NOW - age * DAY, (), names, pre)


def going(*policies: Policy, editions: list[Edition], **used: float) -> list[str]:
    found = judge(policies, "demo", editions, {k: NOW - v * DAY for k, v in used.items()}, NOW)
    return [each.edition.version for each in found if not each.kept]


SOME = [edition("1", 90), edition("2", 60), edition("3", 30), edition("4", 0.5)]


def test_age_count_and_use() -> None:
    assert going(Policy(id="p", max_age=50 * DAY), editions=SOME) == ["1", "2"]
    assert going(Policy(id="p", keep_last=3), editions=SOME) == ["1"]
    assert going(Policy(id="p", keep_last=3, max_age=100 * DAY), editions=SOME) == []
    used = {"1": 2.0}
    found = judge(
        [Policy(id="p", unused_for=20 * DAY)], "demo", SOME, {"1": NOW - used["1"] * DAY}, NOW
    )
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
