"""Upstreams that lie, break off, lead astray or are made to: nothing bad is kept or passed on."""

from __future__ import annotations

import gzip
import hashlib
import random
from pathlib import Path

import pytest
import trio

from node.config import Upstreams
from node.upstream.guard import Guard
from tests.node.repositories.remotes import (
    LOOPBACK,
    distrust,
    get,
    kept,
    make_remote,
    proxy,
    settle,
)
from tests.node.world import world
from tests.upstreams import Asked, Page, upstream

BIG = random.Random(1).randbytes(1 << 20)


async def nothing_kept(node, path: str) -> bool:
    """Whether neither a fact nor a file is left of a fetch."""
    return await node.core.catalog.find("up", path) is None and kept(node) == []


# --- bodies -------------------------------------------------------------------------------------
async def test_a_body_cut_off_again_and_again_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        server.put("/big", BIG, cuts=[300_000, 200_000, 100_000])
        assert (await get(node, "/big")).body == BIG
        spans = [each.headers.get("range") for each in server.asked]
        assert spans == [None, "bytes=300000-", "bytes=500000-", "bytes=600000-"]
        assert all("if-range" in each.headers for each in server.asked[1:])


async def test_an_upstream_without_ranges_sends_all_again_and_is_compared(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        server.put("/big", BIG, cuts=[300_000], ranges=False)
        assert (await get(node, "/big")).body == BIG
        assert server.counts() == {"/big": 2}


async def test_a_file_that_changes_amid_its_fetch_is_not_glued_together(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        other = random.Random(2).randbytes(len(BIG))
        first, second = Page(BIG, cuts=[300_000]), Page(other)
        server.pages["/big"] = lambda asked: second if "range" in asked.headers else first
        answer = await get(node, "/big")
        assert answer.body != BIG
        assert len(answer.body) < 300_000, "what was withheld never left"
        assert await nothing_kept(node, "big")


@pytest.mark.parametrize(
    "page",
    [
        Page(b""),
        Page(b"x" * 100_000, length=200_000, etag=False),
        Page(b"x" * 100_000, length=-1, etag=False),
        Page(b"x" * 100_000, chunked=True, cuts=[50_000] * 9, etag=False),
        Page(b"<html>login</html>", headers={"content-type": "text/html"}),
        Page(b"data", coding="br"),
        Page(b"data", headers={"x-checksum-sha256": "0" * 64}),
        Page(b"data", headers={"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}),
        Page(b"data", headers={"repr-digest": "sha-256=:" + "A" * 43 + "=:"}),
        Page(b"data", status=206, headers={"content-range": "bytes 0-3/10"}),
        Page(b"data", status=204),
        Page(b"data", status=302),
        Page(b"data", status=418),
    ],
    ids=lambda each: f"{each.status}-{len(each.body)}-{each.length}-{each.coding}{each.chunked}",
)
async def test_bad_answers_are_neither_passed_on_as_whole_nor_kept(
    tmp_path: Path, page: Page
) -> None:
    async with proxy(tmp_path) as (node, server):
        server.pages["/x"] = page
        answer = await get(node, "/x")
        whole = answer.status == 200 and len(answer.body) == len(page.body)
        assert not whole, (answer.status, len(answer.body))
        assert await nothing_kept(node, "x")
        server.put("/x", b"good")
        await settle(node, negative_ttl_seconds=0)
        assert (await get(node, "/x")).body == b"good", "and the next good one is"


async def test_a_promised_digest_is_enforced(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        path = f"/by-hash/SHA256/{hashlib.sha256(BIG).hexdigest()}"
        wrong = bytes(BIG[:-1]) + b"!"
        server.put(path, wrong)
        answer = await get(node, path)
        assert answer.status == 502 or len(answer.body) < len(BIG)
        assert await nothing_kept(node, path.strip("/"))
        server.put(path, BIG)
        assert (await get(node, path)).body == BIG


async def test_gzip_coded_answers_are_what_they_stand_for(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        server.put("/plain.txt", b"text " * 50_000, coding="gzip")
        assert (await get(node, "/plain.txt")).body == b"text " * 50_000
        packed = gzip.compress(b"archive", mtime=0)
        mislabelled = Page(packed, headers={"content-encoding": "x-gzip"})
        server.pages["/a.tar.gz"] = mislabelled
        assert (await get(node, "/a.tar.gz")).body == packed
        bomb = Page(gzip.compress(b"x" * 1000)[:-20], headers={"content-encoding": "gzip"})
        server.pages["/cut.txt"] = bomb
        assert (await get(node, "/cut.txt")).status == 502


async def test_a_slow_drip_is_waited_for_and_silence_is_not(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        await settle(node, timeout_seconds=0.5)
        server.put("/slow", BIG, drip=0.05)
        assert (await get(node, "/slow")).body == BIG
        server.put("/silent", BIG, gate=trio.Event())
        with trio.fail_after(10):
            assert (await get(node, "/silent")).status == 502


# --- redirects and addresses --------------------------------------------------------------------
async def test_redirects_are_followed_and_bounded(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        for number in range(9):
            location = {"location": f"/hop{number + 1}"}
            server.put(f"/hop{number}", b"", status=302, headers=location)
        server.put("/hop9", b"here")
        assert (await get(node, "/hop5")).body == b"here"
        assert (await get(node, "/hop0")).status == 502
        server.put("/circle", b"", status=301, headers={"location": "/circle"})
        assert (await get(node, "/circle")).status == 502


async def test_a_redirect_into_the_private_network_is_refused(tmp_path: Path) -> None:
    allowed = Upstreams(allow=("127.0.0.1/32",))
    async with upstream() as server, world(tmp_path, upstream=allowed) as node:
        await make_remote(node, server.url)
        for number, place in enumerate(
            [
                f"http://127.0.0.2:{server.port}/secret",
                "http://169.254.169.254/latest/meta-data/",
                f"http://[::1]:{server.port}/secret",
                f"http://2130706434:{server.port}/secret",
                f"http://0x7f.0.0.2:{server.port}/secret",
                "file:///etc/passwd",
                "gopher://127.0.0.1:1/",
            ]
        ):
            server.put(f"/r{number}", b"", status=302, headers={"location": place})
            server.put("/secret", b"the machine's own")
            answer = await get(node, f"/r{number}")
            assert answer.status == 502, place
            assert b"own" not in answer.body
        assert "/secret" not in server.counts()


async def test_a_private_upstream_needs_the_operators_leave(tmp_path: Path) -> None:
    async with upstream() as server, world(tmp_path) as node:
        await make_remote(node, server.url)
        server.put("/x", b"data")
        answer = await get(node, "/x")
        assert answer.status == 502
        assert b"upstream.allow" in answer.body
        assert server.asked == []


async def test_a_name_that_changes_its_address_is_judged_as_connected(tmp_path: Path) -> None:
    """DNS rebinding: the first look-up is public, every later one this machine."""
    async with upstream() as server, world(tmp_path) as node:
        looked: list[str] = []

        async def resolver(host: str, port: int) -> list[str]:
            looked.append(host)
            return ["127.0.0.1"] if len(looked) > 1 else ["203.0.113.7", "127.0.0.1"]

        node.core.engine.guard = Guard((), resolver)
        await make_remote(node, f"http://rebinding.test:{server.port}")
        server.put("/x", b"the machine's own")
        for _ in range(3):
            answer = await get(node, "/x")
            assert answer.status == 502
        assert server.asked == []
        assert len(looked) == 3, "one look-up a connection, and no other"


async def test_the_connection_goes_to_the_address_that_was_judged(tmp_path: Path) -> None:
    async with upstream() as server, world(tmp_path, upstream=LOOPBACK) as node:

        async def resolver(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        node.core.engine.guard = Guard(("127.0.0.1/32",), resolver)
        await make_remote(node, f"http://only-here.test:{server.port}")
        server.put("/x", b"data")
        assert (await get(node, "/x")).body == b"data"
        assert server.asked[0].headers["host"] == f"only-here.test:{server.port}"


async def test_credentials_stay_when_a_redirect_leaves(tmp_path: Path) -> None:
    async with upstream() as other, proxy(tmp_path) as (node, server):
        secret = {"auth_type": "basic", "username": "u", "password": "p"}
        await node.api("PUT", "/repositories/up/upstream-auth", secret)
        await node.api("PUT", "/repositories/up/upstream-headers", {"headers": {"x-api-key": "k"}})
        server.put("/here", b"", status=307, headers={"location": "/there"})
        server.put("/there", b"data")
        assert (await get(node, "/here")).body == b"data"
        assert all("authorization" in each.headers for each in server.asked)
        away = {"location": f"{other.url}/x", "set-cookie": "session=1"}
        server.put("/away", b"", status=302, headers=away)
        other.put("/x", b"elsewhere")
        assert (await get(node, "/away")).body == b"elsewhere"
        (asked,) = other.asked
        assert not {"authorization", "x-api-key", "cookie"} & set(asked.headers)


# --- what clients send --------------------------------------------------------------------------
async def test_nothing_that_a_client_sends_reaches_the_upstream(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        server.put("/x", b"data")
        odd = {"accept-encoding": "br", "cookie": "c=1", "x-forwarded-host": "evil.test"}
        odd |= {"host": "evil.test", "accept": "text/evil", "referer": "http://in.side/"}
        token = {"authorization": f"Bearer {node.token}"}
        assert (await get(node, "/x?y=z", **odd, **token)).body == b"data"
        (asked,) = server.asked
        assert asked.path == "/x"
        assert asked.headers == {
            "host": f"127.0.0.1:{server.port}",
            "user-agent": "Atoll",
            "accept": "*/*",
            "accept-encoding": "identity",
        }


@pytest.mark.parametrize(
    "path",
    ["/a%0d%0ahost:%20evil", "/a%00b", "/%2e%2e/x", "/a%2fb/../../x", "/a\\b", "/%252e%252e/x"],
)
async def test_paths_that_would_break_a_request_do_not_become_one(
    tmp_path: Path, path: str
) -> None:
    async with proxy(tmp_path) as (node, server):
        assert (await get(node, path)).status in {400, 404}
        assert server.asked == []


async def test_odd_characters_arrive_as_they_were_meant(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        for sent in ("/a%3Fb%23c", "/%E2%82%AC/a+b", "/a%25b"):
            await get(node, sent)
        paths = [each.path for each in server.asked]
        assert paths[:2] == ["/a%3Fb%23c", "/%E2%82%AC/a+b"]


async def test_variants_of_one_request_cannot_poison_each_other(tmp_path: Path) -> None:
    """An upstream that answers by Host, Accept and coding sees one and the same request."""
    async with proxy(tmp_path) as (node, server):
        await distrust(node)

        def by_header(asked: Asked) -> Page:
            named = ("host", "accept", "accept-encoding", "x-forwarded-host", "user-agent")
            return Page("|".join(asked.headers.get(name, "") for name in named).encode())

        server.pages["/x"] = by_header
        first = await get(node, "/x")
        for odd in (
            {"host": "evil.test"},
            {"accept": "text/evil"},
            {"accept-encoding": "gzip"},
            {"x-forwarded-host": "evil.test"},
            {"user-agent": "evil"},
        ):
            assert (await get(node, "/x", **odd)).body == first.body
        assert b"evil" not in first.body


async def test_an_upstream_cannot_smuggle_headers_to_clients(tmp_path: Path) -> None:
    async with proxy(tmp_path) as (node, server):
        headers = {"set-cookie": "a=1", "x-evil": "1", "content-security-policy": "none"}
        headers |= {"content-type": "text/html\x85evil: 1", "location": "http://evil.test/"}
        server.put("/a.html", b"<script>", headers=headers)
        answer = await get(node, "/a.html")
        assert not {"set-cookie", "x-evil", "location"} & set(answer.headers)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_too_many_fetches_are_refused_and_not_queued_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.repositories.remote.engine.FLIGHTS_MAX", 2)
    async with proxy(tmp_path) as (node, server):
        gate = trio.Event()
        for number in range(3):
            server.put(f"/f{number}", b"data", gate=gate)
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(node.ask, "GET", f"/general/up/f{number}")
            await trio.sleep(0.3)
            assert (await node.ask("GET", "/general/up/f2")).status == 503
            gate.set()
