"""A fetch between two real nodes can be explained on the one that made it."""

from __future__ import annotations

import random
from pathlib import Path

from store.digest import Digest
from tests.mesh.nodes import Fleet


async def test_a_fetch_is_explained_after_it_has_ended(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        data = random.Random(1).randbytes(700_000)
        manifest = await a.add(data)
        digest = manifest.blob
        await b.mesh.fetch(digest, size=manifest.size, manifest_id=manifest.id)
        found = b.mesh.insight.why(digest)
        assert found is not None
        assert (found.state, found.size) == ("complete", 700_000)
        (source,) = found.sources
        assert source.node == a.identity.node
        assert source.received == 700_000
        assert b.mesh.insight.why(Digest.of(b"never")) is None
