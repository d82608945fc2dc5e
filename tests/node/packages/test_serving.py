"""Answers: validators, ranges, HEAD, headers that cannot be forged."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from formats.contract import BlobContent, Response
from node.blobs import NoSwarm, Spans
from node.http.asgi import Message
from node.packages.serving import Responder, field_value, raw_headers
from store.blobs import BlobRange
from store.digest import Digest
from store.errors import UnavailableError
from tests.node.world import Answer, World, world

BYTES = bytes(range(256)) * 40


async def send(
    node: World, response: Response, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Answer:
    answer = Answer()

    async def take(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode(): v.decode("latin-1") for k, v in message["headers"]}
            answer.reason = message.get("reason", b"").decode()
        elif message["type"] == "http.response.zerocopysend":
            answer.body += os.pread(message["file"], message["count"], message["offset"])
        else:
            answer.body += message.get("body", b"")

    responder = Responder(take, method, headers or {}, node.core.blobs, private=False)
    await responder.answer(response)
    assert responder.started
    assert responder.status == answer.status
    if answer.status != 416:
        assert responder.sent == len(answer.body)
    return answer


async def blob(node: World) -> BlobContent:
    async with node.core.blobs.ingest() as ingest:
        await ingest.write(BYTES)
    return BlobContent(ingest.result.digest, len(BYTES))


async def test_blobs_and_documents_are_served_alike(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        digest = Digest.of(BYTES)
        for content in (BYTES, await blob(node)):
            response = Response(content=content, media_type="x/y", modified=1_700_000_000.0)
            whole = await send(node, response)
            assert (whole.status, whole.body) == (200, BYTES)
            assert whole.headers["content-length"] == str(len(BYTES))
            assert whole.headers["etag"] == f'"{digest}"'
            assert whole.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
            assert whole.headers["accept-ranges"] == "bytes"
            assert whole.headers["x-content-type-options"] == "nosniff"

            head = await send(node, response, "HEAD")
            assert (head.status, head.body, head.headers) == (200, b"", whole.headers)

            part = await send(node, response, headers={"range": "bytes=10-19"})
            assert (part.status, part.body) == (206, BYTES[10:20])
            assert part.headers["content-range"] == f"bytes 10-19/{len(BYTES)}"
            assert part.headers["content-length"] == "10"
            assert part.headers["etag"] == whole.headers["etag"]

            beyond = await send(node, response, headers={"range": f"bytes={len(BYTES)}-"})
            assert beyond.status == 416
            assert beyond.headers["content-range"] == f"bytes */{len(BYTES)}"

            fresh = await send(node, response, headers={"if-none-match": f'"{digest}"'})
            assert (fresh.status, fresh.body) == (304, b"")
            assert "content-length" not in fresh.headers
            assert fresh.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize(
    "range_", ["bytes=" + "9" * 5000 + "-", "bytes=0-" + "9" * 5000, "bytes=٣-"]
)
async def test_numbers_beyond_all_measure_are_no_range(tmp_path: Path, range_: str) -> None:
    """Python refuses to read numbers of 5,000 digits: the client got a 500."""
    async with world(tmp_path) as node:
        answer = await send(node, Response(content=BYTES), headers={"range": range_})
        assert (answer.status, len(answer.body)) == (200, len(BYTES))


async def test_a_blob_that_is_elsewhere_is_streamed_or_told_missing(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        missing = BlobContent(Digest.of(b"nowhere"), 7)
        with pytest.raises(UnavailableError):
            await send(node, Response(content=missing))


async def test_what_peers_are_giving_is_copied_from_its_file(tmp_path: Path) -> None:
    class Giving(NoSwarm):
        @asynccontextmanager
        async def spans(self, wanted: BlobRange) -> AsyncGenerator[Spans | None]:
            async def parts() -> AsyncIterator[tuple[int, int]]:
                end = len(BYTES) if wanted.stop is None else wanted.stop
                for at in range(wanted.start, end, 1000):
                    yield at, min(1000, end - at)

            with tempfile.TemporaryFile(buffering=0) as file:
                file.write(BYTES)
                yield file.fileno(), parts()

    async with world(tmp_path) as node:
        read: list[Digest] = []
        node.core.blobs.swarm, node.core.blobs.reader = Giving(), read.append
        content = BlobContent(Digest.of(BYTES), len(BYTES))
        whole = await send(node, Response(content=content))
        assert (whole.status, whole.body) == (200, BYTES)
        part = await send(node, Response(content=content), headers={"range": "bytes=500-2999"})
        assert (part.status, part.body) == (206, BYTES[500:3000])
        assert read == [content.digest] * 2


async def test_a_disk_in_trouble_is_unavailable_and_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as node:
        content = await blob(node)

        def fail(*_: object) -> int:
            raise OSError(errno.EMFILE, "too many")

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            with pytest.raises(UnavailableError):
                await send(node, Response(content=content))


async def test_answers_without_bodies(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        gone = await send(node, Response(204))
        assert (gone.status, gone.body) == (204, b"")
        assert "content-length" not in gone.headers
        empty = await send(node, Response())
        assert (empty.status, empty.headers["content-length"]) == (200, "0")
        created = await send(node, Response(201, b"x"), "PUT")
        assert (created.status, created.body) == (201, b"x")
        assert "etag" not in created.headers


async def test_errors_have_a_reason_phrase_of_their_first_line(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        plain = Response(400, "schön\r\nX-Evil: 1\nmore".encode(), "text/plain; charset=utf-8")
        answer = await send(node, plain)
        assert answer.reason == "sch??n?"
        assert (await send(node, Response(400, b"{}", "application/json"))).reason == ""


def test_a_value_cannot_end_its_header() -> None:
    assert field_value("a\r\nX-Evil: 1") == b"a"
    assert field_value("a\nb") == field_value("a\0b") == field_value("a\x7fb") == b"a"
    assert field_value("tab\tis fine, ä too, 漢 not") == b"tab\tis fine, \xe4 too, ? not"
    assert raw_headers([("X-A", "b\r\nc: d")]) == [(b"x-a", b"b")]


async def test_no_header_of_an_answer_can_be_forged(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        evil = "x\r\nset-cookie: a=b"
        response = Response(content=b"x", media_type=evil, etag=evil, headers=(("x-a", evil),))
        answer = await send(node, response)
        assert "set-cookie" not in answer.headers
        assert (answer.headers["content-type"], answer.headers["x-a"]) == ("x", "x")


async def test_html_is_never_shown_as_the_nodes_own(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        headers = {"authorization": f"Bearer {node.token}"}
        for name in ("a.html", "a.svg", "a.xhtml"):
            await node.ask("PUT", f"/general/generic/{name}", b"<script>", headers)
            answer = await node.ask("GET", f"/general/generic/{name}")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-disposition"].startswith("attachment")
            assert answer.headers["x-frame-options"] == "DENY"


async def test_private_answers_are_not_for_shared_caches(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        headers = {"authorization": f"Bearer {node.token}"}
        await node.api("POST", "/repositories", {"key": "closed", "format": "generic"})
        for key, private in (("generic", False), ("closed", True)):
            await node.ask("PUT", f"/general/{key}/x", b"x", headers)
            answer = await node.ask("GET", f"/general/{key}/x", b"", headers)
            assert ("private" in answer.headers["cache-control"]) is private
