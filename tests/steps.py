"""The steps that `python -m tests` is made of, and what came of each."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET  # written by our own pytest run a moment ago
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.environment import ROOT

NO_TESTS_COLLECTED = 5  # pytest's exit status
STEP_SECONDS_MAX = 1800.0  # of the 40 minutes that a whole run may take


@dataclass(slots=True)
class Outcome:
    """What one step found: a linter counts as one, pytest as its tests."""

    name: str
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # what, and why
    seconds: float = 0.0


def check(name: str, command: Sequence[str]) -> Outcome:
    """Run a command that passes or fails as one; its output is shown when it has ended."""
    started = time.monotonic()
    try:
        finished = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_SECONDS_MAX,
            check=False,
        )
        output, good = finished.stdout, finished.returncode == 0
    except subprocess.TimeoutExpired as error:
        output, good = f"no end after {error.timeout:.0f} s\n", False
    outcome = Outcome(name, seconds=time.monotonic() - started)
    if good:
        outcome.passed = 1
    else:
        outcome.failed.append(name)
    verdict = "ok" if good else "FAILED"
    sys.stdout.write(f"==> {name}: {verdict} ({outcome.seconds:.1f} s)\n{output}")
    sys.stdout.flush()
    return outcome


def pytest(name: str, arguments: Sequence[str]) -> Outcome:
    """Run pytest, its output shown as it comes, and count what it reports."""
    sys.stdout.write(f"==> {name}\n")
    sys.stdout.flush()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
        try:
            finished = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=STEP_SECONDS_MAX, check=False
            )
            status = finished.returncode
        except subprocess.TimeoutExpired:
            status = -1
        outcome = read_report(name, report) if report.exists() else Outcome(name)
    if status not in {0, NO_TESTS_COLLECTED} and not outcome.failed:
        outcome.failed.append(f"{name}: pytest ended with {status}")
    outcome.seconds = time.monotonic() - started
    return outcome


def read_report(name: str, report: Path) -> Outcome:
    """Count a JUnit report.  A test that fails and whose fixture then fails too counts once."""
    outcome = Outcome(name)
    verdicts: dict[str, str] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        test = ".".join(filter(None, (case.get("classname"), case.get("name"))))
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            verdicts[test] = "failed"
        elif skipped is not None and skipped.get("type") != "pytest.xfail":
            verdicts.setdefault(test, "skipped")
            outcome.skipped.append((test, skipped.get("message", "no reason given")))
        else:
            verdicts.setdefault(test, "passed")
    outcome.passed = sum(verdict == "passed" for verdict in verdicts.values())
    outcome.failed = [test for test, verdict in verdicts.items() if verdict == "failed"]
    return outcome


def summary(outcomes: Iterable[Outcome], left_out: str = "") -> tuple[str, bool]:
    """Render the close of a run; tell whether it was good: something ran, and nothing failed."""
    outcomes = list(outcomes)
    lines = ["", "==> summary"]
    for each in outcomes:
        counts = f"{each.passed} passed, {len(each.failed)} failed, {len(each.skipped)} skipped"
        lines.append(f"{each.name:24} {each.seconds:7.1f} s  {counts}")
    if left_out:
        lines.append(f"left out by --fast: {left_out}")
    reasons: dict[str, list[str]] = defaultdict(list)
    for each in outcomes:
        for what, why in each.skipped:
            reasons[why].append(what)
    for why, names in sorted(reasons.items()):
        lines.append(f"SKIPPED ({len(names)}) {why}")
        lines += [f"    {name}" for name in names]
    lines += [f"FAILED {name}" for each in outcomes for name in each.failed]
    passed = sum(each.passed for each in outcomes)
    failed = sum(len(each.failed) for each in outcomes)
    skipped = sum(len(each.skipped) for each in outcomes)
    lines.append(f"{passed} passed, {failed} failed, {skipped} skipped")
    return "\n".join(lines) + "\n", failed == 0 and passed > 0
