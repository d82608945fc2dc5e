"""The commands of virtual repositories, on a node that is not running."""

from __future__ import annotations

import json
from pathlib import Path

from cli.virtual import composition_table, members_table
from tests.cli.test_commands import run


def test_a_virtual_repository_is_made_and_changed(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "node")]
    assert run("init", *data).exit_code == 0
    for key in "ab":
        run("repo", "create", *data, key, "--format", "pypi")
    kind = ["--format", "pypi", "--type", "virtual", "--member", "b", "--deploy", "b"]
    assert run("repo", "create", *data, "all", *kind).output.endswith("/pypi/all/\n")
    run("repo", "add-member", *data, "all", "a", "--place", "0", "--deny", "x*")
    items = json.loads(run("repo", "members", *data, "all", "--json").output)
    assert [each["member_repo_key"] for each in items] == ["a", "b"]
    assert members_table(items).row_count == 2
    run("repo", "order-members", *data, "all", "b", "a")
    run("repo", "route-member", *data, "all", "a", "--allow", "y*")
    shown = run("repo", "members", *data, "all").output
    assert shown.index(" b ") < shown.index(" a ")
    assert "y*" in shown
    changes = [
        "--no-guard",
        "--guard-for",
        "readers",
        "--reserve",
        "corp-*",
        "--unguard",
        "corp-open",
    ]
    told = json.loads(run("repo", "compose", *data, "all", "--json", *changes).output)
    wanted = {"deploy_repo": "b", "guard": False, "guard_for": "readers"}
    assert told == {**wanted, "reserved": ["corp-*"], "unguarded": ["corp-open"]}
    assert composition_table(told).row_count == 4
    assert json.loads(run("repo", "compose", *data, "all", "--json").output) == told
    run("repo", "compose", *data, "all", "--reserve", "", "--guard")
    told = json.loads(run("repo", "compose", *data, "all", "--json").output)
    assert (told["reserved"], told["guard"]) == ([], True)
    run("repo", "remove-member", *data, "all", "a")
    assert len(json.loads(run("repo", "members", *data, "all", "--json").output)) == 1
