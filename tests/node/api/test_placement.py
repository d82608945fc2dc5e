"""The placement API: what it refuses, and who may ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.api import placement
from tests.node.world import world


async def test_rules_are_judged(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        good = {"id": "r", "target": "replicas:2"}
        assert (await node.api("PUT", "/mesh/placement/rules", good)).status == 200
        for bad in (
            {"id": "r", "target": "often"},
            {"id": "pin", "target": "everywhere"},
            {"id": "A B", "target": "everywhere"},
            {"id": "r", "target": "everywhere", "size_min": 5, "size_max": 4},
            {"id": "r", "target": "everywhere", "size_min": -1},
        ):
            assert (await node.api("PUT", "/mesh/placement/rules", bad)).status == 400, bad
        assert (await node.api("DELETE", "/mesh/placement/rules/none")).status == 404
        items = (await node.api("GET", "/mesh/placement/rules")).json["items"]
        assert [each["id"] for each in items] == ["r"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"repository": "nothing"}, 404),
        ({"repository": "pypi", "node": "nobody"}, 404),
        ({"repository": "pypi", "site": "nowhere"}, 404),
        ({"repository": "pypi", "site": "default", "node": "self"}, 400),
        ({"repository": "pypi", "digest": "sha256:xyz"}, 400),
        ({"repository": "pypi", "site": "default"}, 201),
        ({"repository": "pypi", "path": "numpy/*"}, 201),
    ],
)
async def test_pins_are_judged(tmp_path: Path, body: dict[str, str], status: int) -> None:
    async with world(tmp_path) as node:
        answer = await node.api("POST", "/pins", body)
        assert answer.status == status, answer.body


async def test_repositories_say_where_their_blobs_belong(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        made = {"key": "w", "format": "pypi", "placement": "replicas:2", "labels": {"tier": "gold"}}
        answer = await node.api("POST", "/repositories", {**made, "write_concern": "sites:1"})
        assert answer.status == 201, answer.body
        assert answer.json["placement"] == "replicas:2"
        for bad in ({"placement": "x"}, {"write_concern": "x"}, {"labels": {"": "x"}}):
            assert (await node.api("PATCH", "/repositories/w", bad)).status == 400, bad
        assert (await node.api("PATCH", "/repositories/w", {"placement": ""})).status == 200


async def test_only_administrators_of_the_node_ask(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for endpoint in placement.table.endpoints:
            if endpoint.access.name == "MANAGE":
                path = endpoint.path.replace("{id}", "x").replace("{node}", "x")
                answer = await node.ask(endpoint.method, f"/api/v1{path}")
                assert answer.status == 401, path
