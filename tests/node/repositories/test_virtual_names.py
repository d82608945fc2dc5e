"""Names that were a local member's: an outsider does not get them."""

from __future__ import annotations

from pathlib import Path

from tests.node.repositories.goods import GOODS
from tests.node.repositories.virtuals import party


async def test_a_deleted_name_is_not_given_away(tmp_path: Path) -> None:
    """Else whoever deletes the last version, retention for one, lets outsiders take the name."""
    async with party(tmp_path, "pypi") as p:
        await GOODS["pypi"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        GOODS["pypi"].offer(p.server, "alpha", {"9.0.0": b"an attack"})
        file = "alpha/alpha-1.0.0-py3-none-any.whl"
        gone = await p.node.api("DELETE", f"/repositories/ours/artifacts/{file}")
        assert gone.status == 204
        assert await GOODS["pypi"].listed(p, "alpha", "") == {}
        assert [each.path for each in p.server.asked if "alpha" in each.path] == []
        await p.change("PUT", "virtual", unguarded=["alpha"])
        assert len(await GOODS["pypi"].listed(p, "alpha", "")) == 1


async def test_a_deleted_path_is_not_given_away(tmp_path: Path) -> None:
    async with party(tmp_path, "generic") as p:
        await GOODS["generic"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        GOODS["generic"].offer(p.server, "alpha", {"1.0.0": b"an attack"})
        path = "/alpha/1.0.0.bin"
        assert (await p.get(path)).body == b"ours"
        assert (await p.ask("DELETE", path, key="ours", token=p.ann)).status in {200, 204}
        assert (await p.get(path)).status == 404
        assert p.server.asked == []
