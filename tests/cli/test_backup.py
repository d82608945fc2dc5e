"""Backups from the command line, of a node that is not running."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import atoll
from store.errors import RegistryError


def test_take_list_restore(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(atoll, list(arguments))
        if result.exception is not None:
            raise result.exception
        return result.output

    data, target, again = (str(tmp_path / name) for name in ("data", "target", "again"))
    run("init", "--data", data)
    assert run("backup", "--to", target, "--list") == "No snapshots yet.\n"
    assert "0 blobs, 0 copied" in run("backup", "--data", data, "--to", target, "--keep", "1")
    (found,) = json.loads(run("backup", "--to", target, "--list", "--json"))
    assert found["snapshot"] in run("backup", "--to", target, "--list")
    assert "0 blobs" in run("restore", "--from", target, "--data", again)
    keys = [json.loads(run("repo", "list", "--data", each, "--json")) for each in (data, again)]
    assert [r["key"] for r in keys[0]] == [r["key"] for r in keys[1]]
    (tmp_path / "target" / "snapshots" / found["snapshot"] / "stores.json").write_text("{}")
    with pytest.raises(RegistryError, match="damaged"):
        run("restore", "--from", target, "--data", str(tmp_path / "third"))
