"""The line that every request leaves: the same fields in either form, and no secret in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from node.accesslog import AccessLog
from node.logs import configure
from node.packages.observe import Observation


@pytest.fixture
def logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


async def seen() -> Observation:
    found = Observation("GET", "pypi", "main", "ann", "192.0.2.1")
    found.status, found.sent = 200, 7
    return found


async def test_a_line_of_json_has_every_field(logs: None) -> None:
    configure("info", "json")
    stream = io.StringIO()
    observation = await seen()
    AccessLog(stream)(observation)
    assert stream.getvalue().endswith("}\n")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["id"]) == ("request", "info", observation.id)
    assert (line["method"], line["format"], line["status"]) == ("GET", "pypi", 200)
    assert line["timestamp"].endswith("Z")
    assert line["error"] is None


async def test_secrets_and_line_breaks_stay_out(logs: None) -> None:
    configure("info", "json")
    stream = io.StringIO()
    observation = await seen()
    observation.error = "bad token atoll_0123456789abcdef\nfake"
    observation.repository = "atoll_0123456789abcdef"
    AccessLog(stream)(observation)
    assert "0123456789" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


async def test_people_get_text(logs: None, capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    AccessLog()(await seen())
    told = capsys.readouterr().err
    assert "request" in told
    assert "192.0.2.1" in told


async def test_a_higher_level_silences_requests(logs: None) -> None:
    configure("warning", "json")
    stream = io.StringIO()
    AccessLog(stream)(await seen())
    assert stream.getvalue() == ""
