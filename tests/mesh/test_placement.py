"""Placement: rules by example, the choice of members by property."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.placement import (
    DEFAULT,
    LOCAL,
    PINNED,
    Candidate,
    Pin,
    Policy,
    Rule,
    Target,
    Traits,
    Use,
    choose,
    read_target,
    spread,
)
from store.errors import RejectedError

DAY = 86400.0


def node(index: int) -> str:
    return hashlib.sha256(b"%d" % index).hexdigest()


def blob(index: int) -> bytes:
    return hashlib.sha256(b"blob %d" % index).digest()


def members(*sites: str) -> list[Candidate]:
    return [Candidate(node(index), site) for index, site in enumerate(sites)]


USE = Use("wheels", "numpy", "numpy/numpy-2.whl", 1000, 0.0)


def decide(policy: Policy, use: Use = USE, *, now: float = 1.0, reads: int = 0):
    return policy.place(blob(1), "sha256:" + blob(1).hex(), [use], now=now, reads=reads)


@pytest.mark.parametrize(
    "text", ["everywhere", "on-demand", "replicas:3", "sites:harbour", "sites:harbour,ship/2"]
)
def test_targets_are_read_as_they_are_written(text: str) -> None:
    assert str(read_target(text)) == text


@pytest.mark.parametrize(
    "text", ["", "nowhere", "replicas:0", "replicas:x", "replicas:1001", "sites:", "everywhere:2"]
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(RejectedError):
        read_target(text)


def test_the_first_rule_that_matches_decides_then_the_repository_then_the_node() -> None:
    two = tuple(members("a", "b"))
    rules = (
        Rule("big", read_target("replicas:1"), size_min=10_000),
        Rule("numpy", read_target("everywhere"), packages=("num*",)),
    )
    traits = {"wheels": Traits("pypi", target=read_target("replicas:1"))}
    policy = Policy(rules, traits, members=two)
    assert decide(policy).rule == "numpy"
    assert len(decide(policy).holders) == 2
    other = Use("wheels", "scipy", "scipy.whl", 1000, 0.0)
    assert decide(policy, other).rule == DEFAULT
    assert len(decide(policy, other).holders) == 1
    elsewhere = Use("npm", "left-pad", "left-pad.tgz", 1000, 0.0)
    assert decide(policy, elsewhere) == (decide(Policy(members=two), elsewhere))
    assert not decide(policy, elsewhere).holders
    greedy = Policy(rules, traits, members=two, greedy=two[1].node)
    assert decide(greedy, elsewhere).holders == {two[1].node}
    assert decide(greedy, elsewhere).rule == LOCAL


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({"repositories": ("whe*",)}, True),
        ({"repositories": ("npm",)}, False),
        ({"formats": ("pypi",)}, True),
        ({"formats": ("npm",)}, False),
        ({"labels": ("tier=gold", "edge")}, True),
        ({"labels": ("silver",)}, False),
        ({"packages": ("scipy", "numpy")}, True),
        ({"packages": ("numpy", "x"), "formats": ("npm",)}, False),
        ({"size_min": 1000, "size_max": 1000}, True),
        ({"size_min": 1001}, False),
        ({"size_max": 999}, False),
        ({"older_than": 10.0}, True),
        ({"older_than": 11.0}, False),
        ({"younger_than": 11.0}, True),
        ({"younger_than": 10.0}, False),
        ({"reads_min": 3}, True),
        ({"reads_min": 4}, False),
    ],
)
def test_conditions(rule: dict[str, object], matches: bool) -> None:
    made = Rule("r", read_target("everywhere"), **rule)
    traits = Traits("pypi", frozenset({"tier", "tier=gold"}))
    assert made.matches(USE, traits, now=10.0, reads=3) is matches


def test_age_tells_when_to_look_again() -> None:
    rules = (
        Rule("fresh", read_target("everywhere"), younger_than=7 * DAY),
        Rule("old", read_target("replicas:1"), older_than=90 * DAY),
    )
    policy = Policy(rules, members=tuple(members("a", "b")))
    assert decide(policy, now=1.0).due == 7 * DAY
    assert decide(policy, now=8 * DAY).due == 90 * DAY
    assert decide(policy, now=91 * DAY).due == math.inf
    assert [decide(policy, now=at * DAY).rule for at in (1, 8, 91)] == ["fresh", "", "old"]


def test_pins_add_their_node_or_one_node_of_their_site() -> None:
    three = members("a", "b", "b")
    digest = "sha256:" + blob(1).hex()
    for pin, count in (
        (Pin("p", "wheels", node=three[0].node), 1),
        (Pin("p", "wheels", "numpy/*", site="b"), 1),
        (Pin("p", "wheels", digest=digest, node=three[2].node), 1),
        (Pin("p", "wheels", "scipy/*", site="b"), 0),
        (Pin("p", "npm", node=three[0].node), 0),
        (Pin("p", "wheels", digest="sha256:" + "0" * 64, node=three[0].node), 0),
        (Pin("p", "wheels", node=node(77)), 0),
    ):
        found = decide(Policy(pins=(pin,), members=tuple(three)))
        assert len(found.holders) == count, pin
        assert found.rule == (PINNED if count else "")


def test_a_member_that_does_not_carry_a_repository_is_given_nothing_of_it() -> None:
    partial = Candidate(node(1), "b", ("npm*",))
    policy = Policy(
        (Rule("all", read_target("everywhere")),),
        members=(Candidate(node(0), "a"), partial),
        pins=(Pin("p", "wheels", node=partial.node),),
    )
    assert partial.node in decide(policy).holders  # the pin is meant
    unpinned = Policy(policy.rules, members=policy.members)
    assert decide(unpinned).holders == {node(0)}


def test_every_file_that_names_the_blob_has_a_say() -> None:
    policy = Policy(
        (
            Rule("w", read_target("sites:a"), repositories=("wheels",)),
            Rule("n", read_target("sites:b"), repositories=("npm",)),
        ),
        members=tuple(members("a", "b", "c")),
    )
    uses = [USE, Use("npm", "x", "x", 1, 0.0)]
    assert policy.place(blob(1), "", uses, now=1.0).holders == {node(0), node(1)}


sites_of = st.lists(st.sampled_from("abcde"), min_size=1, max_size=12)


@given(sites_of, st.integers(1, 6), st.integers(0, 1000), st.integers(0, 11))
def test_a_member_that_goes_moves_only_what_it_held(
    sites: list[str], copies: int, seed: int, gone: int
) -> None:
    before = members(*sites)
    leaver = before[gone % len(before)]
    after = [each for each in before if each is not leaver]
    target = Target("replicas", copies=copies)
    then, now = choose(target, blob(seed), before), choose(target, blob(seed), after)
    assert then - {leaver.node} <= now
    assert len(now) == min(copies, len(after))
    assert len(now - then) <= (leaver.node in then)


@given(sites_of, st.integers(1, 6), st.integers(0, 1000))
def test_copies_are_spread_over_sites_first(sites: list[str], copies: int, seed: int) -> None:
    site_of = {each.node: each.site for each in members(*sites)}
    chosen = choose(Target("replicas", copies=copies), blob(seed), members(*sites))
    assert len({site_of[each] for each in chosen}) == min(copies, len(set(sites)))


@given(st.permutations(range(8)), st.integers(0, 1000))
def test_the_order_in_which_members_are_known_does_not_matter(order: list[int], seed: int) -> None:
    known = members(*"aabbccdd")
    shuffled = [known[index] for index in order]
    assert spread(blob(seed), known) == spread(blob(seed), shuffled)


def test_load_is_even() -> None:
    known = members(*"aabbccdd")
    held = Counter(
        each
        for seed in range(2000)
        for each in choose(Target("replicas", copies=2), blob(seed), known)
    )
    assert sum(held.values()) == 4000
    assert max(held.values()) < 1.25 * min(held.values())
