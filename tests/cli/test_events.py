"""Events and webhooks from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.events import deliveries_table, event_line, read_events, webhooks_table
from tests.cli.test_commands import run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("events") / "node")
    assert run("init", "--data", folder).exit_code == 0
    return folder


def test_webhooks_come_and_go(data: str) -> None:
    made = json.loads(
        run(
            "webhook", "create", "--data", data, "https://x.test/", "--event", "tag.*", "--json"
        ).output
    )
    assert made["secret"].startswith("whsec_")
    items = json.loads(run("webhook", "list", "--data", data, "--json").output)
    assert webhooks_table(items).row_count == 1
    assert made["secret"] not in json.dumps(items)
    assert run("webhook", "rotate", "--data", data, made["id"]).output.startswith("whsec_")
    assert run("webhook", "test", "--data", data, made["id"]).exit_code == 0
    listed = json.loads(run("webhook", "deliveries", "--data", data, made["id"], "--json").output)
    assert deliveries_table(listed).row_count == 1
    again = run("webhook", "redeliver", "--data", data, made["id"])
    assert again.output.startswith("0 will")
    assert run("webhook", "delete", "--data", data, made["id"]).exit_code == 0


def test_events_are_read_from_where_one_was(data: str, tmp_path: Path) -> None:
    first = json.loads(
        run("events", "--data", data, "--since", "0-0", "--number", "1", "--json").output
    )
    assert "reason" in first
    note = tmp_path / "note.txt"
    note.write_text("x")
    assert run("publish", "--data", data, str(note), "generic/note.txt").exit_code == 0
    shown = run("events", "--data", data, "--since", first["id"], "--number", "1").output
    assert "artifact.created" in shown
    assert "note.txt" in shown


def test_streams_are_taken_apart() -> None:
    lines = [b"retry: 3000\n", b"\n", b": beat\n", b"id: 1-2\n", b"event: x\n", b'data: {"a":1}\n']
    assert list(read_events(lines)) == [("1-2", {"a": 1})]
    event = {"type": "tag.updated", "at": 0.0, "node": "a" * 64, "seen_by": "b" * 64, "name": "v1"}
    assert "by aaaaaaaaaaaa" in event_line(event)
    assert event_line({"reason": "gone"}) == "-- gone"
