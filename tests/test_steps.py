"""What the closing lines of a run say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import steps

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_good"/>
<testcase classname="tests.a" name="test_bad"><failure message="no"/></testcase>
<testcase classname="tests.a" name="test_bad"><error message="its fixture failed too"/></testcase>
<testcase classname="tests.a" name="test_known"><skipped type="pytest.xfail" message="x"/></testcase>
<testcase classname="tests.b" name="test_out"><skipped type="pytest.skip" message="no npm"/></testcase>
</testsuite></testsuites>"""


def test_a_report_counts_each_test_once(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT, "utf-8")
    outcome = steps.read_report("tests", tmp_path / "report.xml")
    assert outcome.passed == 2
    assert outcome.failed == ["tests.a.test_bad"]
    assert outcome.skipped == [("tests.b.test_out", "no npm")]


def test_the_summary_names_every_skip_and_closes_with_the_counts() -> None:
    outcomes = [
        steps.Outcome("mypy", passed=1),
        steps.Outcome("tests", passed=2, skipped=[("a", "no npm"), ("b", "no npm")]),
    ]
    text, good = steps.summary(outcomes)
    assert good
    assert "SKIPPED (2) no npm\n    a\n    b\n" in text
    assert text.endswith("\n3 passed, 0 failed, 2 skipped\n")


@pytest.mark.parametrize(
    "outcomes", [[], [steps.Outcome("tests")], [steps.Outcome("tests", passed=1, failed=["a"])]]
)
def test_nothing_run_or_anything_failed_is_not_good(outcomes: list[steps.Outcome]) -> None:
    assert not steps.summary(outcomes)[1]


def test_a_crashed_pytest_is_a_failure() -> None:
    outcome = steps.pytest("tests", ["--no-such-option"])
    assert outcome.failed == ["tests: pytest ended with 4"]


def test_checks_pass_or_fail_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert steps.check("yes", ["true"]).passed == 1
    assert steps.check("no", ["sh", "-c", "echo why; false"]).failed == ["no"]
    assert "why" in capsys.readouterr().out
