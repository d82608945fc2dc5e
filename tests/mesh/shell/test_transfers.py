"""Serving goes on while a blob passes from the fetch to the store."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from store.blobs import Ingested
from tests.mesh.nodes import Fleet, until


async def test_what_was_asked_of_a_fetch_is_served_through_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap of one moment cost who asked a lie noted, and ten seconds."""
    async with Fleet(tmp_path).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        data = random.Random(1).randbytes(2_000_000)
        manifest = await a.add(data)
        raw, transfers, record = manifest.blob.raw, b.mesh._board.transfers, b.index.record
        first = data[: manifest.chunks.lengths[0]]

        async def during(ingested: Ingested) -> None:
            assert transfers.length(raw, manifest.id, 0) == len(first)
            assert await transfers.read(raw, 0, 1) == first
            await record(ingested)

        monkeypatch.setattr(b.index, "record", during)
        assert await b.read(manifest) == data
        await until(lambda: b.has(manifest))

        async def ended() -> bool:
            return raw not in b.mesh._board._exchange.downloads

        await until(ended)
        assert transfers.length(raw, manifest.id, 0) == len(first)
        assert await transfers.read(raw, 0, 1) == first
