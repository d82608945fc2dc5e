from __future__ import annotations

from store.digest import Digest
from store.holdings import PREFIXES, Holding, Pins, Walk


def test_pins_count() -> None:
    pins, digest = Pins(), Digest.of(b"x")
    with pins.hold(digest), pins.hold(digest):
        assert digest in pins
    assert digest not in pins
    assert pins.digests() == frozenset()


async def test_a_walk_asks_for_one_shard_at_a_time() -> None:
    asked: list[str] = []
    digests = sorted(Digest.of(bytes([n])) for n in range(50))

    async def shard(prefix: str) -> list[Holding]:
        asked.append(prefix)
        return [Holding(one, 1, 0.0) for one in digests if one.hex.startswith(prefix)]

    walk = Walk(shard)
    first = await anext(walk)
    assert first == digests[0]
    assert asked[-1] == first.hex[:2]
    assert [first] + [one async for one in walk] == digests
    assert asked == list(PREFIXES)
