"""Talking to a node: the running one over its control connection, or the data directory itself."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio

from node import control
from node.config import Config, load
from store.errors import (
    ConflictError,
    DeniedError,
    NotFoundError,
    RegistryError,
    RejectedError,
    UnauthorizedError,
    UnavailableError,
)

TIMEOUT = 60.0  # seconds
PATIENCE = 3600.0  # seconds that one step of a long piece of work may take
KINDS: Mapping[int, type[RegistryError]] = {
    400: RejectedError,
    401: UnauthorizedError,
    403: DeniedError,
    404: NotFoundError,
    409: ConflictError,
    503: UnavailableError,
}


@dataclass(frozen=True, slots=True)
class Node:
    """A node's management API, as its operator, or with ``scheme`` Bearer as a token's user."""

    url: str
    secret: str
    scheme: str = "Control"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the API.  Raises the RegistryError that the answer's status stands for."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
        headers = {"authorization": f"{self.scheme} {self.secret}"}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, f"/api/v1{path}", data, headers)
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            raise UnavailableError(f"the node does not answer: {error}") from error
        finally:
            connection.close()
        found = json.loads(text) if text else None
        if answer.status >= 400:
            message = found.get("message", text.decode()) if isinstance(found, dict) else str(text)
            raise KINDS.get(answer.status, RegistryError)(message)
        return found

    def lines(self, method: str, path: str, body: object) -> Generator[bytes]:
        """Call an endpoint that answers line by line, as it goes."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        headers = {
            "authorization": f"{self.scheme} {self.secret}",
            "content-type": "application/json",
        }
        try:
            connection.request(method, f"/api/v1{path}", json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                message = json.loads(answer.read()).get("message", "")
                raise KINDS.get(answer.status, RegistryError)(message)
            yield from answer
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"the node does not answer: {error}") from error
        finally:
            connection.close()


def configuration(data: str | None, file: str | None = None, **flags: object) -> Config:
    """The effective configuration of a command."""
    config, _ = load(
        file=Path(file) if file else None,
        environment=os.environ,
        flags={"data": data, **flags},
    )
    return config


def running(data: Path) -> Node | None:
    """The node that is working on a data directory, or None."""
    try:
        found = json.loads((data / control.FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    node = Node(found["url"], found["secret"])
    try:
        node.call("GET", "/node")
    except UnavailableError:  # what an ended node left behind
        return None
    return node


@contextmanager
def connect(data: str | None) -> Generator[Node]:
    """Reach the running node, or open its data directory for the length of the block.

    Raises DirectoryBusyError when the directory is in use by a node that does not answer.
    """
    config = configuration(data)
    node = running(config.path)
    if node is not None:
        yield node
        return
    if not (config.path / "node.key").exists():
        raise NotFoundError(f"{config.path} is not a node's data directory (see: atoll init)")
    with offline(config) as opened:
        yield opened


class Offline:
    """A node without network but for its control connection, in a thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ready = threading.Event()
        self._scope: tuple[trio.lowlevel.TrioToken, trio.CancelScope] | None = None
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def start(self) -> None:
        """Start it and wait until it answers, or has failed."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Stop it, and leave nothing that points to it."""
        if self._scope is not None and self._thread.is_alive():
            token, scope = self._scope
            token.run_sync_soon(scope.cancel)
        self._thread.join()
        if self.error is None:
            (self._config.path / control.FILE).unlink(missing_ok=True)

    def _run(self) -> None:
        try:
            trio.run(self._work)
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            self.error = sole(error)
        finally:
            self._ready.set()

    async def _work(self) -> None:
        from node.logs import configure
        from node.run import run_control
        from node.service import open_core

        configure("warning")  # on standard error: a command's output is its answer only
        with trio.CancelScope() as scope:
            self._scope = (trio.lowlevel.current_trio_token(), scope)
            async with open_core(self._config) as core, trio.open_nursery() as nursery:
                await nursery.start(partial(run_control, core))
                self._ready.set()
                await trio.sleep_forever()


@contextmanager
def offline(config: Config) -> Generator[Node]:
    """Open a data directory whose node is not running, for the length of the block."""
    opened = Offline(config)
    opened.start()
    try:
        if opened.error is not None:
            raise opened.error
        node = running(config.path)
        if node is None:
            raise UnavailableError("the node did not start")
        yield node
    finally:
        opened.stop()


def sole(error: BaseException) -> BaseException:
    """The one error inside nested groups, or the group itself."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
