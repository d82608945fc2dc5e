"""The front door: health, metrics, and what is nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from node.front import FRESH, Health, LazyApp
from node.http.asgi import App, Message
from store.errors import StoreFullError
from tests.node.world import PASSWORD, world


async def test_health_is_public_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as node:
        for path in ("/health", "/healthz", "/ready", "/readyz", "/health/"):
            answer = await node.ask("GET", path)
            assert answer.status == 200
            assert answer.json["status"] == "healthy"
            assert answer.json["checks"] == {"database": "ok", "storage": "ok"}
            assert answer.headers["cache-control"] == "no-store"
        assert (await node.ask("HEAD", "/health")).body == b""

    async with world(tmp_path / "b") as node:

        def full(*_: object, **__: object) -> None:
            raise StoreFullError("no space left in the blob store")

        monkeypatch.setattr(node.core.blobs.store, "ingest", full)
        answer = await node.ask("GET", "/health")
        assert answer.status == 503
        assert answer.json["checks"]["storage"] == "no space left in the blob store"
        assert (await node.ask("GET", "/livez")).status == 200


async def test_checks_are_bounded_in_time_and_number(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Anybody may ask as often as they like; each check writes to the disk."""
    runs = 0

    async def slow() -> None:
        nonlocal runs
        runs += 1
        await trio.sleep(60)

    health = Health("1", {"disk": slow})
    found: list[tuple[bool, dict[str, object]]] = []

    async def ask() -> None:
        found.append(await health.report())

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert runs == 1
    assert trio.current_time() == 2.0
    assert all(
        each == (False, {"status": "unhealthy", "checks": {"disk": "slow"}}) for each in found
    )
    await trio.sleep(FRESH)
    await ask()
    assert runs == 2


async def test_metrics_are_for_administrators(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert (await node.ask("GET", "/metrics")).status == 401
        await node.api("POST", "/users", {"username": "ann", "password": "password of hers"})
        token, _ = await node.core.accounts.create_token("ann", "t", ["*"], actor="t")
        narrow, _ = await node.core.accounts.create_token("admin", "t", ["read"], actor="t")
        for each in (token, narrow, "wrong"):
            headers = {"authorization": f"Bearer {each}"}
            assert (await node.ask("GET", "/metrics", b"", headers)).status == 401
        answer = await node.ask("GET", "/metrics", password=node.token)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = answer.body.decode()
        assert 'atoll_http_requests_total{format="api",method="POST",status="201"} 1.0' in text
        assert 'atoll_ledger_facts_total{kind="setting"}' in text
        assert PASSWORD not in text


async def test_what_is_nowhere_is_said_so_without_markup(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        answer = await node.ask("GET", "/<script>")
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await node.ask("GET", "/")).json["name"] == "atoll"
        assert (await node.ask("GET", "/api")).json["code"] == "NOT_FOUND"


async def test_the_api_is_built_once_however_many_ask() -> None:
    built: list[int] = []
    answered: list[str] = []

    async def app(scope: Message, receive: object, send: object) -> None:
        answered.append(scope["path"])

    def build() -> App:
        built.append(1)
        return app

    lazy = LazyApp(build)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(lazy, {"path": f"/{number}"}, None, None)  # type: ignore[arg-type]  # a fake of it
    assert built == [1]
    assert sorted(answered) == ["/0", "/1", "/2"]


async def test_the_lifespan_is_acknowledged(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        messages: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> Message:
            return messages.pop(0)

        async def send(message: Message) -> None:
            sent.append(message["type"])

        await node.front({"type": "lifespan"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
