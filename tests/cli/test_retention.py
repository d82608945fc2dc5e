"""Retention on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import atoll
from cli.retention import plan_table
from tests.cli.test_mesh import printed

PLANNED = {
    "repository_key": "r",
    "package": "app",
    "version": "sha256:a",
    "names": ["1.0"],
    "size_bytes": 5,
    "published_at": 0.0,
    "policy": "p",
    "why": "3 newer versions",
    "kept": "",
}


def test_a_plan_says_why() -> None:
    text = printed(plan_table([PLANNED, {**PLANNED, "kept": "pin 0123"}]))
    assert "3 newer versions" in text
    assert "stays: pin 0123" in text


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("ATOLL_DATA", str(tmp_path / "data"))

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(atoll, arguments)

    assert command("init").exit_code == 0
    return command


def test_a_policy_is_made_planned_and_applied(run: Callable[..., Result], tmp_path: Path) -> None:
    assert "everything stays" in run("retention", "show").output
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        assert run("publish", str(tmp_path / name), f"generic/d/{name}").exit_code == 0
    made = run("retention", "set", "p", "generic", "--keep-last", "1", "--include", "d@*")
    assert made.exit_code == 0, made.output
    assert "beyond the newest 1" in run("retention", "show").output
    rare = ("retention", "set", "q", "generic", "--downloads-below", "3")
    assert "downloads_below needs" in str(run(*rare, "--keep-last", "1").exception)
    made = run(*rare, "--max-days", "90")
    assert made.exit_code == 0, made.output
    shown = json.loads(run("retention", "show", "--json").stdout)
    assert [each["policy"]["downloads_below"] for each in shown] == [0, 3]
    assert "downloads" in run("retention", "show").output
    planned = json.loads(run("retention", "plan", "--json").stdout)
    assert planned["versions"] == 1
    assert "1 versions" in run("retention", "plan", "--policy", "p").output
    (line, sums) = run("retention", "plan", "--lines").stdout.splitlines()
    assert (json.loads(line)["version"], json.loads(sums)["versions"]) == ("a", 1)
    done = run("retention", "apply", "--json")
    assert json.loads(done.stdout)["removed"] == 1, done.output
    assert run("retention", "restore", "generic", "d/a").exit_code == 0
    assert json.loads(run("retention", "gc", "--dry-run", "--json").output)["blobs"] == 0
    assert run("retention", "rm", "p").exit_code == 0
