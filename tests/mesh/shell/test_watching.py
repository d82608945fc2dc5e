"""Links of real nodes are watched, laid down for, and remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import RejectedError
from tests.mesh.nodes import Fleet, until


async def test_what_is_seen_of_a_link_can_be_told(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)

        async def measured() -> bool:
            return any(path.up and path.rtt for path in a.mesh.insight.paths())

        await until(measured)
        (path,) = a.mesh.insight.paths()
        assert (path.node, path.site) == (b.identity.node, "b")
        assert path.rtt_min is not None
        assert path.rtt is not None
        assert path.rtt_min <= path.rtt + 1e-9
        assert path.background
        assert len(path.hours) == 24

        await a.mesh.limit(["site:b up=1MB metered", "* cost=2"])
        (path,) = a.mesh.insight.paths()
        assert (path.up_cap, path.metered, path.cost, path.background) == (1e6, True, 2.0, False)
        with pytest.raises(RejectedError):
            await a.mesh.limit(["nonsense"])
        assert a.mesh.insight.limits == ["site:b up=1e+06 metered", "* cost=2"]
        await a.mesh.limit(None)
        assert a.mesh.insight.limits == []
