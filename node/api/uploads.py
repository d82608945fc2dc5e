"""Uploads by path: in one piece, or resumable in chunks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import msgspec

from formats.contract import Body
from node.api.artifacts import ArtifactView, view
from node.api.contract import Access, Call, Long, Short, Table
from node.packages.bodies import Bounded, Fitting, judge_length
from node.packages.native import Put, publish, route_of
from node.repositories.sessions import Ticket
from store.blobs import Ingested
from store.digest import Digest
from store.errors import (
    DigestMismatchError,
    RangeInvalidError,
    RegistryError,
    RejectedError,
    RepositoryUnknownError,
    SessionUnknownError,
)

table = Table("uploads")
CHUNK, CHUNK_MAX = 8 << 20, 256 << 20  # bytes: the default, and the most that is taken at once
RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)\Z", re.ASCII)


class NewUpload(msgspec.Struct):
    repository_key: Short
    artifact_path: Long
    total_size: int | None = None
    checksum_sha256: str = ""


class UploadView(msgspec.Struct):
    session_id: str
    repository_key: str
    artifact_path: str
    bytes_received: int
    chunk_size: int


class Completion(msgspec.Struct):
    checksum_sha256: str = ""


def _put(call: Call, key: str, path: str) -> Put:
    entry = call.core.entry(key)
    if entry is None:
        raise RepositoryUnknownError(f"no repository {key!r}")
    call.core.gate.require_action(call.caller, "write", entry)
    return Put(entry, path, call.caller, call.headers, call.root_url)


async def _stored(call: Call, put: Put, blob: Ingested) -> ArtifactView:
    """Publish, and show what stands at the path now."""
    answer = await publish(call.core, put, blob)
    if answer.status >= 400:
        text = answer.content if isinstance(answer.content, bytes) else b""
        raise RejectedError(text.decode("utf-8", "replace")[:500])
    found = await call.core.catalog.find(put.entry.key, put.path)
    if found is None:
        raise RegistryError(f"{put.path} was accepted under another path")
    await call.note("artifact.upload", f"{put.entry.key}/{put.path}")
    return await view(call, found)


@table.route(
    "PUT",
    "/repositories/{key}/artifacts/{path:path}",
    Access.WRITE,
    answer=ArtifactView,
    status=201,
    streams=True,
)
async def upload_artifact(call: Call) -> ArtifactView:
    """Upload a file by path; X-Checksum-Sha256 is verified if it is sent."""
    put = _put(call, call.repository.key, call.params["path"])
    served, _ = route_of(call.core, put)
    expected = call.headers.get("x-checksum-sha256", "").lower()
    digest = Digest.parse(f"sha256:{expected}") if expected else None
    body = await _fitting(call, put)
    async with call.core.blobs.ingest(digest, checksums=served.checksums) as ingest:
        async for chunk in body:
            await ingest.write(chunk)
    return await _stored(call, put, ingest.result)


@table.route("POST", "/uploads", Access.USER, body=NewUpload, answer=UploadView, status=201)
async def create_upload(call: Call) -> UploadView:
    """Open a resumable upload on this node; it expires a day after its last chunk."""
    body: NewUpload = call.body
    put = _put(call, body.repository_key, body.artifact_path)
    served, _ = route_of(call.core, put)
    package = _package(call, body.artifact_path)
    session = call.core.sessions.create(Ticket(put.entry.key, package, tuple(served.checksums)))
    return _view(session.id, put, 0)


def _package(call: Call, path: str) -> str:
    """Sessions belong to who opened them; the path comes last and may hold anything."""
    return f"api:{call.caller.name}:{path}"


def _view(session: str, put: Put, received: int) -> UploadView:
    return UploadView(session, put.entry.key, put.path, received, CHUNK)


def _own(call: Call) -> tuple[Put, Ticket, int]:
    """The caller's session.  Raises SessionUnknownError for anybody else's."""
    session, ticket = call.core.sessions.status(call.params["id"])
    prefix = f"api:{call.caller.name}:"
    if not ticket.package.startswith(prefix):
        raise SessionUnknownError("no such upload session")
    put = _put(call, ticket.repository, ticket.package.removeprefix(prefix))
    return put, ticket, session.size


@table.route("GET", "/uploads/{id}", Access.USER, answer=UploadView)
async def show_upload(call: Call) -> UploadView:
    """Show how far an upload is."""
    put, _, received = _own(call)
    return _view(call.params["id"], put, received)


@table.route("PATCH", "/uploads/{id}", Access.USER, answer=UploadView, streams=True)
async def append_chunk(call: Call) -> UploadView:
    """Append a chunk; Content-Range says where it belongs, and a repeated one changes nothing."""
    put, _, received = _own(call)
    found = RANGE.match(call.headers.get("content-range", ""))
    if found is None:
        raise RangeInvalidError("a chunk needs Content-Range: bytes FIRST-LAST/TOTAL")
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= CHUNK_MAX:
        raise RangeInvalidError(f"a chunk has between 1 and {CHUNK_MAX} bytes")
    if first > received:
        raise RangeInvalidError(f"the next byte is {received}")
    chunks = Fresh(await _fitting(call, put), received - first, last - first + 1)
    session = await call.core.sessions.append(call.params["id"], chunks)
    return _view(session.id, put, session.size)


class Fresh(AsyncIterator[bytes]):
    """Skips the bytes that were received before; refuses more than was announced."""

    def __init__(self, chunks: AsyncIterator[bytes], known: int, length: int) -> None:
        self._chunks, self._known, self._length, self._seen = chunks, known, length, 0

    async def __anext__(self) -> bytes:
        while True:
            chunk = await anext(self._chunks)
            self._seen += len(chunk)
            if self._seen > self._length:
                raise RangeInvalidError("the chunk is longer than its Content-Range")
            fresh = min(len(chunk), max(0, self._seen - self._known))
            if fresh:
                return chunk[len(chunk) - fresh :]


class Nothing(AsyncIterator[bytes]):
    """No body."""

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


async def _fitting(call: Call, put: Put) -> AsyncIterator[bytes]:
    """The body within the node's limit and the repository's quota."""
    limit = call.core.config.http.upload_max
    judge_length(Body(), call.headers, limit=limit)
    chunks = Bounded(_body(call), limit or None)
    if put.entry.quota_bytes:
        return Fitting(chunks, call.headers, await call.core.publisher.room(put.entry))
    return chunks


def _body(call: Call) -> AsyncIterator[bytes]:
    return call.chunks if call.chunks is not None else Nothing()


@table.route(
    "PUT",
    "/uploads/{id}/complete",
    Access.USER,
    body=Completion,
    answer=ArtifactView,
    status=201,
)
async def complete_upload(call: Call) -> ArtifactView:
    """Verify the whole and publish it; a wrong digest leaves the session as it was."""
    put, ticket, _ = _own(call)
    expected = call.body.checksum_sha256.lower()
    digest = Digest.parse(f"sha256:{expected}") if expected else None
    try:
        blob = await call.core.sessions.finish(call.params["id"], ticket, digest)
    except DigestMismatchError as error:
        raise RejectedError(f"checksum mismatch: {error}") from error
    return await _stored(call, put, blob)


@table.route("DELETE", "/uploads/{id}", Access.USER, status=204)
async def abort_upload(call: Call) -> None:
    """Forget an upload and its bytes."""
    _own(call)
    call.core.sessions.forget(call.params["id"])
