"""Placement and pins on the command line: layouts, and a node changed through them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import atoll
from cli.pins import pins_table, split_what
from cli.placement import distance_table, eta, files_table, rules_table
from tests.cli.test_mesh import printed

DISTANCE = {
    "rules": [
        {
            "rule": "kernel",
            "wanted": [4, 4000],
            "held": [1, 1000],
            "missing": [3, 3000],
            "surplus": [0, 0],
        }
    ],
    "cached": [2, 20],
    "missing": [3, 3000],
    "eta": 3700.0,
}


def test_distance_is_told_by_rule() -> None:
    node = {"node": "ab" * 32, "name": "n", "site": "ship", "present": True, "distance": DISTANCE}
    silent = {**node, "node": "cd" * 32, "distance": None}
    text = printed(distance_table([node, silent]))
    assert "kernel" in text
    assert "3 (3.0 kB)" in text
    assert "1:01:40" in text
    assert "(on demand)" in text
    assert "not heard yet" in text


def test_eta() -> None:
    assert [eta(None, 0), eta(None, 3), eta(61.0, 3)] == ["done", "unknown", "0:01:01"]


def test_files_and_rules() -> None:
    each = {"path": "a/b", "size_bytes": 1, "rule": "", "nodes": ["ab" * 32], "holders": []}
    assert "abababab" in printed(files_table([each]))
    names = ("repositories", "labels", "formats", "packages")
    bounds = ("size_min", "size_max", "older_than", "younger_than", "reads_min")
    rule = {"id": "r", "order": 1, "target": "everywhere", **{key: [] for key in names}}
    rule = {**rule, **dict.fromkeys(bounds, 0), "packages": ["num*"], "size_min": 5}
    assert "packages num*; size_min 5" in printed(rules_table([rule]))


def test_pins() -> None:
    assert split_what("pypi") == {"repository": "pypi"}
    assert split_what("pypi/a/*") == {"repository": "pypi", "path": "a/*"}
    assert split_what("pypi/sha256:00") == {"repository": "pypi", "digest": "sha256:00"}
    each = {"id": "1" * 9, "repository": "r", "path": "", "digest": "", "site": "s", "node": ""}
    assert "(all)" in printed(pins_table([{**each, "created_by": "me"}]))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("ATOLL_DATA", str(tmp_path / "data"))

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(atoll, arguments)

    assert command("init").exit_code == 0
    return command


def test_rules_and_pins_are_made_and_removed(run: Callable[..., Any]) -> None:
    placed = ("mesh", "placement")
    done = run(*placed, "set", "big", "sites:a,b/2", "--size-min", "10", "--older-days", "2")
    assert done.exit_code == 0, done.output
    (rule,) = json.loads(run(*placed, "rules", "--json").output)
    assert (rule["id"], rule["target"], rule["older_than"]) == ("big", "sites:a,b/2", 172800.0)
    assert run(*placed, "set", "bad", "sometimes").exception is not None
    assert run(*placed, "rm", "big").exit_code == 0
    assert "No rules" in run(*placed, "rules").output
    (mine,) = json.loads(run(*placed, "--json").output)
    assert mine["distance"]["missing"] == [0, 0]
    assert run(*placed, "carry", mine["node"][:12], "npm*").exit_code == 0
    assert json.loads(run(*placed, "--json").output)[0]["carries"] == ["npm*"]

    pinned = run("pin", "add", "pypi/numpy/*")
    assert pinned.exit_code == 0, pinned.output
    (pin,) = json.loads(run("pin", "list", "--json").output)
    assert (pin["path"], pin["node"]) == ("numpy/*", mine["node"])
    assert run("pin", "add", "nothing").exception is not None
    assert run("pin", "rm", pin["id"][:6]).exit_code == 0
    assert "Nothing is pinned" in run("pin", "list").output
