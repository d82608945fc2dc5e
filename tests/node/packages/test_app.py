"""Package traffic end to end without a socket: order of judgement, errors, limits, the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from node.config import Access, Config, Http
from node.http.asgi import Message
from node.packages.app import PackageApp
from node.packages.observe import Observation
from node.run import build_front
from node.service import open_core
from store.errors import NoHolderError
from tests.node.world import PASSWORD, World, world


def auth(node: World) -> dict[str, str]:
    return {"authorization": f"Bearer {node.token}"}


def leftovers(node: World) -> list[Path]:
    return list((node.core.config.path / "tmp").iterdir())


async def blobs(node: World) -> int:
    return len([digest async for digest in node.core.blobs.store.digests()])


async def test_a_body_declared_too_large_is_not_read(tmp_path: Path) -> None:
    async with world(tmp_path, http=Http(upload_max=10)) as node:
        headers = {**auth(node), "content-length": "11"}
        answer = await refuse_to_read(node, "/general/generic/x", headers)
        assert answer == 413
        pieces = [b"12345", b"67890", b"1"]
        assert (await node.ask("PUT", "/general/generic/x", pieces, auth(node))).status == 413
        assert (await node.ask("PUT", "/general/generic/x", pieces[:2], auth(node))).status == 201
        assert await blobs(node) == 1
        assert leftovers(node) == []


async def refuse_to_read(node: World, path: str, headers: dict[str, str]) -> int:
    """PUT, where reading the body fails the test; gives the status."""
    statuses: list[int] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        statuses.append(message.get("status", 0))

    scope = {
        "type": "http",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "extensions": {},
    }
    await node.front(scope, receive, send)
    return statuses[0]


async def test_rights_and_quota_are_judged_before_the_body(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert await refuse_to_read(node, "/general/generic/x", {}) == 401
        assert await refuse_to_read(node, "/general/none/x", auth(node)) == 404
        small = {"key": "small", "format": "generic", "quota_bytes": 10}
        await node.api("POST", "/repositories", small)
        declared = {**auth(node), "content-length": str(50 << 20)}
        assert await refuse_to_read(node, "/general/small/x", declared) == 507
        foreign = {**auth(node), "sec-fetch-site": "cross-site"}
        assert await refuse_to_read(node, "/general/generic/x", foreign) == 403


async def test_a_client_that_leaves_leaves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for path in ("/general/generic/x", "/pypi/pypi/legacy/"):
            waiting: list[Message] = [
                {"type": "http.request", "body": bytes(3 << 20), "more_body": True},
                {"type": "http.disconnect"},
            ]
            sent: list[Message] = []

            async def receive(waiting: list[Message] = waiting) -> Message:
                return waiting.pop(0)

            async def send(message: Message, sent: list[Message] = sent) -> None:
                sent.append(message)

            headers = {**auth(node), "content-type": "multipart/form-data; boundary=x"}
            scope = {
                "type": "http",
                "method": "PUT" if "general" in path else "POST",
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 80),
                "scheme": "http",
                "extensions": {},
            }
            await node.front(scope, receive, send)
            assert await blobs(node) == 0
            assert leftovers(node) == []
        assert (await node.ask("GET", "/general/generic/x")).status == 404


async def test_bytes_that_end_amid_an_answer_end_it_short_and_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server breaks the connection of an answer that was not finished; no traceback."""
    async with world(tmp_path) as node:
        await node.ask("PUT", "/general/generic/x", b"0123456789", auth(node))

        class Chunks:
            sent = False

            def __aiter__(self) -> Chunks:
                return self

            async def __anext__(self) -> bytes:
                if self.sent:
                    raise NoHolderError("the last holder left")
                self.sent = True
                return b"01234"

        class Reading:
            async def __aenter__(self) -> Chunks:
                return Chunks()

            async def __aexit__(self, *_: object) -> None:
                pass

        monkeypatch.setattr(node.core.blobs, "descriptor", lambda digest: None)
        monkeypatch.setattr(node.core.blobs, "read", lambda *_, **__: Reading())
        seen: list[Observation] = []
        app = package_app(node)
        app._parts = replace_observer(app, seen)
        answer = await node.ask("GET", "/general/generic/x")
        assert (answer.status, answer.body) == (200, b"01234")
        assert answer.headers["content-length"] == "10"
        assert "the last holder left" in seen[-1].error


