"""The app's lifespan around its service.

Hypercorn's would do, but importing it costs a node a sixth of its start.

Spec: ASGI lifespan 2.0 (asgi.readthedocs.io).
"""

from __future__ import annotations

import logging
from typing import Any, Final

import trio

from node.http.asgi import App, InvalidMessageError, Message

log = logging.getLogger(__name__)
STARTUP_TIMEOUT: Final = 60.0  # seconds


class LifespanFailedError(Exception):
    """The app says that it cannot start, or that it did not end well."""


class Lifespan:
    """Tells the app of the beginning and the end of its service.

    An app that does not know the lifespan is served all the same: it raises, or returns, at once.
    """

    def __init__(self, app: App, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._told = 0
        self._stop = trio.Event()
        self._started = trio.Event()
        self._ended = trio.Event()

    async def run(self) -> None:
        """Run the app's side.  Raises LifespanFailedError."""
        scope = {
            "type": "lifespan",
            "asgi": {"spec_version": "2.0", "version": "3.0"},
            "state": self._state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except LifespanFailedError:
            raise
        except Exception as error:
            if self._started.is_set():
                log.exception("the app's lifespan ended early")
            else:
                log.warning("the app knows no lifespan: %s", type(error).__name__)
        finally:
            self._started.set()
            self._ended.set()

    async def startup(self) -> None:
        """Wait until the app is ready.  Raises TooSlowError."""
        with trio.fail_after(STARTUP_TIMEOUT):
            await self._started.wait()

    async def shutdown(self) -> None:
        """Have the app end, and wait for it."""
        self._stop.set()
        await self._ended.wait()

    async def _receive(self) -> Message:
        self._told += 1
        if self._told == 1:
            return {"type": "lifespan.startup"}
        await (self._stop if self._told == 2 else trio.Event()).wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._started.set()
        elif kind == "lifespan.shutdown.complete":
            self._ended.set()
        elif kind in {"lifespan.startup.failed", "lifespan.shutdown.failed"}:
            raise LifespanFailedError(f"{kind}: {message.get('message', '')}")
        else:
            raise InvalidMessageError(f"unexpected {kind}")
        await trio.lowlevel.checkpoint()
