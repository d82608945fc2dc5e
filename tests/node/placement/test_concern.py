"""Write concern over whole nodes: the answer says what is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.concern import Concern
from node.placement.concern import WAIT_MAX, Wanted, wanted
from store.digest import Digest
from store.errors import RejectedError
from tests.node.placement.fleet import Fleet, Node, fleet
from tests.node.world import Answer


def test_the_request_decides_before_the_repository() -> None:
    assert wanted({}, {}, "") == Wanted()
    assert wanted({}, {}, "sites:1") == Wanted(Concern("sites", 1))
    assert wanted({}, {}, "from the future:7") == Wanted()
    assert wanted({"x-atoll-wait": "replicated:2; timeout=5"}, {}, "sites:1") == Wanted(
        Concern("replicated", 2), 5.0
    )
    asked = {"wait": ["replicated:1"], "timeout": ["99999"]}
    assert wanted({}, asked, "") == Wanted(Concern("replicated", 1), WAIT_MAX)
    assert wanted({"x-atoll-wait": "local"}, {}, "sites:1") == Wanted()


@pytest.mark.parametrize("said", ["all", "replicated:0", "replicated:1;timeout=x", "sites:1;x=1"])
def test_what_is_no_concern_is_refused(said: str) -> None:
    with pytest.raises(RejectedError):
        wanted({"x-atoll-wait": said}, {}, "")


async def put(node: Node, path: str, data: bytes, wait: str = "") -> Answer:
    if not node.token:
        node.token, _ = await node.core.accounts.create_token("admin", "t", ["*"], actor="admin")
    headers = {"x-atoll-wait": wait} if wait else {}
    return await node.ask("PUT", f"/general/generic/{path}", data, headers, password=node.token)


async def meet(made: Fleet, count: int) -> list[Node]:
    return [await made.node(site) for site in ("harbour", "ship", "ship")[:count]]


async def test_a_publish_is_answered_when_members_have_it(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        a, b, c = await meet(made, 3)
        answer = await put(a, "x/1", b"data" * 1000, "replicated:2")
        assert answer.status == 201, answer.body
        digest = Digest.of(b"data" * 1000)
        for node in (b, c):
            assert await node.has(digest)
            assert await node.core.catalog.by_digest(None, digest)
        answer = await put(a, "x/2", b"more", "sites:1")
        assert answer.status == 201
        assert await b.has(Digest.of(b"more")) or await c.has(Digest.of(b"more"))


async def test_what_can_never_be_reached_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as made:
        a, _ = await meet(made, 2)
        answer = await put(a, "x/1", b"data", "replicated:2")
        assert answer.status == 400
        assert b"not so many other members" in answer.body
        assert await a.core.catalog.find("generic", "x/1") is None


async def test_a_late_answer_says_what_is_committed_and_the_next_try_succeeds(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as made:
        a, b = await meet(made, 2)
        changed = await a.api("PATCH", "/repositories/generic", {"write_concern": "replicated:1"})
        assert changed.status == 200
        copies = b.core.mesh.copies  # type: ignore[union-attr]  # the node has a mesh
        keeper, copies.keeper = copies.keeper, None  # it answers, but keeps nothing
        answer = await put(a, "x/1", b"data", "replicated:1;timeout=0.3")
        assert answer.status == 504
        assert b"committed on this node" in answer.body
        assert b"only 0 of replicated:1" in answer.body
        assert await a.core.catalog.find("generic", "x/1") is not None
        copies.keeper = keeper
        answer = await put(a, "x/1", b"data")  # nothing new: it waits all the same
        assert answer.status in {200, 201}
        assert await b.has(Digest.of(b"data"))
