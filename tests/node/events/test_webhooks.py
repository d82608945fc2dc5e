"""Webhooks: signed, retried, given up, sent again; guarded; and only by their owner."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpcore
import msgspec
import pytest
import sqlalchemy as sa
import trio

from node.config import Hooks
from node.directory import WebhookEntry
from node.events import webhooks
from node.events.sender import GuardedSender, judge_url
from node.events.signing import sign
from node.events.webhooks import Answer
from node.upstream.guard import Guard
from store import schema
from store.errors import RejectedError, UnavailableError, UpstreamDeniedError
from tests.node.search.support import npm
from tests.node.world import World, world
from tests.upstreams import Asked, Page, upstream


class Receiver:
    """Takes what is sent, and answers as told."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.got: list[tuple[str, Mapping[str, str], bytes]] = []

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.got.append((url, headers, body))
        status = self.answers.pop(0) if self.answers else 200
        return Answer(status, "" if status == 200 else f"answered {status}")


def receive(node: World, *answers: int) -> Receiver:
    receiver = Receiver(*answers)
    node.core.webhooks._sender = receiver
    return receiver


async def hook(node: World, **changes: Any) -> Any:
    body = {"url": "https://hooks.example/x?token=1", "name": "ci", **changes}
    answer = await node.api("POST", "/webhooks", body)
    assert answer.status == 201, answer.body
    await settle(node)
    return answer.json


async def settle(node: World) -> None:
    """Queue whatever there is to queue."""
    while await node.core.webhooks.enqueue():
        pass


