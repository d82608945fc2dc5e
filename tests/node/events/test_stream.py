"""The stream: what happened, from where one was, for who may hear it, while one may."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from node.access.gate import Caller
from node.directory import GrantEntry, RepositoryEntry, UserEntry
from node.events import stream
from node.events.stream import Asked
from store.errors import TooManyRequestsError, UnauthorizedError
from tests.node.search.support import append, npm
from tests.node.world import World, world

ADMIN = Caller("admin", "user", admin=True)


def listen(node: World, caller: Caller = ADMIN, **asked: Any) -> AsyncGenerator[bytes]:
    async def who() -> Caller:
        return caller

    return node.core.streams.listen(who, Asked(**asked))


async def take(parts: AsyncGenerator[bytes], number: int) -> list[dict[str, str]]:
    """The next events, taken apart as a browser would."""
    found: list[dict[str, str]] = []
    with trio.fail_after(20):
        while len(found) < number:
            text = (await anext(parts)).decode()
            assert text.endswith("\n\n")
            fields = dict(line.split(": ", 1) for line in text.strip().split("\n"))
            if "event" in fields:
                found.append(fields)
    return found


@asynccontextmanager
async def listening(
    node: World, caller: Caller = ADMIN, **asked: Any
) -> AsyncGenerator[AsyncGenerator[bytes]]:
    async with aclosing(listen(node, caller, **asked)) as parts:
        assert await anext(parts) == stream.RETRY
        yield parts


async def test_events_come_as_they_happen_and_from_where_one_was(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await npm(node, "before", "1.0.0")
        async with listening(node) as parts:
            assert node.core.streams.count == 1
            await npm(node, "demo", "1.0.0")
            first, second = await take(parts, 2)
        assert node.core.streams.count == 0
        data = json.loads(first["data"])
        assert (first["event"], data["type"]) == ("artifact.created", "artifact.created")
        assert (data["repository"], data["package"], data["version"]) == ("npm", "demo", "1.0.0")
        assert data["node"] == data["seen_by"] == node.core.ledger.node
        await npm(node, "after", "1.0.0")
        async with listening(node, last_id=first["id"]) as parts:
            again, *rest = await take(parts, 3)
        assert again == second
        assert [json.loads(each["data"])["package"] for each in rest] == ["after", "after"]


async def test_what_is_not_kept_is_said_to_be_missing(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await npm(node, "demo", "1.0.0")
        life = node.core.ledger.incarnation
        for last in (f"{life}-999999", "1-1", "x", f"{life}-x", f"{life}--1", "²-²"):
            async with listening(node, last_id=last) as parts:
                (told,) = await take(parts, 1)
                assert told["event"] == "reset"
        await node.core.journal.trim(kept=0)
        async with listening(node, last_id=f"{life}-0") as parts:
            assert (await take(parts, 1))[0]["event"] == "reset"


async def test_filters_narrow(tmp_path: Path) -> None:
    async with (
        world(tmp_path) as node,
        listening(node, types=["repository.*"]) as kinds,
        listening(node, repositories=["mine"]) as places,
    ):
        await npm(node, "demo", "1.0.0")
        entry = RepositoryEntry(key="mine", format="npm")
        await append(node, node.core.directory.change("mine", entry))
        await npm(node, "demo", "1.0.0", "mine")
        (made,) = await take(kinds, 1)
        assert json.loads(made["data"])["repository"] == "mine"
        told = await take(places, 2)
        assert [each["event"] for each in told] == ["repository.created", "artifact.created"]


async def test_nothing_is_heard_of_what_one_may_not_read(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        directory = node.core.directory
        private = RepositoryEntry(key="secrets", format="npm", is_public=False)
        await append(node, directory.change("secrets", private))
        grant = GrantEntry(
            id="g", principal_type="user", principal="me", repository="secrets", actions=("read",)
        )
        user = UserEntry(username="me")
        await append(node, directory.change("me", user), directory.change("g", grant))
        me = Caller("me")
        async with listening(node, me) as mine, listening(node, Caller("you")) as yours:
            await npm(node, "hidden", "1.0.0", "secrets")
            assert json.loads((await take(mine, 2))[0]["data"])["package"] == "hidden"
            await append(node, directory.remove(GrantEntry, "g"))  # rights are withdrawn
            await npm(node, "later", "1.0.0", "secrets")
            await npm(node, "open", "1.0.0")
            for parts in (mine, yours):
                (told, _) = await take(parts, 2)
                assert json.loads(told["data"])["package"] == "open"


async def test_a_repository_made_anew_under_a_key_tells_nothing_of_the_old_one(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as node:
        directory = node.core.directory
        private = RepositoryEntry(key="again", format="npm", is_public=False)
        await append(node, directory.change("again", private))
        await npm(node, "hidden", "1.0.0", "again")
        public = RepositoryEntry(key="again", format="npm", created_at=time.time() + 60)
        await append(node, directory.remove(RepositoryEntry, "again"))
        await append(node, directory.change("again", public))
        await npm(node, "open", "1.0.0")
        life = node.core.ledger.incarnation
        async with listening(node, Caller("you"), last_id=f"{life}-0") as parts:
            heard = []
            while not heard or heard[-1].get("package") != "open":
                heard += [json.loads(each["data"]) for each in await take(parts, 1)]
        assert not [each for each in heard if each["repository"] == "again"]


async def test_a_stream_ends_with_its_credentials(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        valid = True

        async def who() -> Caller:
            if not valid:
                raise UnauthorizedError("revoked")
            return ADMIN

        async with aclosing(node.core.streams.listen(who, Asked())) as parts:
            await anext(parts)
            valid = False
            await append(node, node.core.directory.change("u", UserEntry(username="u")))
            await npm(node, "demo", "1.0.0")
            with trio.fail_after(20):
                assert [part async for part in parts] == []


async def test_idle_streams_beat_and_end_with_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.01)
    async with world(tmp_path) as node, listening(node) as parts:
        assert (await anext(parts)).startswith(b":")
        node.core.streams.stopping.set()
        with trio.fail_after(20):
            rest = [part async for part in parts]
        assert all(part.startswith(b":") for part in rest)


async def test_streams_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CALLER_MAX", 1)
    async with world(tmp_path) as node:
        async with listening(node):
            with pytest.raises(TooManyRequestsError):
                await anext(listen(node))
            async with listening(node, Caller("other")):
                monkeypatch.setattr(stream, "STREAMS_MAX", 2)
                with pytest.raises(TooManyRequestsError):
                    await anext(listen(node, Caller("third")))
        async with listening(node):
            assert node.core.streams.count == 1
