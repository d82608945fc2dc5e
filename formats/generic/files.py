"""Reading, writing and deleting generic files."""

from __future__ import annotations

import re
from urllib.parse import quote

from formats.contract import (
    BINARY,
    Answer,
    Publish,
    Repository,
    Request,
    Response,
    blob_response,
    json_response,
)
from formats.digests import declared_digests, digest_headers, verify
from formats.generic import listing
from formats.generic.paths import REVISIONS, clean_path, folder_of, is_folder, refuse_clash
from store.blobs import Ingested
from store.errors import ConflictError, NotFoundError, PreconditionFailedError
from store.facts import Delete, File
from store.facts import Publish as PublishFact
from store.rows import Artifact

TYPES = {
    "css": "text/css; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "gif": "image/gif",
    "gz": "application/gzip",
    "htm": "text/html; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "tgz": "application/gzip",
    "txt": "text/plain; charset=utf-8",
    "webp": "image/webp",
    "xhtml": "application/xhtml+xml",
    "xml": "application/xml",
    "xz": "application/x-xz",
    "zip": "application/zip",
    "zst": "application/zstd",
}
ACTIVE = ("html", "svg", "xml", "javascript")  # what a browser might run with this node's origin
PREFIX_MIN = 6  # hex digits that select a revision


async def read(request: Request, repository: Repository) -> Response:
    """Send a file, one of its revisions, the list of them, or a folder's listing."""
    path = clean_path(request.params["path"])
    if "versions" in request.query:
        return await _revisions_listing(repository, path)
    if request.argument("version"):
        return file_response(await _revision(repository, path, request.argument("version")), path)
    wants_folder = "list" in request.query or request.path.endswith("/")
    artifact = await repository.find(path)
    if artifact is not None and not (wants_folder and await is_folder(repository, path)):
        return file_response(artifact, path)
    return await listing.folder(request, repository, path)


def file_response(artifact: Artifact, path: str) -> Response:
    """Name the blob; what a browser could run is sent as an attachment."""
    media_type, headers = file_headers(path, artifact)
    return blob_response(artifact, media_type, headers=headers)


def file_headers(path: str, artifact: Artifact | None) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A file's media type and headers; its digests only where they are known already."""
    filename = path.rpartition("/")[2]
    media_type = TYPES.get(filename.rpartition(".")[2].lower(), BINARY)
    headers = [*(digest_headers(artifact) if artifact else ())]
    headers.append(("x-content-type-options", "nosniff"))
    if any(word in media_type for word in ACTIVE):
        quoted = quote(filename, safe="")
        headers.append(("content-disposition", f"attachment; filename*=UTF-8''{quoted}"))
    return media_type, tuple(headers)


async def write(request: Request, repository: Repository) -> Answer:
    """Bind a path to the body's bytes, or add a revision where the repository keeps them."""
    assert request.body is not None  # the route takes a blob
    path = clean_path(request.params["path"])
    await verify(declared_digests(request.headers), request.body, repository)
    await refuse_clash(repository, path)
    held = await repository.find(path)
    _check_preconditions(request, held)
    versioned = bool(repository.options.get("versioned"))
    facts = [_fact(repository.key, folder_of(path), "", path, request.body, mutable=versioned)]
    if versioned:
        place = f"{REVISIONS}/{path}"
        revision = request.body.digest.hex
        revised = f"{place}/{revision}"
        facts.append(_fact(repository.key, place, revision, revised, request.body, mutable=False))
    headers = (("location", f"{request.base_url}/{quote(path)}"),)
    document = {"path": path, "sha256": request.body.digest.hex, "size": request.body.size}
    status = 201 if held is None else 200
    return Publish(
        facts=tuple(facts),
        response=json_response(document, status=status, headers=headers),
        unchanged=json_response(document, headers=headers),
        only_if_new=request.headers.get("if-none-match", "").strip() == "*",
    )


def _fact(
    repository: str, package: str, version: str, path: str, blob: Ingested, *, mutable: bool
) -> PublishFact:
    sums = tuple(sorted(blob.checksums.items()))
    file = File(path, "file", str(blob.digest), blob.size, checksums=sums)
    return PublishFact(repository, package, version, (file,), mutable)


def _check_preconditions(request: Request, held: Artifact | None) -> None:
    """RFC 9110 §13.1 on a write.  Raises PreconditionFailedError."""
    if_match = request.headers.get("if-match")
    tags = set() if held is None else {"*", str(held.digest), held.digest.hex}
    if if_match is not None and not tags & _entity_tags(if_match):
        raise PreconditionFailedError("If-Match does not name what is there")
    if_none_match = request.headers.get("if-none-match")
    if if_none_match is not None and tags & _entity_tags(if_none_match):
        raise PreconditionFailedError("If-None-Match names what is there")


def _entity_tags(text: str) -> set[str]:
    return {tag.strip().removeprefix("W/").strip('"') for tag in text.split(",")}


async def remove(request: Request, repository: Repository) -> Answer:
    """Delete a file; its path then only takes the same bytes again.

    A folder is gone with its last file, so deleting an empty one succeeds.
    """
    path = clean_path(request.params["path"])
    held = await repository.find(path)
    if held is None:
        if await is_folder(repository, path):
            raise ConflictError(f"{path} is a folder that is not empty")
        if request.path.endswith("/"):
            return Response(204)
        raise NotFoundError(f"no such file: {path}")
    seen = {held.record}
    if held.mutable:  # each revision's record also moved the path
        seen |= {each.record for each in await _revisions(repository, path)}
    fact = Delete(repository.key, path, tuple(sorted(seen)))
    return Publish((fact,), Response(204))


# --- revisions ----------------------------------------------------------------------------------
async def _revisions(repository: Repository, path: str) -> list[Artifact]:
    """Revisions of a path, oldest first."""
    found = await repository.artifacts(f"{REVISIONS}/{path}")
    return sorted(found, key=lambda each: (each.published, each.path))


async def _revision(repository: Repository, path: str, wanted: str) -> Artifact:
    """A revision by its number, counted from 1, or by the start of its SHA-256."""
    found = await _revisions(repository, path)
    if re.fullmatch(r"[1-9][0-9]{0,4}", wanted) and int(wanted) <= len(found):
        return found[int(wanted) - 1]
    if len(wanted) >= PREFIX_MIN:
        matching = [each for each in found if each.version.startswith(wanted.lower())]
        if len(matching) == 1:
            return matching[0]
    raise NotFoundError(f"{path} has no revision {wanted[:80]}")


async def _revisions_listing(repository: Repository, path: str) -> Response:
    found = await _revisions(repository, path)
    if not found:
        raise NotFoundError(f"{path} has no revisions")
    rows = [
        {"version": n, "sha256": r.version, "size": r.size, "modified": r.published}
        for n, r in enumerate(found, start=1)
    ]
    return json_response({"path": path, "versions": rows})
