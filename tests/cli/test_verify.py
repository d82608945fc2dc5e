"""What people and scripts see of a verification."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import atoll
from cli.verify import sentence
from store.errors import RegistryError


def test_a_sentence_says_what_is_left() -> None:
    event = {"kind": "blob", "name": "x", "trouble": "gone", "healed": False, "detail": ""}
    assert sentence(event) == "WRONG blob x: gone"
    assert sentence({**event, "healed": True, "detail": "by peers"}) == (
        "healed blob x: gone (by peers)"
    )


def test_a_node_that_is_not_running_is_checked(tmp_path: Path) -> None:
    data = str(tmp_path / "data")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(atoll, list(arguments))
        if result.exception is not None:
            raise result.exception
        return result.stdout

    run("init", "--data", data)
    assert "0 findings, 0 healed" in run("verify", "--data", data)
    lost = tmp_path / "data" / "blobs" / "00" / ("00" * 32)
    lost.parent.mkdir()
    lost.write_bytes(b"not that")
    with pytest.raises(RegistryError, match="1 findings are not healed"):
        run("verify", "--data", data)
    lines = run("verify", "--data", data, "--repair", "--json").splitlines()
    assert json.loads(lines[-1])["healed"] == 1
    assert "0 findings" in run("verify", "--data", data)
