"""Promotion on the command line: layouts, and a version promoted and taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cli.main import atoll
from cli.promote import promotions_table, rules_table, split_version
from tests.cli.test_mesh import printed

RULES = {"sources": [], "min_age": 172800.0, "approvals": 2, "checks": ["scan"], "checkers": []}


def test_versions_are_named_after_the_last_at_sign() -> None:
    assert split_version("@acme/thing@1.0") == {"package": "@acme/thing", "version": "1.0"}
    assert split_version("folder@") == {"package": "folder", "version": ""}
    for text in ("demo", "@1.0"):
        with pytest.raises(click.BadParameter):
            split_version(text)


def test_layouts() -> None:
    text = printed(rules_table({"repository_key": "rel", "promotion_only": True, "rules": RULES}))
    assert "2 days" in text
    assert "any staging repository" in text
    one = {
        "id": "0199",
        "status": "pending",
        "source_repository": "s",
        "target_repository": "t",
        "packages": [{"package": "demo", "version": "1"}],
        "requested_by": "dev",
        "approvals": [{"by": "lead"}],
        "requested_at": 0.0,
    }
    assert "pending" in printed(promotions_table([one]))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("ATOLL_DATA", str(tmp_path / "data"))

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(atoll, arguments)

    assert command("init").exit_code == 0
    return command


def test_a_version_is_promoted_and_taken_back(run: Callable[..., Result], tmp_path: Path) -> None:
    made = run("repo", "create", "stage", "--format", "generic", "--type", "staging")
    assert made.exit_code == 0, made.output
    (tmp_path / "f.bin").write_bytes(b"bytes")
    sent = run("publish", str(tmp_path / "f.bin"), "stage/d/f.bin")
    assert sent.exit_code == 0, sent.output
    ruled = run("promote", "rules", "generic", "--check", "scan", "--promotion-only", "--json")
    assert ruled.exit_code == 0, ruled.output
    assert json.loads(ruled.output)["rules"]["checks"] == ["scan"]
    asked = run("promote", "ask", "stage", "d@f.bin", "--to", "generic")
    assert "check scan has not passed" in asked.output, asked.output
    (waiting,) = json.loads(run("promote", "list", "--state", "pending", "--json").output)
    assert run("promote", "check", "stage", "d@f.bin", "scan", "--passed").exit_code == 0
    done = run("promote", "run", waiting["id"], "--json")
    assert json.loads(done.output)["promoted"], done.output
    shown = json.loads(run("promote", "show", waiting["id"], "--json").output)
    assert shown["promotion"]["status"] == "promoted"
    back = run("promote", "rollback", waiting["id"], "--json")
    assert json.loads(back.output)["status"] == "rolled_back", back.output
    assert run("promote", "approve", waiting["id"]).exit_code == 1
    other = run("promote", "ask", "stage", "d@f.bin", "--to", "generic", "--json")
    id_ = json.loads(other.output)["promotion_id"]
    assert json.loads(other.output)["promoted"], "it has passed its check"
    assert run("promote", "reject", id_).exit_code == 1
    token = tmp_path / "token"
    token.write_text("nobody's\n")
    assert run("promote", "list", "--token", str(token)).exception is not None
