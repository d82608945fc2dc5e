"""Blobs of an image, and the upload sessions that bring them.

A blob belongs to its image from the moment it is uploaded; until a manifest names it, it is staged
on this node only.

Spec: distribution-spec 1.1 §Pulling blobs, §Pushing blobs, §Mounting a blob.
"""

from __future__ import annotations

import hashlib
import re
from typing import BinaryIO

from formats.contract import (
    BINARY,
    Answer,
    BlobContent,
    Publish,
    Repository,
    Request,
    Response,
    Session,
    Staged,
    blob_response,
)
from formats.oci import names
from formats.oci.errors import API_VERSION
from formats.oci.holdings import find_blob, in_use
from store.blobs import Ingested
from store.digest import LENGTHS, Digest
from store.errors import (
    BlobUnknownError,
    DigestInvalidError,
    DigestMismatchError,
    MethodNotAllowedError,
    RangeInvalidError,
    RejectedError,
    SessionUnknownError,
)
from store.facts import Delete
from store.rows import Artifact

CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?\Z")
PIECE = 1 << 20  # bytes hashed at a time


async def get_blob(request: Request, repository: Repository) -> Response:
    """Name a blob of this image, staged ones included.  Raises BlobUnknownError."""
    image, digest = names.image_name(request), Digest.parse(request.params["digest"])
    found = await find_blob(repository, image, digest)
    if found is None:
        raise BlobUnknownError(f"{image} has no blob {digest}")
    headers = (("docker-content-digest", str(digest)), API_VERSION)
    if isinstance(found, Artifact):
        return blob_response(found, BINARY, headers=headers)
    content = BlobContent(found.digest, found.size)
    return Response(content=content, media_type=BINARY, headers=headers, etag=str(found.digest))


async def delete_blob(request: Request, repository: Repository) -> Answer:
    """Remove a blob that no manifest of the image needs.

    Raises BlobUnknownError; MethodNotAllowedError while a manifest still names it.
    """
    image, digest = names.image_name(request), Digest.parse(request.params["digest"])
    found = await find_blob(repository, image, digest)
    if found is None:
        raise BlobUnknownError(f"{image} has no blob {digest}")
    if not isinstance(found, Artifact):
        await repository.unstage(image, found.name)
        return Response(202)
    if digest in await in_use(repository, image):
        raise MethodNotAllowedError(f"a manifest of {image} still names {digest}")
    return Publish((Delete(repository.key, found.path, (found.record,)),), Response(202))


# --- uploads ------------------------------------------------------------------------------------
async def start_upload(request: Request, repository: Repository) -> Response:
    """Mount a blob, take a whole one, or open a session."""
    image = names.image_name(request)
    _check_algorithm(request)
    if "mount" in request.query:
        digest = Digest.parse(request.argument("mount"))
        if await _mount(repository, image, digest, request.argument("from")):
            return _stored(request, image, digest)
    elif "digest" in request.query:
        digest = Digest.parse(request.argument("digest"))
        blob = request.body if request.body is not None else await _empty(repository)
        await _keep(repository, image, digest, blob)
        return _stored(request, image, digest)
    return _progress(request, image, await repository.uploads.create(image), 202)


async def judge_chunk(request: Request, repository: Repository) -> None:
    """Refuse a chunk that does not continue the session, before a byte of it is appended.

    Raises SessionUnknownError, RangeInvalidError.
    """
    session = await _session(request, repository)
    if request.method == "PUT":
        _final_digest(request)
    stated = request.headers.get("content-range")
    if stated is None:
        return
    found = CONTENT_RANGE.match(stated)
    if found is None:
        raise RangeInvalidError(f"not a Content-Range: {stated[:99]!r}")
    first, last = int(found[1]), int(found[2])
    length = request.headers.get("content-length", "")
    if first != session.size:
        raise RangeInvalidError(f"the upload continues at byte {session.size}, not {first}")
    if length.isdecimal() and int(length) != last - first + 1:
        raise RangeInvalidError(f"Content-Range spans {last - first + 1} bytes, not {length}")


