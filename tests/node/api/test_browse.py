"""The tree, and pages of packages and versions."""

from __future__ import annotations

from pathlib import Path

from store.facts import Flag, Point
from tests.node.search.support import append, npm
from tests.node.world import world


async def test_a_repository_is_browsed(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await npm(node, "@scope/demo", "1.0.0", description="A demo", license="MIT")
        await npm(node, "@scope/demo", "2.0.0", description="A better demo", license="MIT")
        await append(
            node,
            Point("npm", "@scope/demo", "latest", b"2.0.0"),
            Flag("npm", "@scope/demo", "1.0.0", "", "deprecated", b"use 2"),
        )
        place = "/repositories/npm"
        top = (await node.api("GET", f"{place}/tree")).json
        assert [(n["name"], n["kind"]) for n in top["nodes"]] == [("@scope", "folder")]
        folder = "path=@scope/demo/-/"
        first = (await node.api("GET", f"{place}/tree?{folder}&limit=3")).json
        assert [n["name"] for n in first["nodes"]] == [
            *("demo-1.0.0.json", "demo-1.0.0.tgz", "demo-2.0.0.json")
        ]
        rest = (await node.api("GET", f"{place}/tree?{folder}&after={first['next']}")).json
        assert [(n["name"], n["version"]) for n in rest["nodes"]] == [("demo-2.0.0.tgz", "2.0.0")]
        assert (rest["next"], len(rest["nodes"][0]["checksum_sha256"])) == (None, 64)
        assert (await node.api("GET", f"{place}/tree?path=%00")).json["nodes"] == []

        page = (await node.api("GET", f"{place}/packages/@scope/demo?limit=1")).json
        assert (page["files"], page["description"], page["license"]) == (4, "A better demo", "MIT")
        assert [v["version"] for v in page["versions"]] == ["1.0.0"]
        assert (page["next"], page["latest_version"]) == ("1.0.0", "2.0.0")
        assert [(t["name"], t["value"]) for t in page["tags"]] == [("latest", "2.0.0")]
        assert [(m["name"], m["value"]) for m in page["marks"]] == [("deprecated", "use 2")]
        rest = (await node.api("GET", f"{place}/packages/@scope/demo?after=1.0.0")).json
        assert [v["version"] for v in rest["versions"]] == ["2.0.0"]

        asked = "package=@scope/demo&version=1.0.0"
        version = (await node.api("GET", f"{place}/version?{asked}")).json
        assert (version["description"], len(version["files"])) == ("A demo", 2)
        assert [m["name"] for m in version["marks"]] == ["deprecated"]
        for missing in ("packages/none", "version?package=none&version=1", "version?package=%00"):
            assert (await node.api("GET", f"{place}/{missing}")).status == 404
        assert (await node.api("GET", f"{place}/version")).status == 400


async def test_private_repositories_are_not_browsed(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        new = {"key": "mine", "format": "npm", "is_public": False}
        assert (await node.api("POST", "/repositories", new)).status == 201
        await npm(node, "hidden", "1.0.0", "mine")
        for path in ("tree", "packages/hidden", "version?package=hidden&version=1.0.0"):
            assert (await node.ask("GET", f"/api/v1/repositories/mine/{path}")).status in {401, 404}
