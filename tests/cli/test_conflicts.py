"""Conflicts as people see them, and as they decide them."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from cli.conflicts import conflicts_table
from cli.main import atoll


def rival(name: str, *, winner: bool = False, deleted: bool = False) -> dict[str, object]:
    return {
        "digest": f"sha256:{name}",
        "author": name * 10,
        "site": "",
        "size_bytes": 10,
        "published_at": 1.0,
        "winner": winner,
        "deleted": deleted,
    }


def test_what_is_served_comes_first() -> None:
    file = {"path": "p", "rivals": [rival("a"), rival("b", deleted=True), rival("c", winner=True)]}
    tag = {"name": "app", "tag": "latest", "value": "1", "siblings": ["2", "3"]}
    found = conflicts_table({"r": {"files": [file], "tags": [tag], "pending": 4}})
    columns = [list(column.cells) for column in found.columns]
    assert columns[1] == ["p", "", "", "app:latest", "", "", ""]
    assert columns[2] == ["served", "rival", "deleted", "served", "rival", "rival", "pending"]
    assert columns[3][0] == "sha256:c"
    assert columns[4][0] == "cccccccc at ?, 10 bytes"
    waiting = {"path": "w", "digest": "sha256:w", "author": "w" * 64}
    listed = conflicts_table({"r": {"files": [], "tags": [], "pending": [waiting]}})
    assert list(listed.columns[1].cells) == ["w"]


def test_a_node_without_conflicts_says_so(tmp_path: Path) -> None:
    folder = str(tmp_path / "node")
    run = CliRunner().invoke
    assert run(atoll, ["init", "--data", folder]).exit_code == 0
    assert run(atoll, ["mesh", "conflicts", "--data", folder]).output == "No conflicts.\n"
    found = run(atoll, ["mesh", "conflicts", "--data", folder, "--json"]).output
    assert json.loads(found) == {}
    refused = run(atoll, ["mesh", "resolve", "--data", folder, "generic", "a/b", "sha256:0"])
    assert "generic has no a/b" in str(refused.exception)
