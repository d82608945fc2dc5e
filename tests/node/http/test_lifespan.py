"""The app's lifespan: told once, waited for, and not needed."""

from __future__ import annotations

import pytest

from node.http.asgi import InvalidMessageError, Receive, Scope, Send
from node.http.lifespan import Lifespan, LifespanFailedError


async def test_what_is_no_part_of_a_lifespan_is_refused() -> None:
    caught: list[Exception] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start"})
        except InvalidMessageError as error:
            caught.append(error)

    lifespan = Lifespan(app, {})
    await lifespan.run()
    await lifespan.startup()
    await lifespan.shutdown()
    assert len(caught) == 1


@pytest.mark.parametrize("stage", ["startup", "shutdown"])
async def test_a_failure_is_raised_in_the_servers_task(stage: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": f"lifespan.{stage}.failed", "message": "no disk"})

    with pytest.raises(LifespanFailedError, match="no disk"):
        await Lifespan(app, {}).run()
