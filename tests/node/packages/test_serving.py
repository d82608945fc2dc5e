"""Answers on the wire: validators, ranges, HEAD, and what a client that asks by date is told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from formats.contract import BlobContent, Response
from node.blobs import Blobs
from node.packages.conditions import http_date
from node.packages.serving import Responder, field_value
from store.digest import Digest

CHANGED = 1_700_000_000.4  # of the repository, by this node's clock
LEDGER = CHANGED - 86_400  # ledger time: a record that travelled for a day
DATA = bytes(range(100))


class Elsewhere:
    """Blobs that are not on this node's disk, or are."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file

    def path(self, digest: Digest) -> Path | None:
        return self._file

    @asynccontextmanager
    async def read(self, digest: Digest, **span: Any) -> Any:
        async def chunks() -> Any:
            for start in range(span["start"], span["stop"], 7):
                yield DATA[start : min(start + 7, span["stop"])]

        yield chunks()


class Wire:
    """Takes what a responder sends."""

    def __init__(self, file: Path | None = None) -> None:
        self.head: dict[str, Any] = {}
        self.body = b""
        self._file = file

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.head = dict(message)
        elif message["type"] == "http.response.zerocopysend":
            assert self._file is not None
            start, count = message["offset"], message["count"]
            self.body += self._file.read_bytes()[start : start + count]
        else:
            self.body += message["body"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.head["headers"]}


async def ask(
    response: Response,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    now: float | None = None,
    private: bool = False,
    file: Path | None = None,
) -> Wire:
    wire, blobs = Wire(file), cast("Blobs", Elsewhere(file))
    responder = Responder(wire.send, method, headers or {}, blobs, private=private)
    if now is not None:
        responder.note_change(CHANGED, now)
    await responder.answer(response)
    return wire


def index(**extra: Any) -> Response:
    return Response(content=DATA, media_type="text/plain", modified=LEDGER, **extra)


async def test_an_index_is_dated_by_the_change_seen_here() -> None:
    wire = await ask(index(), now=CHANGED + 60)
    assert wire.headers["last-modified"] == http_date(CHANGED)
    assert wire.headers["cache-control"] == "no-cache"
    assert wire.body == DATA


async def test_a_client_that_asks_by_date_meets_every_change_of_a_second() -> None:
    first = await ask(index(), now=CHANGED + 0.1)
    since = {"if-modified-since": first.headers["last-modified"]}
    assert (await ask(index(), since, now=CHANGED + 0.5)).head["status"] == 200
    second = await ask(index(), since, now=CHANGED + 1.0)
    assert second.head["status"] == 200
    since = {"if-modified-since": second.headers["last-modified"]}
    assert (await ask(index(), since, now=CHANGED + 9.0)).head["status"] == 304


async def test_a_date_from_another_node_is_no_proof() -> None:
    since = {"if-modified-since": http_date(CHANGED + 3600)}
    assert (await ask(index(), since, now=CHANGED + 9.0)).head["status"] == 200


async def test_what_never_changes_keeps_its_own_date() -> None:
    wire = await ask(index(immutable=True), now=CHANGED + 60, private=True)
    assert wire.headers["last-modified"] == http_date(LEDGER)
    assert wire.headers["cache-control"] == "private, max-age=31536000, immutable"


async def test_the_entity_tag_wins_over_the_date() -> None:
    etag = (await ask(index())).headers["etag"]
    same = await ask(index(), {"if-none-match": etag}, now=CHANGED)
    assert (same.head["status"], same.body, same.headers["etag"]) == (304, b"", etag)
    other = {"if-none-match": '"x"', "if-modified-since": http_date(CHANGED)}
    assert (await ask(index(), other, now=CHANGED + 9)).head["status"] == 200


@pytest.mark.parametrize("local", [True, False])
async def test_ranges_of_a_blob_wherever_it_is(local: bool, tmp_path: Path) -> None:
    file = tmp_path / "blob" if local else None
    if file is not None:
        file.write_bytes(DATA)
    digest = Digest.of(DATA)
    blob = Response(content=BlobContent(digest, len(DATA)), immutable=True)
    whole = await ask(blob, file=file)
    assert (whole.head["status"], whole.body) == (200, DATA)
    assert whole.headers["etag"] == f'"sha256:{hashlib.sha256(DATA).hexdigest()}"'
    part = await ask(blob, {"range": "bytes=10-29"}, file=file)
    assert (part.head["status"], part.body) == (206, DATA[10:30])
    assert part.headers["content-range"] == "bytes 10-29/100"
    assert part.headers["content-length"] == "20"
    beyond = await ask(blob, {"range": "bytes=100-"}, file=file)
    assert beyond.head["status"] == 416
    assert beyond.headers["content-range"] == "bytes */100"


async def test_head_has_the_headers_and_no_body() -> None:
    get, head = await ask(index()), await ask(index(), method="HEAD")
    assert (head.headers, head.body) == (get.headers, b"")


async def test_an_error_names_its_reason_on_the_status_line() -> None:
    wire = await ask(Response(409, b"taken by other bytes\nand more\n", "text/plain"))
    assert wire.head["reason"] == b"taken by other bytes"
    assert "etag" not in wire.headers


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b", "a\nb", "a\x00b"])
def test_no_value_breaks_out_of_its_field(value: str) -> None:
    assert field_value(value) == b"a"
