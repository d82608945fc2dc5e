"""Rules, judged by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.promotion.rules import Evidence, Rules, Verdict, approving, unmet

EVIDENCE = Evidence(
    source="stage",
    staging=True,
    requester="dev",
    publishers=frozenset({"dev"}),
    age=100.0,
    writers=frozenset({"lead", "chief", "bot", "dev"}),
)
PASS, FAIL = Verdict(frozenset({"bot"})), Verdict(failed=frozenset({"bot"}))


def lacking(rules: Rules, evidence: Evidence) -> list[str]:
    return [each.rule for each in unmet(rules, evidence)]


def test_without_rules_staging_is_enough() -> None:
    assert lacking(Rules(), EVIDENCE) == []
    assert lacking(Rules(), replace(EVIDENCE, staging=False)) == ["sources"]
    assert lacking(Rules(sources=("sta*",)), replace(EVIDENCE, staging=False)) == []
    assert lacking(Rules(sources=("other",)), EVIDENCE) == ["sources"]


def test_age_and_conflicts() -> None:
    assert lacking(Rules(min_age=101.0), EVIDENCE) == ["min_age"]
    assert lacking(Rules(min_age=100.0), EVIDENCE) == []
    assert lacking(Rules(), replace(EVIDENCE, conflicted=["a", "b"])) == ["conflicted"] * 2


def test_nobody_approves_his_own() -> None:
    evidence = replace(EVIDENCE, approvers=frozenset({"dev", "lead", "chief", "gone"}))
    assert approving(evidence) == {"lead", "chief"}
    assert lacking(Rules(approvals=2), evidence) == []
    assert lacking(Rules(approvals=3), evidence) == ["approvals"]
    published = replace(evidence, publishers=frozenset({"lead"}))
    assert approving(published) == {"chief"}


def test_who_may_not_write_there_needs_somebody_who_may() -> None:
    stranger = replace(EVIDENCE, writers=frozenset({"lead"}))
    assert lacking(Rules(), stranger) == ["approvals"]
    assert lacking(Rules(), replace(stranger, approvers=frozenset({"lead"}))) == []


@pytest.mark.parametrize(
    ("verdicts", "holds"),
    [
        ([], False),
        ([PASS], True),
        ([PASS, PASS], True),
        ([PASS, Verdict()], False),
        ([FAIL], False),
        ([Verdict(frozenset({"lead"}), frozenset({"bot"}))], False),
        ([Verdict(frozenset({"stranger"}))], False),
        ([Verdict(frozenset({"bot"}), frozenset({"stranger"}))], True),
    ],
)
def test_checks_need_a_pass_for_each_and_no_failure(verdicts: list[Verdict], holds: bool) -> None:
    evidence = replace(EVIDENCE, checks={"scan": verdicts})
    assert lacking(Rules(checks=("scan",)), evidence) == ([] if holds else ["checks"])


def test_named_checkers_alone_count() -> None:
    rules = Rules(checks=("scan",), checkers=("ci-*",))
    by = replace(EVIDENCE, checks={"scan": [Verdict(frozenset({"lead"}))]})
    assert lacking(rules, by) == ["checks"]
    by = replace(EVIDENCE, checks={"scan": [Verdict(frozenset({"ci-7"}), frozenset({"lead"}))]})
    assert lacking(rules, by) == []
