"""Remote repositories against a counting upstream: what is asked, how often, and what is kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import trio

from tests.node.repositories.remotes import distrust, get, kept, proxy, settle
from tests.node.world import Answer

BIG = bytes(range(256)) * 4096


async def test_a_file_is_fetched_once_and_becomes_a_fact(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        data = b"bytes " * 40_000
        server.put("/a/b%20c.bin", data)
        first = await get(node, "/a/b%20c.bin")
        assert (first.status, first.body) == (200, data)
        assert first.headers["x-cache"] == "MISS"
        second = await get(node, "/a/b%20c.bin")
        assert (second.status, second.body) == (200, data)
        assert second.headers["x-cache"] == "HIT"
        assert "age" in second.headers
        assert server.counts() == {"/a/b%20c.bin": 1}
        found = await node.core.catalog.find("up", "a/b c.bin")
        assert found is not None
        assert found.digest.hex == hashlib.sha256(data).hexdigest()
        assert found.checksums["md5"] == hashlib.md5(data).hexdigest()
        assert kept(node) == []


async def test_two_hundred_clients_cause_one_fetch(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        page = server.put("/big", BIG, gate=trio.Event())
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await node.ask("GET", "/general/up/big"))

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask)
            await trio.sleep(0.3)
            page.gate.set()
        assert server.counts() == {"/big": 1}
        assert len(answers) == 200
        assert all(each.body == BIG for each in answers)


async def test_the_first_byte_does_not_wait_for_the_last(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        page = server.put("/big", BIG, half=trio.Event())
        started = trio.Event()
        real = node.front

        async def watching(scope, receive, send):
            async def sent(message):
                if message["type"] == "http.response.zerocopysend":
                    started.set()
                await send(message)

            await real(scope, receive, sent)

        node.front = watching  # type: ignore[assignment]  # a fake in its place
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get, node, "/big")
            with trio.fail_after(10):
                await started.wait()
            assert await node.core.catalog.find("up", "big") is None
            page.half.set()
        assert (await get(node, "/big")).body == BIG
        assert server.counts() == {"/big": 1}


async def test_a_client_that_leaves_does_not_end_the_fetch(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        page = server.put("/big", BIG, half=trio.Event())
        with trio.move_on_after(0.2):
            await node.ask("GET", "/general/up/big")
        page.half.set()
        await node.core.engine.settled()
        assert (await get(node, "/big")).headers["x-cache"] == "HIT"
        assert server.counts() == {"/big": 1}


# --- freshness ----------------------------------------------------------------------------------
async def test_what_changes_is_asked_for_again_with_its_validator(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await distrust(node)
        server.put("/latest", b"one")
        assert (await get(node, "/latest")).body == b"one"
        again = await get(node, "/latest")
        assert (again.body, again.headers["x-cache"]) == (b"one", "REVALIDATED")
        assert server.asked[-1].headers["if-none-match"] == server.pages["/latest"].tag
        server.put("/latest", b"two")
        changed = await get(node, "/latest")
        assert (changed.body, changed.headers["x-cache"]) == (b"two", "MISS")
        await settle(node, cache_ttl_seconds=3600)
        server.put("/latest", b"three")
        assert (await get(node, "/latest")).body == b"two"
        await node.api("POST", "/repositories/up/cache/invalidate", {"path": "lat*"})
        assert (await get(node, "/latest")).body == b"three"


async def test_immutable_paths_are_never_asked_for_again(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await distrust(node)
        await settle(node, immutable_patterns=["releases/*"])
        server.put("/releases/1", b"one")
        for _ in range(5):
            assert (await get(node, "/releases/1")).body == b"one"
        server.put("/releases/1", b"mutated")
        assert (await get(node, "/releases/1")).body == b"one"
        assert server.counts() == {"/releases/1": 1}
        answer = await get(node, "/releases/1")
        assert "max-age=31536000" in answer.headers["cache-control"]


async def test_a_document_a_little_past_its_time_is_sent_and_refreshed(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await settle(node, cache_ttl_seconds=0, stale_while_revalidate_seconds=600)
        server.put("/latest", b"one")
        await get(node, "/latest")
        server.put("/latest", b"two")
        assert (await get(node, "/latest")).body == b"one"
        assert (await get(node, "/latest")).body == b"two"


async def test_a_missing_file_is_believed_for_a_while_and_then_found(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        for _ in range(5):
            assert (await get(node, "/soon")).status == 404
        assert server.counts() == {"/soon": 1}
        server.put("/soon", b"published")
        assert (await get(node, "/soon")).status == 404
        await settle(node, negative_ttl_seconds=0)
        assert (await get(node, "/soon")).body == b"published"


async def test_an_upstream_that_fails_leaves_what_is_kept_readable(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await distrust(node)
        page = server.put("/latest", b"one")
        await get(node, "/latest")
        for status in (500, 503, 401, 403, 429):
            page.status = status
            answer = await get(node, "/latest")
            assert (answer.status, answer.body) == (200, b"one"), status
            assert answer.headers["x-cache"] == "STALE"
            assert answer.headers["warning"].startswith("111 ")
            assert "age" in answer.headers
        server.refuse = True
        assert (await get(node, "/latest")).body == b"one"
        await settle(node, stale_max_seconds=0.001)
        assert (await get(node, "/latest")).status in {502, 503}
        assert (await get(node, "/never-seen")).status in {502, 503}


async def test_a_slow_upstream_does_not_hold_who_can_be_given_a_stale_answer(
    tmp_path: Path,
) -> None:
    async with proxy(tmp_path) as (node, server):
        await distrust(node)
        await settle(node, patience_seconds=0.1)
        page = server.put("/latest", b"one")
        await get(node, "/latest")
        page.gate = trio.Event()
        with trio.fail_after(5):
            answer = await node.ask("GET", "/general/up/latest")
        assert (answer.body, answer.headers["x-cache"]) == (b"one", "STALE")
        assert answer.headers["warning"].startswith("110 ")
        page.gate.set()


async def test_what_upstream_took_back_is_not_shown(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await distrust(node)
        server.put("/latest", b"one")
        await get(node, "/latest")
        del server.pages["/latest"]
        assert (await get(node, "/latest")).status == 404


async def test_a_circuit_opens_and_closes(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await settle(node, negative_ttl_seconds=0)
        page = server.put("/x", b"data", status=500)
        for number in range(6):
            assert (await get(node, "/x")).status in {502, 503}, number
        asked = len(server.asked)
        assert asked < 6
        assert (await node.api("GET", "/repositories/up/cache")).json["circuit"] == "open"
        page.status = 200
        node.core.engine.clients["up"].client.breaker._until = 0.0
        assert (await get(node, "/x")).status == 200
        assert (await node.api("GET", "/repositories/up/cache")).json["circuit"] == "closed"


async def test_an_offline_repository_asks_nobody(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await distrust(node)
        server.put("/x", b"data")
        await get(node, "/x")
        await settle(node, offline=True)
        answer = await get(node, "/x")
        assert (answer.body, answer.headers["x-cache"]) == (b"data", "HIT")
        assert (await get(node, "/y")).status == 503
        assert len(server.asked) == 1


async def test_restarted_nodes_ask_with_the_validators_of_the_ledger(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await distrust(node)
        server.put("/x", b"data")
        await get(node, "/x")
        node.core.engine.states._states.clear()
        assert (await get(node, "/x")).headers["x-cache"] == "REVALIDATED"


# --- ranges, heads, quotas ----------------------------------------------------------------------
async def test_ranges_and_heads(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        server.put("/big", BIG)
        head = await node.ask("HEAD", "/general/up/big")
        assert (head.status, head.headers["content-length"]) == (200, str(len(BIG)))
        assert server.counts("GET") == {}
        assert (await node.ask("HEAD", "/general/up/none")).status == 404
        part = await get(node, "/big", range="bytes=1000-1999")
        assert (part.status, part.body) == (206, BIG[1000:2000])
        part = await get(node, "/big", range="bytes=-5")
        assert (part.status, part.body) == (206, BIG[-5:])
        assert server.counts("GET") == {"/big": 1}


async def test_a_quota_bounds_what_is_kept(tmp_path: Path) -> None:
    async with proxy(tmp_path, quota_bytes=1000) as (node, server):
        server.put("/small", b"x" * 600)
        server.put("/large", b"y" * 600)
        assert (await get(node, "/small")).status == 200
        assert (await get(node, "/large")).status == 507
        assert await node.core.catalog.find("up", "large") is None


async def test_lookups_are_counted(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        server.put("/x", b"data")
        for _ in range(3):
            await get(node, "/x")
        await get(node, "/none")
        view = (await node.api("GET", "/repositories/up/cache")).json
        assert (view["lookups"]["miss"], view["lookups"]["hit"]) == (1, 2)
        assert (view["requests"], view["errors"], view["bytes_fetched"]) == (2, 0, 4)
        text = node.core.metrics.render().decode()
        assert 'atoll_proxy_cache_lookups_total{repository="up",result="hit"} 2.0' in text
        assert 'atoll_upstream_bytes_total{repository="up"} 4.0' in text


async def test_a_lost_blob_is_fetched_again_and_must_be_the_same(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await settle(node, immutable_patterns=["*"])
        server.put("/x", b"data")
        await get(node, "/x")
        found = await node.core.catalog.find("up", "x")
        assert found is not None
        await node.core.blobs.store.delete(found.digest)
        server.put("/x", b"evil")
        assert (await get(node, "/x")).status == 502
        server.put("/x", b"data")
        assert (await get(node, "/x")).body == b"data"


async def test_concurrent_fetches_share_records(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        for number in range(40):
            server.put(f"/f{number}", b"%d" % number)
        before = node.core.catalog.revision("up")
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(get, node, f"/f{number}")
        assert (await node.core.catalog.statistics("up")).files == 40
        assert node.core.catalog.revision("up") > before
