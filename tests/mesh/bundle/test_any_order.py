"""The law: any split of a history into bundles, in any order, repeated, mixed with live sync."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from mesh.shell.exporting import Key, Wish
from tests.mesh.bundle.nodes import Place
from tests.store.test_convergence import everything, histories, play


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories, seed=st.integers(0, 1 << 32))
async def test_bundles_in_any_order_and_live_sync_give_one_catalog(
    history: list[tuple[Any, ...]], seed: int
) -> None:
    rng = random.Random(seed)
    nodes = await play(history)
    with tempfile.TemporaryDirectory() as folder:
        source, target = (Place(node, Path(folder) / str(node.number)) for node in nodes[:2])
        batches = await everything(nodes)
        await source.ledger.apply(batches)
        bundles = await split(source, rng)
        for _ in range(2):
            rng.shuffle(bundles)
            for bundle in bundles:
                report = await target.take(bundle, piece=rng.randint(100, 5000))
                assert report.complete
                if rng.random() < 0.3:
                    await target.ledger.apply(rng.sample(batches, rng.randint(0, len(batches))))
        while (await target.ledger.heads()) != (await source.ledger.heads()):
            for bundle in bundles:
                await target.take(bundle)
        assert target.node.catalog() == source.node.catalog()


async def split(source: Place, rng: random.Random) -> list[bytes]:
    """Bundles that begin at all kinds of places; one of them at the beginning."""
    found = [await source.export(Wish(every=True))]
    heads = await source.ledger.heads()
    for _ in range(rng.randint(1, 4)):
        since: dict[Key, int] = {key: rng.randint(0, seq) for key, (seq, _) in heads.items()}
        whole = await source.export(Wish(since=since))
        cut = await Cut(source, rng).export(since)
        found += [whole, cut]
    return found


class Cut:
    """Exports up to some earlier place of each chain, as a node that knew less would have."""

    def __init__(self, source: Place, rng: random.Random) -> None:
        self._source, self._rng = source, rng

    async def export(self, since: dict[Key, int]) -> bytes:
        ledger, rng = self._source.ledger, self._rng
        heads = await ledger.heads()

        class Earlier:
            """The ledger, with shorter chains."""

            def __getattr__(self, name: str) -> Any:
                return getattr(ledger, name)

            async def heads(self) -> dict[Key, tuple[int, bytes]]:
                return {
                    key: (rng.randint(since.get(key, 0), seq), record)
                    for key, (seq, record) in heads.items()
                }

        self._source.ledger = Earlier()  # type: ignore[assignment]  # a fake in its place
        try:
            return await self._source.export(Wish(since=since))
        finally:
            self._source.ledger = ledger
