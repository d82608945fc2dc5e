"""A node without sockets: its stores in a temporary folder, its HTTP front called as ASGI."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from node.config import Access, Config
from node.core import Core
from node.front import Front
from node.http.asgi import Message
from node.run import build_front
from node.service import open_core

PASSWORD = "correct horse"


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reason: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class World:
    """A node and ways to ask it."""

    core: Core
    front: Front
    token: str = ""

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        password: str | None = None,
        address: str = "127.0.0.1",
    ) -> Answer:
        """One request; ``password`` becomes Basic credentials."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        raw, _, query = path.partition("?")
        given = {"host": "node.test", **(headers or {})}
        if password is not None:
            given["authorization"] = "Basic " + base64.b64encode(f"u:{password}".encode()).decode()
        if isinstance(body, bytes) and body:
            given.setdefault("content-length", str(len(body)))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": raw,
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in given.items()],
            "client": (address, 1),
            "server": ("127.0.0.1", 80),
            "extensions": {},
        }
        answer = Answer()
        waiting = [
            {"type": "http.request", "body": piece, "more_body": index + 1 < len(pieces)}
            for index, piece in enumerate(pieces)
        ]

        async def receive() -> Message:
            if not waiting:
                await trio.sleep_forever()  # the client waits for its answer
            return waiting.pop(0)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
                answer.reason = message.get("reason", b"").decode()
            elif message["type"] == "http.response.zerocopysend":
                answer.body += os.pread(message["file"], message["count"], message["offset"])
            else:
                answer.body += message.get("body", b"")

        await self.front(scope, receive, send)
        return answer

    async def api(self, method: str, path: str, body: object = None) -> Answer:
        """Call the management API over the control connection's secret."""
        data = b"" if body is None else json.dumps(body).encode()
        control = {"authorization": f"Control {self.core.control.secret}"}
        return await self.ask(method, f"/api/v1{path}", data, control)


@asynccontextmanager
async def world(folder: Path, **changes: Any) -> AsyncGenerator[World]:
    """Open a fresh node with a known administrator."""
    config = Config(data=str(folder / "data"), access=Access(admin_password=PASSWORD), **changes)
    async with open_core(config) as core:
        made = World(core, build_front(core))
        made.token, _ = await core.accounts.create_token("admin", "t", ["*"], actor="admin")
        yield made
