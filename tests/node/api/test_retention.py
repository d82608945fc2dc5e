"""Retention policies and collections over the API: what is refused, and to whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.node.promotion.staged import staged


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"keep_last": -1},
        {"keep_last": 1, "repositories": []},
        {"id": "A", "keep_last": 1},
        {"downloads_below": 3},
        {"downloads_below": 3, "keep_last": 1},
        {"downloads_below": 3, "max_age": 3600.0},
        {"downloads_below": -1, "max_age": 1e6},
    ],
)
async def test_policies_that_say_nothing_are_refused(fields: Any, tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        body = {"id": "p", "repositories": ["stage"], **fields}
        assert (await stage.node.api("POST", "/admin/lifecycle", body)).status == 400
        assert (await stage.call("lead", "GET", "/admin/lifecycle")).status == 403


async def test_a_policy_by_downloads_is_shown_as_it_was_made(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        for fields in ({"max_age": 1e5}, {"unused_for": 1e5}, {"keep": True}):
            body = {"id": "p", "repositories": ["stage"], "downloads_below": 3, **fields}
            assert (await stage.node.api("POST", "/admin/lifecycle", body)).status == 200
            shown = (await stage.node.api("GET", "/admin/lifecycle/p")).json["policy"]
            assert shown["downloads_below"] == 3


async def test_retention_and_collections_are_the_administrators(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        for method, path in (
            ("POST", "/admin/lifecycle/preview-all"),
            ("POST", "/admin/lifecycle/execute-all"),
            ("POST", "/admin/lifecycle/plan"),
            ("POST", "/admin/lifecycle/apply"),
            ("GET", "/admin/storage-gc"),
            ("POST", "/admin/storage-gc"),
        ):
            assert (await stage.call("lead", method, path, {})).status == 403, path
        assert (await stage.node.api("POST", "/admin/lifecycle/none/execute")).status == 404


async def test_plans_and_runs_are_told_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.api.retention.LINES_SIZE", 1)
    monkeypatch.setattr("node.api.retention.TOLD_SECONDS", 0.0)
    monkeypatch.setattr("node.retention.service.BATCH", 1)
    async with staged(tmp_path, "generic") as stage:
        for version in ("1.0", "2.0", "3.0"):
            await stage.publish(version)
        body = {"id": "p", "repositories": ["stage"], "keep_last": 1}
        assert (await stage.node.api("POST", "/admin/lifecycle", body)).status == 200

        async def lines(path: str, wish: Any) -> list[Any]:
            answer = await stage.node.api("POST", f"/admin/lifecycle/{path}", wish)
            assert answer.headers["content-type"] == "application/x-ndjson"
            return [json.loads(line) for line in answer.body.splitlines()]

        *planned, sums = await lines("plan", {"policy": "p"})
        assert [each["version"] for each in planned] == ["1.0.bin", "2.0.bin"]
        assert (sums["type"], sums["versions"], sums["kept"]) == ("sums", 2, 0)
        *planned, sums = await lines("plan", {"listed": 1})
        assert (len(planned), sums["versions"]) == (1, 2)
        *steps, end = await lines("apply", {})
        assert [each["removed"] for each in steps] == [1, 2]
        assert (end["type"], end["removed"]) == ("applied", 2)
        for path, wish in (("plan", {"policy": "q"}), ("apply", {"policy": "q"})):
            assert (await stage.node.api("POST", f"/admin/lifecycle/{path}", wish)).status == 404
