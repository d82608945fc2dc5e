"""The report of many histories, and the command line."""

from __future__ import annotations

import json
import sys

import pytest

from simulations import __main__ as command
from simulations.history import Result
from simulations.report import line, summarise


def test_a_report_says_what_failed_and_what_was_done():
    good = Result(3, digest="d", steps=10, recovered=2.0, seconds=0.5)
    good.seen.update({"step cut": 2})
    bad = Result(4, failure="ViolationError: no", steps=5)
    bad.seen.update({"step cut": 1})
    report = summarise([good, bad], 9.0)
    assert (report.histories, report.first, report.last, report.events) == (2, 3, 4, 15)
    assert report.failures == {4: "ViolationError: no"}
    assert report.seen == {"step cut": 3}
    assert "1 failed: 4" in str(report)
    assert "FAILED" in line(bad)
    assert " ok " in line(good)


@pytest.mark.parametrize(
    ("arguments", "seeds"),
    [
        (["--seeds", "5"], range(5)),
        (["--seeds", "5", "--from", "10"], range(10, 15)),
        (["--seeds", "7..9"], range(7, 10)),
    ],
)
def test_seeds_are_named_by_number_or_by_range(arguments: list[str], seeds: range):
    assert command.chosen(command.parse(arguments)) == seeds


def test_nonsense_is_refused():
    with pytest.raises(SystemExit, match="--seeds x"):
        command.chosen(command.parse(["--seeds", "x"]))


def test_histories_are_played_and_reported(tmp_path, capsys, monkeypatch):
    path = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["simulations", "--seeds", "3..4", "--json", str(path)])
    assert command.main() == 0
    report = json.loads(path.read_bytes())
    assert (report["histories"], report["failures"]) == (2, {})
    assert report["seen"]["records written"] > 0
    out = capsys.readouterr().out
    assert out.count(" ok ") == 2
    assert "2 histories" in out


def test_a_failing_seed_fails_the_command(capsys, monkeypatch):
    monkeypatch.setattr(command, "play_seed", lambda seed: Result(seed, failure="X: broken"))
    monkeypatch.setattr(sys, "argv", ["simulations", "--seeds", "2"])
    assert command.main() == 1
    assert "see it again: python -m simulations --seed 0 --shrink" in capsys.readouterr().out
