"""``atoll doctor``: a well node passes, planted trouble is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from cli.doctor import BAD, GOOD, Finding, doctor, findings_table
from cli.main import atoll


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "node"
    assert CliRunner().invoke(atoll, ["init", "--data", str(folder)]).exit_code == 0
    return folder


def findings(data: Path, status: int) -> dict[str, dict[str, str]]:
    result = CliRunner().invoke(doctor, ["--data", str(data), "--json"])
    assert result.exit_code == status, result.output
    return {each["check"]: each for each in json.loads(result.output)}


def test_a_well_node_passes(data: Path) -> None:
    found = findings(data, 0)
    assert found["facts.db"]["state"] == GOOD
    assert found["blobs"]["state"] == GOOD


def test_trouble_is_named(data: Path) -> None:
    blob = data / "blobs" / "ab" / ("ab" * 32)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"rotten")
    (data / "node.key").chmod(0o644)
    (data / "facts.db").write_bytes(b"not a database at all, by no means" * 100)
    found = findings(data, 1)
    assert "ab" * 32 in found["blobs"]["text"]
    assert "node.key" in found["secrets"]["text"]
    assert found["facts.db"]["state"] == BAD


def test_a_directory_without_a_node_is_named(tmp_path: Path) -> None:
    assert "atoll init" in findings(tmp_path, 1)["data directory"]["text"]


def test_the_worst_comes_first() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(findings_table([Finding("a", GOOD, "fine"), Finding("b", BAD, "broken")]))
    assert capture.get().index("broken") < capture.get().index("fine")
