"""The event stream and webhooks over the API; the rest is in tests/node/events."""

from __future__ import annotations

from pathlib import Path

from node.api import events
from node.api.identity import identify
from node.events.stream import Streams
from tests.node.world import world


async def test_the_stream_is_one_of_events(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        node.core.streams.stopping.set()  # or it would never end
        answer = await node.ask("GET", "/api/v1/events/stream?types=artifact.*")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.body.startswith(b"retry:")
        too_long = "/api/v1/events/stream?types=" + "x" * 200
        assert (await node.ask("GET", too_long)).status == 400
        bad = {"authorization": "Bearer nonsense"}
        assert (await node.ask("GET", "/api/v1/events/stream", headers=bad)).status == 401
        assert isinstance(node.core.streams, Streams)


async def test_webhooks_are_bounded(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]  # as the test's fixtures are
    monkeypatch.setattr(events, "WEBHOOKS_MAX", 1)
    async with world(tmp_path) as node:
        body = {"url": "https://x.test/", "secret": "my own secret 123"}
        made = await node.api("POST", "/webhooks", body)
        assert (made.status, made.json["secret"]) == (201, "my own secret 123")
        assert (await node.api("POST", "/webhooks", body)).status == 409
        for bad in ({"url": "ftp://x"}, {"url": "https://x/", "secret": "short"}, {}):
            assert (await node.api("POST", "/webhooks", bad)).status == 400
        control = {"authorization": f"Control {node.core.control.secret}"}
        caller = await identify(node.core, control, "127.0.0.1")
        assert caller.admin
