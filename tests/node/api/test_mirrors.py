"""Mirror lists through the API: judged, shown, removed."""

from __future__ import annotations

from pathlib import Path

from node.api import mirrors
from tests.node.repositories.remotes import make_remote
from tests.node.world import world


async def test_lists_are_judged(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await make_remote(node, "https://x.test/", form="pypi")
        place = "/repositories/up/mirrors"
        for name, body in (
            ("requirements.txt", {"text": "==="}),
            ("requirements.txt", {"text": "demo", "every_seconds": 1}),
            ("x" * 200, {"text": "demo"}),
            ("requirements.txt", {"text": "x" * (mirrors.TEXT_MAX + 1)}),
        ):
            assert (await node.api("PUT", f"{place}/{name}", body)).status == 400
        local = await node.api("PUT", "/repositories/pypi/mirrors/r.txt", {"text": "demo"})
        assert local.status == 400
        assert (await node.api("DELETE", f"{place}/none")).status == 404
        assert (await node.api("GET", place)).json["items"] == []
