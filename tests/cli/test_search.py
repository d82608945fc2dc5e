"""Searching and browsing from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.search import facets_table, hits_table, package_table, status_table, tree_table
from tests.cli.test_commands import run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("search")
    where = str(folder / "node")
    assert run("init", "--data", where).exit_code == 0
    notes = folder / "film-notes.txt"
    notes.write_text("x")
    assert run("publish", "--data", where, str(notes), "generic/films/notes.txt").exit_code == 0
    return where


def test_search_finds_and_tells_the_rest(data: str) -> None:
    found = json.loads(run("search", "--data", data, "notes", "--json").output)
    assert [each["path"] for each in found["items"]] == ["films/notes.txt"]
    assert hits_table(found["items"]).row_count == 1
    assert facets_table(found["facets"]).row_count >= 1
    shown = run("search", "find", "--data", data, "films", "--facets").output
    assert "generic" in shown
    assert "Nothing found" in run("search", "--data", data, "nowhere").output
    status = json.loads(run("search", "rebuild", "--data", data, "--json", "--no-wait").output)
    assert status_table(status).row_count == 4
    assert "Documents" in run("search", "status", "--data", data).output


def test_browse_shows_folders_and_packages(data: str) -> None:
    found = json.loads(run("browse", "--data", data, "generic", "--json").output)
    assert tree_table(found["nodes"]).row_count == 1
    assert "notes.txt" in run("browse", "--data", data, "generic", "films").output
    page = json.loads(
        run("browse", "--data", data, "generic", "films", "--package", "--json").output
    )
    assert package_table(page).row_count == 1
    assert Path(data).exists()