def package_app(node: World) -> PackageApp:
    return node.front._packages


def replace_observer(app: PackageApp, seen: list[Observation]) -> Any:
    return replace(app._parts, observer=seen.append)


async def test_writes_are_limited_per_caller(tmp_path: Path) -> None:
    access = Access(admin_password=PASSWORD, writes_per_minute=2)
    async with open_core(Config(data=str(tmp_path / "d"), access=access)) as core:
        node = World(core, build_front(core))
        node.token, _ = await core.accounts.create_token("admin", "t", ["*"], actor="t")
        tries = [await node.ask("PUT", f"/general/generic/{n}", b"x", auth(node)) for n in range(3)]
        assert [each.status for each in tries] == [201, 201, 429]
        assert int(tries[2].headers["retry-after"]) >= 1
        assert (await node.ask("GET", "/general/generic/0")).status == 200


async def test_refusals_are_audited_and_floods_of_them_cut(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await node.api("POST", "/users", {"username": "ann", "password": "password of hers"})
        token, _ = await node.core.accounts.create_token("ann", "t", ["write"], actor="t")
        headers = {"authorization": f"Bearer {token}"}
        assert (await node.ask("PUT", "/general/generic/x", b"x", headers)).status == 403
        assert (await node.ask("PUT", "/general/generic/x", b"x")).status == 401
        logout = "/npm/npm/-/user/token/atoll_0123456789abcdef"
        assert (await node.ask("DELETE", logout, b"", {"authorization": "Bearer x"})).status == 401
        found = await node.core.audit.entries(outcome="refused")
        assert [(e.actor, e.action) for e in found] == [("", "npm.delete"), ("ann", "generic.put")]
        assert "0123456789" not in found[0].target
        began = trio.current_time()
        for _ in range(100):
            await node.ask("PUT", "/general/generic/x", b"x", headers)
        trickle = trio.current_time() - began  # an entry a second is let through meanwhile
        assert len(await node.core.audit.entries(outcome="refused", limit=999)) <= 62 + trickle


async def test_methods_that_clients_make_up_share_one_label(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for number in range(20):
            answer = await node.ask(f"FROB{number}", "/general/generic/x")
            assert answer.status == 405
            assert "GET" in answer.headers["allow"]
        text = node.core.metrics.render().decode()
        assert "FROB" not in text
        assert 'method="other",status="405"} 20.0' in text


async def test_odd_queries_are_refused_natively(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        query = "&".join(f"a{n}=1" for n in range(100))
        answer = await node.ask("GET", f"/npm/npm/-/v1/search?{query}")
        assert answer.status == 400
        assert "error" in answer.json


async def test_unwanted_bodies_are_read_away_up_to_a_bound(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await node.ask("PUT", "/general/generic/x", b"x", auth(node))
        huge = [bytes(60_000), bytes(60_000)]
        assert (await node.ask("DELETE", "/general/generic/x", huge, auth(node))).status == 413
        assert (await node.ask("DELETE", "/general/generic/x", b"why", auth(node))).status == 204


async def test_two_answers_at_once_do_not_mix(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for name in ("a", "b"):
            await node.ask("PUT", f"/general/generic/{name}", name.encode() * 1000, auth(node))
        found: dict[str, bytes] = {}

        async def get(name: str) -> None:
            found[name] = (await node.ask("GET", f"/general/generic/{name}")).body

        async with trio.open_nursery() as nursery:
            for name in ("a", "b"):
                nursery.start_soon(get, name)
        assert found == {"a": b"a" * 1000, "b": b"b" * 1000}
