"""Pages of artifacts: what is asked of the blob store for each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio

from node.api.artifacts import ASKED_MAX, views
from store.digest import Digest
from store.rows import Artifact


def artifact(number: int) -> Artifact:
    digest = Digest.of(b"%d" % (number // 2))  # each twice
    place = ("r", "p", "1", f"p/{number}", "file", digest, 1, {"sha256": digest.hex})
    return Artifact(*place, b"", None, b"", 0.0, b"r" * 32, "a", False, False, False)


async def test_a_page_asks_once_for_each_digest_and_few_at_a_time() -> None:
    page = [artifact(number) for number in range(1000)]
    asked: list[Digest] = []
    tasks = before = trio.lowlevel.current_statistics().tasks_living

    async def holds(digest: Digest) -> bool:
        nonlocal tasks
        asked.append(digest)
        tasks = max(tasks, trio.lowlevel.current_statistics().tasks_living)
        await trio.lowlevel.checkpoint()
        return int(digest.hex, 16) % 2 == 0

    call: Any = SimpleNamespace(core=SimpleNamespace(holds=holds), root_url="http://here")
    found = await views(call, page)
    assert [each.path for each in found] == [each.path for each in page]
    assert [each.local for each in found] == [int(e.digest.hex, 16) % 2 == 0 for e in page]
    assert sorted(map(str, asked)) == sorted({str(each.digest) for each in page})
    assert tasks - before <= ASKED_MAX