async def append_chunk(request: Request, repository: Repository) -> Response:
    """Report how far the session is, the node having appended the body."""
    image = names.image_name(request)
    return _progress(request, image, await _session(request, repository), 202)


async def upload_status(request: Request, repository: Repository) -> Response:
    """Tell a client where to resume."""
    image = names.image_name(request)
    return _progress(request, image, await _session(request, repository), 204)


async def finish_upload(request: Request, repository: Repository) -> Response:
    """Verify what the session holds, the body of this request included, and stage it."""
    image, digest = names.image_name(request), _final_digest(request)
    blob = await repository.uploads.finish(request.params["session"], image, digest)
    await _stage(repository, image, digest, blob)
    return _stored(request, image, digest)


async def cancel_upload(request: Request, repository: Repository) -> Response:
    """Forget a session."""
    await repository.uploads.abort(request.params["session"], names.image_name(request))
    return Response(204)


async def _session(request: Request, repository: Repository) -> Session:
    session = request.params["session"]
    if not session.isascii():
        raise SessionUnknownError("no such upload")
    return await repository.uploads.status(session, names.image_name(request))


def _final_digest(request: Request) -> Digest:
    stated = request.argument("digest")
    if not stated:
        raise DigestInvalidError("the digest parameter is missing")
    return Digest.parse(stated)


def _check_algorithm(request: Request) -> None:
    algorithm = request.argument("digest-algorithm", "sha256")
    if algorithm not in LENGTHS:
        raise RejectedError(f"digest algorithm {algorithm[:99]!r} is not supported")


async def _mount(repository: Repository, image: str, digest: Digest, source: str) -> bool:
    """Make a blob of another image of this repository one of this image's.

    Images of other repositories have other readers: there the client uploads instead.
    """
    if await find_blob(repository, image, digest) is not None:
        return True
    key, _, other = source.partition("/")
    found: Artifact | Staged | None = None
    if key == repository.key and names.IMAGE.match(other):
        found = await find_blob(repository, other, digest)
    elif not source:
        found = next(iter(await repository.by_digest(digest)), None)
    if found is None:
        return False
    copy = Staged(str(digest), found.digest, found.size, found.checksums, b"", 0.0)
    await repository.stage(image, str(digest), copy)
    return True


async def _keep(repository: Repository, image: str, digest: Digest, blob: Ingested) -> None:
    """Stage a blob under the digest its client gave.  Raises DigestMismatchError."""
    actual = blob.digest
    if digest.algorithm != "sha256":
        hasher = Hasher(digest.algorithm)
        actual = Digest(digest.algorithm, await repository.inspect(blob.digest, hasher))
    if actual != digest:
        raise DigestMismatchError(digest, actual)
    await _stage(repository, image, digest, blob)


async def _stage(repository: Repository, image: str, digest: Digest, blob: Ingested) -> None:
    if not isinstance(await find_blob(repository, image, digest), Artifact):
        await repository.stage(image, str(digest), blob)


async def _empty(repository: Repository) -> Ingested:
    async with repository.ingest() as ingest:
        await ingest.write(b"")
    return ingest.result


class Hasher:
    """Hash a file with an algorithm that the ingest did not compute."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm

    def __call__(self, file: BinaryIO) -> str:
        hasher = hashlib.new(self._algorithm)
        while data := file.read(PIECE):
            hasher.update(data)
        return hasher.hexdigest()


def _progress(request: Request, image: str, session: Session, status: int) -> Response:
    return Response(
        status,
        headers=(
            ("location", f"{names.mount_path(request)}/{image}/blobs/uploads/{session.id}"),
            ("range", f"0-{max(session.size - 1, 0)}"),  # inclusive, so an empty one looks like 0-0
            ("docker-upload-uuid", session.id),
            API_VERSION,
        ),
    )


def _stored(request: Request, image: str, digest: Digest) -> Response:
    return Response(
        201,
        headers=(
            ("location", f"{names.mount_path(request)}/{image}/blobs/{digest}"),
            ("docker-content-digest", str(digest)),
            API_VERSION,
        ),
    )
