"""What is carried, over the API: operators only, and nothing without a mesh."""

from __future__ import annotations

from pathlib import Path

from mesh.cargo import Lack
from mesh.couriers import Cargo
from node.api import couriers as module
from tests.node.world import world

K, A, C = b"k" * 32, b"a" * 32, b"c" * 32
BLOBS = [index.to_bytes(32, "big") for index in range(5)]


async def test_without_a_mesh_nothing_is_carried(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert (await node.api("GET", "/mesh/couriers")).status == 503
        assert (await node.ask("GET", "/api/v1/mesh/couriers")).status == 401


def test_every_state_has_its_name() -> None:
    cargo = Cargo(K, 1 << 30)
    lacks = [Lack(blob, b"", 7, 1000, 0, 0) for blob in BLOBS]
    cargo.stated(C, 1, lacks, 0.0, lambda _: True)
    for blob in BLOBS[:2]:
        cargo.loaded(blob, 9)
    cargo.begin(BLOBS[2], 8)
    cargo.stated(C, 2, lacks[1:], 0.0, lambda _: True)
    wishes = {blob: [(C, wish)] for blob, wish in cargo.wishes[C].items()}
    items = [module._item(cargo, blob, wishes.get(blob, [])) for blob in BLOBS[:4]]
    states = [(each.state, each.size) for each in items]
    assert states == [("leaving", 9), ("carried", 9), ("coming", 8), ("wanted", 7)]
    assert items[1].wishes[0].teller == C.hex()


def test_an_empty_blob_that_nobody_wants_any_more_can_be_shown() -> None:
    cargo = Cargo(K, 1 << 30)
    cargo.loaded(BLOBS[0], 0)
    item = module._item(cargo, BLOBS[0], [])
    assert (item.state, item.size) == ("leaving", 0)
