"""``atoll mesh topology``: what people read, once and again and again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from cli import topology as module
from cli.topology import links_table, nodes_table, topology, view

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32


def member(node: str, name: str, site: str, links: list[str]) -> dict[str, Any]:
    return {"node": node, "name": name, "site": site, "roles": ["writer"], "links": links}


def link(one: str, other: str, **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "nodes": [one, other],
        "path": "direct",
        "rtt": 0.0123,
        "rates": [2_000_000.0, None],
        "resent": 0.01,
        "moving": [0.0, 0.0],
        "left": None,
        "age": None,
    }
    return {**known, **more}


FOUND: dict[str, Any] = {
    "mesh": "12" * 32,
    "root_version": 4,
    "contested": False,
    "nodes": [
        member(A, "anna", "harbour", ["bbbbbbbb", "cccccccc"]),
        member(B, "bert", "harbour", ["aaaaaaaa"]),
        member(C, "carl", "ship", ["aaaaaaaa"]),
    ],
    "links": [
        link(A, B),
        link(A, C, moving=[0.0, 300_000.0], left=75.0),
        link(B, C, age=130.0, rtt=None, resent=None, rates=[None, None]),
    ],
}
STILL: dict[str, Any] = {"items": [], "sending": []}


def text(what: Any) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_links_between_sites_come_first_with_what_moves_and_hearsay_with_its_age() -> None:
    found = text(links_table(FOUND))
    lines = [line for line in found.splitlines() if "direct" in line]
    assert ["harbour – ship" in line for line in lines] == [True, True, False]
    for word in ("12.3 ms", "1.0%", "300.0 kB/s", "1 min 15 s", "2 min 10 s ago", "2.0 MB/s"):
        assert word in found
    assert "carl" in text(nodes_table(FOUND))


def test_the_view_says_what_moves_and_whether_the_root_is_disputed() -> None:
    assert "Nothing moves" in text(view(FOUND, STILL))
    coming = {
        "blob": "sha256:" + "ab" * 32,
        "size": 1000,
        "verified": 250,
        "state": "fetching",
        "sources": [],
        "relayed": False,
        "rate": 0.0,
        "left": None,
    }
    shown = text(view({**FOUND, "contested": True}, {"items": [coming], "sending": []}))
    assert "1 blobs coming, 750 bytes left" in shown
    assert "rival root documents" in shown


class Node:
    """Answers, until it has been asked often enough."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def call(self, method: str, path: str) -> Any:
        if path == "/mesh/topology":
            self.looks -= 1
            if self.looks < 0:
                raise KeyboardInterrupt
            return FOUND
        return STILL


def test_watching_looks_again_until_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "connect", lambda data: Node(3))
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None))
    done = CliRunner().invoke(topology, ["--watch", "--json"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.output.splitlines()]
    assert len(lines) == 3
    assert lines[0]["transfers"] == STILL
    assert CliRunner().invoke(topology, ["--watch"]).exit_code == 0
    once = CliRunner().invoke(topology, ["--json"])
    assert json.loads(once.output) == FOUND
    assert "carl" in CliRunner().invoke(topology, []).output
