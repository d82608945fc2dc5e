"""Retention policies and collections over the API: what is refused, and to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.node.promotion.staged import staged


@pytest.mark.parametrize(
    "fields",
    [{}, {"keep_last": -1}, {"keep_last": 1, "repositories": []}, {"id": "A", "keep_last": 1}],
)
async def test_policies_that_say_nothing_are_refused(fields: Any, tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        body = {"id": "p", "repositories": ["stage"], **fields}
        assert (await stage.node.api("POST", "/admin/lifecycle", body)).status == 400
        assert (await stage.call("lead", "GET", "/admin/lifecycle")).status == 403


async def test_retention_and_collections_are_the_administrators(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        for method, path in (
            ("POST", "/admin/lifecycle/preview-all"),
            ("POST", "/admin/lifecycle/execute-all"),
            ("GET", "/admin/storage-gc"),
            ("POST", "/admin/storage-gc"),
        ):
            assert (await stage.call("lead", method, path, {})).status == 403, path
        assert (await stage.node.api("POST", "/admin/lifecycle/none/execute")).status == 404
