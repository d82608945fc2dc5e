"""Logs: readable by machines, silent about secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from node.logs import configure, scrub, scrubbed

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJl"
TOKEN = "atoll_0123456789abcdefABCDEF-_"
SECRETS = [
    TOKEN,
    JWT,
    "atoll-invite-0123456789abcdef",
    "https://user:hunter22@host/path",
    "Bearer abcdefghijklmnop",
    "Basic YWRtaW46aHVudGVyMjI=",
    "Control abcdefghijklmnop",
]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    structlog.reset_defaults()


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_blanked_wherever_they_are(secret: str) -> None:
    core = (
        secret.rsplit(":", maxsplit=1)[-1]
        .split("@", maxsplit=1)[0]
        .rsplit(" ", maxsplit=1)[-1]
        .removeprefix("atoll-invite-")
    )
    for value in (
        secret,
        f"GET /npm/-/user/token/{secret}?x",
        {"headers": {"authorization": secret}},
        [("authorization", secret)],
        f"it was {secret}.".encode(),
        ValueError(secret),
    ):
        shown = repr(scrub(None, "info", {"event": value}))
        assert core.removeprefix("atoll_") not in shown, shown
        assert "…" in shown


def test_the_rest_stays() -> None:
    event: dict[str, Any] = {
        "event": "request",
        "status": 200,
        "path": "/npm/npm/lodash",
        "x": None,
    }
    assert scrub(None, "info", dict(event)) == event
    assert scrubbed("Basic auth is fine, eyJ too, http://host:80/x") == (
        "Basic auth is fine, eyJ too, http://host:80/x"
    )


def last(text: str) -> Any:
    return json.loads(text.strip().splitlines()[-1])


def test_json_lines_with_tracebacks_in_one_field(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    log = structlog.get_logger("t")
    log.debug("too quiet")
    log.info("hello", actor="ann", url=f"http://x/{TOKEN}")
    found = last(capsys.readouterr().err)
    assert (found["event"], found["level"], found["actor"]) == ("hello", "info", "ann")
    assert found["url"] == "http://x/atoll_…"
    assert "timestamp" in found
    try:
        int(f"bad {JWT}")
    except ValueError:
        log.exception("failed")
    found = last(capsys.readouterr().err)
    assert "Traceback" in found["exception"]
    assert JWT not in found["exception"]


def test_text_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """The console renderer would print every frame's variables, passwords among them."""
    configure("info", "text")

    def verify(password: str) -> None:
        raise ValueError("no")

    try:
        verify("hunter22 is secret")
    except ValueError:
        structlog.get_logger("t").exception("failed", token=TOKEN)
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "hunter22 is" not in shown.replace('verify("hunter22 is secret")', "")
    assert TOKEN not in shown


def test_libraries_that_log_in_their_own_way_end_in_the_same_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("info", "json")
    logging.getLogger("node.http").info("chatter")
    assert capsys.readouterr().err == ""
    logging.getLogger("node.http").error("no complete response to %s", f"/x/{TOKEN}")
    found = last(capsys.readouterr().err)
    assert found["event"] == "no complete response to /x/atoll_…"
    assert found["level"] == "error"
    configure("error", "json")
    logging.getLogger("node.http").warning("less")
    assert capsys.readouterr().err == ""
