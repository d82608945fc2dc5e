"""What bodies cost the node, whoever sends them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from tests.node.world import world

AUDIT = "/npm/npm/-/npm/v1/security/audits"
PIECE = b" " * (1 << 20)


async def test_a_body_that_nobody_looks_at_is_not_held(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert (await node.ask("POST", AUDIT, [PIECE])).status == 200
        tracemalloc.start()
        try:
            answer = await node.ask("POST", AUDIT, [PIECE] * 16)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (answer.status, "metadata" in answer.json) == (200, True)
        assert peak < 4 << 20


async def test_and_is_bounded_all_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert (await node.ask("POST", AUDIT, [PIECE] * 17)).status == 413