async def test_events_are_signed_and_delivered(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        receiver = receive(node)
        await settle(node)
        made = await hook(node, repositories=["npm"])
        await npm(node, "demo", "1.0.0")
        await settle(node)
        assert await node.core.webhooks.deliver_due() == 2
        url, headers, body = receiver.got[0]
        assert url == "https://hooks.example/x?token=1"
        event = json.loads(body)
        assert (event["type"], event["package"]) == ("artifact.created", "demo")
        assert headers["x-atoll-delivery"] == event["id"]
        stamp, _, signature = headers["x-atoll-signature"].partition(",")
        seconds = int(stamp.removeprefix("t="))
        assert abs(seconds - time.time()) < 60
        assert signature == f"v1={sign(made['secret'], seconds, body)}"
        assert await node.core.webhooks.deliver_due() == 0
        shown = (await node.api("GET", f"/webhooks/{made['id']}")).json
        assert shown["deliveries"]["delivered"] == 2
        assert "atoll_webhook_deliveries_total" in node.core.metrics.render().decode()


async def test_the_url_is_told_to_nobody(tmp_path: Path) -> None:
    """Its path or query is a password, mostly."""
    secret = b"T0/hush?token=hushed"
    async with world(tmp_path) as node:
        made = await hook(node, url=f"https://hooks.example:8443/{secret.decode()}")
        assert made["url"] == "https://hooks.example:8443/…"
        place = f"/webhooks/{made['id']}"
        changed = await node.api("PATCH", place, {"name": "other"})
        assert changed.json["url"] == "https://hooks.example:8443/…"
        receiver = receive(node)
        await node.api("POST", f"{place}/test")
        await node.core.webhooks.deliver_due()
        assert receiver.got[0][0] == f"https://hooks.example:8443/{secret.decode()}"
        moved = await node.api("PATCH", place, {"url": "https://other.example/hush"})
        assert moved.json["url"] == "https://other.example/…"
        await node.api("POST", f"{place}/test")
        await node.core.webhooks.deliver_due()
        assert receiver.got[1][0] == "https://other.example/hush"
        answers = [await node.api("GET", p) for p in (place, "/webhooks", f"{place}/deliveries")]
        assert not any(b"hush" in each.body for each in answers)
        query = sa.select(schema.records.c.body)
        bodies = await node.core.catalog.read(lambda c: list(c.execute(query).scalars()))
        assert len(bodies) > 3
        assert not any(b"hush" in bytes(each) for each in bodies)


async def test_a_webhook_of_an_older_node_goes_where_it_did(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        made = await hook(node)
        entry = node.core.directory.get(WebhookEntry, made["id"])
        assert entry is not None
        old = msgspec.structs.replace(entry, url="https://old.example/hush", address="")
        await node.core.ledger.append([node.core.directory.change(old.id, old)], actor="a")
        shown = await node.api("GET", f"/webhooks/{made['id']}")
        assert shown.json["url"] == "https://old.example/…"
        receiver = receive(node)
        await node.api("POST", f"/webhooks/{made['id']}/test")
        await node.core.webhooks.deliver_due()
        assert receiver.got[0][0] == "https://old.example/hush"


async def test_the_secret_is_told_once(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        made = await hook(node)
        place = f"/webhooks/{made['id']}"
        secret = made["secret"]
        for path in (place, "/webhooks", f"{place}/deliveries"):
            assert secret not in (await node.api("GET", path)).body.decode()
        (row,) = await node.core.catalog.settings("webhook")
        assert secret.encode() not in row.value
        receiver = receive(node)
        rotated = (await node.api("POST", f"{place}/secret", {})).json
        assert rotated["secret"] not in {secret, None}
        assert (await node.api("POST", f"{place}/test")).status == 202
        await node.core.webhooks.deliver_due()
        _, headers, body = receiver.got[0]
        stamp, *signatures = headers["x-atoll-signature"].split(",")
        seconds = int(stamp[2:])
        assert signatures == [
            f"v1={sign(each, seconds, body)}" for each in (rotated["secret"], secret)
        ]
        assert json.loads(body)["type"] == "webhook.test"
        changed = await node.api("PATCH", place, {"name": "new", "events": ["tag.*"]})
        assert (changed.json["name"], changed.json["events"]) == ("new", ["tag.*"])
        assert (await node.api("DELETE", place)).status == 204
        assert (await node.api("GET", place)).status == 404


async def test_what_is_not_taken_is_tried_again_then_given_up_and_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "FIRST", 0.0)
    monkeypatch.setattr(webhooks, "ATTEMPTS_MAX", 3)
    async with world(tmp_path) as node:
        receiver = receive(node, 500, 302, 404, 200)
        await settle(node)
        made = await hook(node)
        await npm(node, "demo", "1.0.0")
        await settle(node)
        place = f"/webhooks/{made['id']}"
        for tries in (1, 2, 3):
            await node.core.webhooks.deliver_due()
            assert len(receiver.got) == tries  # the one behind it waits
        dead = (await node.api("GET", f"{place}/deliveries?state=dead")).json["items"]
        assert [(each["attempts"], each["status"], each["error"]) for each in dead] == [
            (3, 404, "answered 404")
        ]
        await node.core.webhooks.deliver_due()
        assert len(receiver.got) == 4
        answer = await node.api("POST", f"{place}/redeliver", {})
        assert answer.json == {"redelivered": 1}
        await node.core.webhooks.deliver_due()
        first, last = json.loads(receiver.got[0][2]), json.loads(receiver.got[-1][2])
        assert first["id"] == last["id"]
        states = (await node.api("GET", place)).json["deliveries"]
        assert states == {"pending": 0, "delivered": 2, "dead": 0}
        assert (await node.api("GET", f"{place}/deliveries?state=x")).status == 400


async def test_waits_grow_and_spread(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        wait = node.core.webhooks.wait
        for attempts in range(1, webhooks.ATTEMPTS_MAX):
            base = min(webhooks.WAIT_MAX, webhooks.FIRST * 2 ** (attempts - 1))
            found = {round(wait(attempts), 6) for _ in range(20)}
            assert len(found) > 10
            assert all(0.8 * base <= each <= 1.2 * base for each in found)


async def test_events_survive_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await settle(node)
        made = await hook(node)
        await npm(node, "one", "1.0.0")
        await settle(node)
        await npm(node, "two", "1.0.0")  # committed, not queued
    async with world(tmp_path) as node:
        receiver = receive(node)
        await settle(node)
        await node.core.webhooks.deliver_due()
        told = [json.loads(body)["package"] for _, _, body in receiver.got]
        assert told == ["one", "one", "two", "two"]
        assert (await node.api("GET", f"/webhooks/{made['id']}")).json["deliveries"]["pending"] == 0


async def test_filters_and_owners_decide(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        receiver = receive(node)
        await settle(node)
        await hook(node, events=["tag.*"])
        await hook(node, repositories=["pypi*"])
        disabled = await hook(node, is_enabled=False)
        other = WebhookEntry(id="other", url="https://x.test/", node="f" * 64)
        await node.core.ledger.append([node.core.directory.change("other", other)], actor="t")
        await npm(node, "demo", "1.0.0")
        await settle(node)
        assert await node.core.webhooks.deliver_due() == 0
        assert receiver.got == []
        assert (await node.api("GET", "/webhooks/other/deliveries")).status == 409
        assert (await node.api("POST", "/webhooks/other/test")).status == 409
        assert (await node.api("POST", f"/webhooks/{disabled['id']}/test")).status == 202
        await node.core.webhooks.deliver_due()
        assert receiver.got == []  # it waits until somebody enables it


async def test_only_administrators_see_webhooks(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for method, path in (
            ("GET", "/webhooks"),
            ("POST", "/webhooks"),
            ("GET", "/webhooks/x"),
            ("PATCH", "/webhooks/x"),
            ("DELETE", "/webhooks/x"),
            ("POST", "/webhooks/x/secret"),
            ("POST", "/webhooks/x/test"),
            ("GET", "/webhooks/x/deliveries"),
            ("POST", "/webhooks/x/redeliver"),
        ):
            assert (await node.ask(method, f"/api/v1{path}", b"{}")).status == 401
        body = {"url": "https://x.test/", "node": "nobody"}
        assert (await node.api("POST", "/webhooks", body)).status == 400


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://x.test/", "x.test", "http://", "http://user:pw@x.test/", "http://x.test/#f"),
        *("http://x.test/\r\nHost: y", "file:///etc/passwd", "http://x.test:0/", "//x.test/"),
        "https://x.test/" + "x" * 3000,
    ],
)
def test_urls_are_judged(url: str) -> None:
    with pytest.raises(RejectedError):
        judge_url(url)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1", "[::1]", "[::ffff:127.0.0.1]"),
        *("0.0.0.0", "2130706433", "[fd00::1]", "[64:ff9b::7f00:1]"),
    ],
)
async def test_private_addresses_are_not_told(host: str) -> None:
    sender = GuardedSender(Guard())
    with pytest.raises(UpstreamDeniedError):
        await sender.post(f"http://{host}:9/", {}, b"{}")
    await sender.close()


async def test_a_name_is_judged_by_the_address_that_is_asked() -> None:
    """DNS rebinding: the second look-up, which never happens, would give another address."""
    looked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        looked.append(host)
        return ["93.184.216.34"] if len(looked) > 1 else ["127.0.0.1"]

    sender = GuardedSender(Guard((), resolve))
    with pytest.raises(UpstreamDeniedError):
        await sender.post("http://rebinding.test:9/", {}, b"{}")
    assert looked == ["rebinding.test"]
    await sender.close()


async def test_redirects_are_not_followed() -> None:
    async with upstream() as server:
        server.pages["/"] = Page(status=302, headers={"location": "/secret"}, length=0)
        sender = GuardedSender(Guard(("127.0.0.1",)))
        answer = await sender.post(f"{server.url}/", {"x-a": "b"}, b'{"a":1}')
        assert (answer.status, answer.taken) == (302, False)
        assert [each.path for each in server.asked] == ["/"]
        asked: Asked = server.asked[0]
        assert (asked.method, asked.headers["x-a"]) == ("POST", "b")
        await sender.close()


async def test_the_node_asks_only_what_is_allowed(tmp_path: Path) -> None:
    async with world(tmp_path, webhooks=Hooks(allow=())) as node:
        made = await hook(node, url="http://127.0.0.1:9/")
        await node.api("POST", f"/webhooks/{made['id']}/test")
        await node.core.webhooks.deliver_due()
        (waiting,) = (await node.api("GET", f"/webhooks/{made['id']}/deliveries")).json["items"]
        assert (waiting["state"], waiting["attempts"]) == ("pending", 1)
        assert "not a public address" in waiting["error"]
        assert msgspec.json.decode(waiting["body"])["type"] == "webhook.test"


async def test_a_database_that_is_away_delays_deliveries_and_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed in the tasks of several webhooks came as a group, which nobody expected."""
    async with world(tmp_path) as node:
        receiver = receive(node)
        await settle(node)
        for name in ("ci", "cd"):
            await hook(node, name=name)
        await npm(node, "demo", "1.0.0")
        await settle(node)
        hooks = node.core.webhooks
        end = hooks.queue.end

        async def away(*_: object) -> None:
            raise UnavailableError("the database is away")

        monkeypatch.setattr(hooks.queue, "end", away)
        monkeypatch.setattr(webhooks, "RETRY", 0.0)
        with pytest.raises(UnavailableError):
            await hooks.deliver_due()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hooks.run)
            before = len(receiver.got)
            with trio.fail_after(5):
                while len(receiver.got) < before + 4:  # noqa: ASYNC110  it goes on trying
                    await trio.sleep(0.01)
            monkeypatch.setattr(hooks.queue, "end", end)
            with trio.fail_after(5):
                while await hooks.queue.next_due() is not None:  # noqa: ASYNC110  another task empties it
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_a_proxy_that_refuses_is_a_receiver_that_says_nothing() -> None:
    sender = GuardedSender(Guard(("127.0.0.0/8",)))

    async def refuse(_request: httpcore.Request) -> httpcore.Response:
        raise httpcore.ProxyError("407 Proxy Authentication Required")

    sender._pool = SimpleNamespace(handle_async_request=refuse)  # type: ignore[assignment]  # a fake of it
    answer = await sender.post("http://127.0.0.1:1/", {}, b"")
    assert answer == Answer(0, "ProxyError: 407 Proxy Authentication Required")
