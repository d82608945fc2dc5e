"""Images of several members as one: lists merged, a tag from the first that has it.

What is named by its digest may come from any member that the caller may read.
Spec: distribution-spec 1.1; formats.md §4.1 (virtual).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from formats.contract import Request, Response, json_response
from formats.oci import names
from formats.oci.documents import MALFORMED, OCI_INDEX
from formats.oci.errors import API_VERSION
from formats.oci.listings import next_link, page_asked, render_index
from formats.virtual import Ask, Document, Members, Virtual
from store.digest import Digest
from store.errors import (
    BlobUnknownError,
    ManifestUnknownError,
    NotFoundError,
    PackageUnknownError,
)


async def answer(request: Request, members: Members) -> Response | None:
    """A manifest, a blob or a list."""
    if "image" not in request.params:
        return None
    image = names.image_name(request)
    if "reference" in request.params:
        return await _manifest(request, members, image)
    if request.path.rstrip("/").endswith("/tags/list"):
        return await _tags(request, members, image)
    digest = Digest.parse(request.params["digest"])
    if "/referrers/" in request.path:
        return await _referrers(request, members, image, digest)
    return await _blob(request, members, image, digest)


async def _manifest(request: Request, members: Members, image: str) -> Response:
    reference = request.params["reference"]
    addressed = names.is_digest(reference)
    if addressed and _pushing(request, members):
        return await members.target()
    try:
        return await members.first(image, addressed=addressed)
    except NotFoundError as error:
        raise ManifestUnknownError(f"{image} has no manifest {reference[:200]}") from error


def _pushing(request: Request, members: Members) -> bool:
    """Whether this asks what need not be pushed: then only the deploy target's word counts."""
    return request.method == "HEAD" and members.publishing


async def _blob(request: Request, members: Members, image: str, digest: Digest) -> Response:
    if _pushing(request, members):
        return await members.target()
    try:
        return await members.first(image, addressed=True)
    except NotFoundError as error:
        raise BlobUnknownError(f"{image} has no blob {digest}") from error


# --- lists --------------------------------------------------------------------------------------
class _Tags(msgspec.Struct):
    tags: list[str] | None = None


async def _tags(request: Request, members: Members, image: str) -> Response:
    page = page_asked(request)
    query = {name: values for name, values in request.query.items() if name in {"n", "last"}}
    documents = await members.documents(image, Ask(f"/{image}/tags/list", query=query))
    if not documents:
        raise PackageUnknownError(f"no image {image}")
    key = names.mount_path(request).rpartition("/")[2]
    shown, more = merge_tags(documents, page)
    path = f"{names.mount_path(request)}/{image}/tags/list"
    headers = (API_VERSION, *next_link(path, shown, page, more=more))
    return json_response({"name": f"{key}/{image}", "tags": shown}, headers=headers)


def merge_tags(documents: Sequence[Document], page: int | None) -> tuple[Sequence[str], bool]:
    """A page of the union, and whether another follows.

    Lists come in order: behind the last tag of one that goes on, nothing can be said yet.
    """
    union: set[str] = set()
    ends: list[str] = []
    for each in documents:
        tags = msgspec.json.decode(each.data, type=_Tags).tags or []
        union.update(tags)
        if "link" in each.headers and tags:
            ends.append(max(tags))
    known = sorted(each for each in union if not ends or each <= min(ends))
    shown = known if page is None else known[:page]
    return shown, bool(ends) or len(shown) < len(known)


class _Index(msgspec.Struct):
    manifests: list[dict[str, object]] = []


async def _referrers(request: Request, members: Members, image: str, digest: Digest) -> Response:
    """All that refer to a digest, known or not: never 404."""
    documents = await members.documents(image, Ask(f"/{image}/referrers/{digest}"))
    found: dict[str, dict[str, object]] = {}
    for each in documents:
        for descriptor in _descriptors(each):
            found.setdefault(str(descriptor.get("digest")), descriptor)
    wanted = request.argument("artifactType")
    headers = (API_VERSION, *([("oci-filters-applied", "artifactType")] if wanted else []))
    chosen = [e for e in found.values() if not wanted or e.get("artifactType") == wanted]
    return Response(content=render_index(chosen), media_type=OCI_INDEX, headers=headers)


def _descriptors(document: Document) -> Sequence[dict[str, object]]:
    try:
        return msgspec.json.decode(document.data, type=_Index).manifests
    except MALFORMED:
        return ()


VIRTUAL = Virtual(answer, str.lower)
