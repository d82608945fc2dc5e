"""Tag lists and referrers: pure renderers over pointers and rows.

Spec: distribution-spec 1.1 §Content discovery, §Listing referrers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from urllib.parse import quote

import msgspec

from formats.contract import Repository, Request, Response, json_response
from formats.oci import names
from formats.oci.documents import INDEX_TYPES, MALFORMED, MANIFEST_MAX, OCI_INDEX, read_manifest
from formats.oci.errors import API_VERSION
from formats.oci.holdings import tagged_digest
from store.digest import Digest
from store.errors import ManifestInvalidError, PackageUnknownError, RejectedError

PAGE_MAX = 10_000  # names in one answer


# --- tags ---------------------------------------------------------------------------------------
async def list_tags(request: Request, repository: Repository) -> Response:
    """List tags in byte order, at most PAGE_MAX in an answer.  Raises PackageUnknownError."""
    image, last = names.image_name(request), request.argument("last")
    asked = page_asked(request)
    page = PAGE_MAX if asked is None else asked
    if asked is None and not last:
        rendered = await repository.cached(f"tags/{image}", partial(_first_tags, repository, image))
        tags: Sequence[str] = msgspec.json.decode(rendered.data, type=list[str])
    else:
        tags = await _tags(repository, image, last, page + 1)
    shown = tags[:page]
    path = f"{names.mount_path(request)}/{image}/tags/list"
    headers = (API_VERSION, *next_link(path, shown, page, more=len(tags) > page))
    document = {"name": f"{repository.key}/{image}", "tags": shown}
    return json_response(document, headers=headers, modified=repository.modified)


async def _first_tags(repository: Repository, image: str) -> bytes:
    return msgspec.json.encode(await _tags(repository, image, "", PAGE_MAX + 1))


async def _tags(repository: Repository, image: str, last: str, limit: int) -> Sequence[str]:
    """A page of tags.  Raises PackageUnknownError."""
    found = await repository.pointer_names(image, after=last, limit=limit)
    if not found and image not in await repository.packages(prefix=image, limit=1):
        raise PackageUnknownError(f"no image {image}")
    return found


def page_asked(request: Request) -> int | None:
    """The client's page size, if it gave one.  Raises RejectedError."""
    if "n" not in request.query:
        return None
    text = request.argument("n")
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise RejectedError(f"n is not a number of results: {text[:99]!r}")
    return min(int(text), PAGE_MAX)


def next_link(
    path: str, shown: Sequence[str], page: int | None, *, more: bool
) -> Iterable[tuple[str, str]]:
    """The Link header of a page that is not the last (RFC 8288)."""
    if more and shown:
        query = f"n={page or len(shown)}&last={quote(shown[-1], safe='')}"
        yield "link", f'<{path}?{query}>; rel="next"'


# --- referrers ----------------------------------------------------------------------------------
async def list_referrers(request: Request, repository: Repository) -> Response:
    """List the manifests whose subject is this digest, known or not: never 404."""
    image, digest = names.image_name(request), Digest.parse(request.params["digest"])

    async def render() -> bytes:
        return render_index(await _descriptors(repository, image, digest))

    rendered = await repository.cached(f"referrers/{image}/{digest}", render)
    wanted = request.argument("artifactType")
    if not wanted:
        return Response(
            content=rendered.data,
            media_type=OCI_INDEX,
            headers=(API_VERSION,),
            etag=rendered.etag,
            modified=rendered.modified,
        )
    found = [
        each
        for each in msgspec.json.decode(rendered.data)["manifests"]
        if each.get("artifactType") == wanted
    ]
    headers = (("oci-filters-applied", "artifactType"), API_VERSION)
    return Response(content=render_index(found), media_type=OCI_INDEX, headers=headers)


def render_index(descriptors: Iterable[Mapping[str, object]]) -> bytes:
    """An image index of these descriptors, in digest order."""
    manifests = sorted(descriptors, key=lambda each: str(each.get("digest")))
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


async def _descriptors(
    repository: Repository, image: str, subject: Digest
) -> list[Mapping[str, object]]:
    prefix = names.referrer_path(image, subject, "")
    rows = [each async for each in repository.all_artifacts(prefix)]
    found: dict[str, Mapping[str, object]] = {}
    for each in await _fallback(repository, image, subject):
        found[str(each.get("digest"))] = each
    for metadata in await repository.metadata(rows):
        descriptor = msgspec.json.decode(metadata)
        found[descriptor["digest"]] = descriptor
    return list(found.values())


async def _fallback(
    repository: Repository, image: str, subject: Digest
) -> Sequence[Mapping[str, object]]:
    """Referrers that a client without the API listed itself, in an index tagged by the subject."""
    tag = f"{subject.algorithm}-{subject.hex}"[:128]
    digest = await tagged_digest(repository, image, tag)
    artifact = await repository.find(names.manifest_path(image, digest)) if digest else None
    if artifact is None:
        return ()
    data = await repository.load(artifact.digest, limit=MANIFEST_MAX)
    try:
        if read_manifest(data).media_type not in INDEX_TYPES:
            return ()
        listed = msgspec.json.decode(data)["manifests"]
    except (*MALFORMED, ManifestInvalidError):
        return ()
    return [each for each in listed if isinstance(each, dict)]
