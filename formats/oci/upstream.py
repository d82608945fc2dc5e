"""OCI upstreams: registries.  Digests never change and are enforced; tags and lists do.

A manifest fetched by its tag is kept under its digest, too: clients ask for both.
Spec: distribution-spec 1.1 §Pulling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import msgspec

from formats.contract import BINARY, Request, Response
from formats.oci import names
from formats.oci.documents import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MALFORMED,
    OCI_INDEX,
    OCI_MANIFEST,
    Document,
    read_manifest,
)
from formats.oci.errors import API_VERSION
from formats.oci.listings import page_asked
from formats.remote import Aim, Freshness, Kept, Promise, Remote
from store.digest import Digest
from store.errors import ManifestInvalidError
from store.facts import Cached, Fact, File

ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}, */*;q=0.5"
NEXT = re.compile(r'<([^>]{1,900})>\s*;\s*rel="?next"?')
LISTED = 10_000  # tags asked for at once


class TagList(msgspec.Struct):
    """What tags/list answers."""

    tags: list[str] | None = None


def base(upstream_url: str) -> str:
    """Where ``/v2/`` is, with the path of the configured URL as the beginning of image names."""
    parts = urlsplit(upstream_url)
    path = parts.path.strip("/").removeprefix("v2").strip("/")
    place = f"/v2/{path}/" if path else "/v2/"
    return urlunsplit((parts.scheme, parts.netloc, place, "", ""))


def aim(request: Request, base: str, options: Mapping[str, object]) -> Aim | None:
    """A manifest, a blob or a list of the upstream's."""
    if "image" not in request.params:
        return None
    image = names.image_name(request)
    prefix = urlsplit(base).path.removeprefix("/v2/")
    space = options.get("namespace")  # of images whose name has one part, on hubs that keep one
    name = f"{space}/{image}" if _is_image(space) and "/" not in image else image
    scope = f"repository:{prefix}{name}:pull"
    if "reference" in request.params:
        return _manifest(image, name, request.params["reference"], scope)
    if request.path.rstrip("/").endswith("/tags/list"):
        return _tags(request, image, name, scope)
    if "/referrers/" in request.path:
        digest = Digest.parse(request.params["digest"])
        url, path = f"{name}/referrers/{digest}", f"{image}/.referrers/{digest}"
        return Aim(path, url, image, role="index", scope=scope, document=True, optional=True)
    if "digest" not in request.params:
        return None
    digest = Digest.parse(request.params["digest"])
    promise = Promise(digests={digest.algorithm: digest.hex})
    path, url = names.blob_path(image, digest), f"{name}/blobs/{digest}"
    return Aim(path, url, image, role="layer", scope=scope, promise=promise)


def _is_image(name: object) -> bool:
    return isinstance(name, str) and names.IMAGE.match(name) is not None


def _manifest(image: str, name: str, reference: str, scope: str) -> Aim:
    promise, version = Promise(), ""
    if names.is_digest(reference):
        digest = Digest.parse(reference)
        path, role = names.manifest_path(image, digest), "manifest"
        promise, version = Promise(digests={digest.algorithm: digest.hex}), str(digest)
    else:
        path, role = f"{image}/.tags/{names.tag_name(reference)}", "tag"
    url = f"{name}/manifests/{reference}"
    return Aim(path, url, image, version, role, ACCEPT, scope=scope, document=True, promise=promise)


def _tags(request: Request, image: str, name: str, scope: str) -> Aim:
    page, last = page_asked(request), request.argument("last")[:200]
    query = f"n={page or LISTED}" + (f"&last={quote(last, safe='')}" if last else "")
    path = f"{image}/.list/{query}"
    url = f"{name}/tags/list?{query}"
    return Aim(path, url, image, role="index", scope=scope, document=True)


def classify(path: str) -> Freshness:
    """What is named by digest stays."""
    if "/.tags/" in path or "/.list/" in path or "/.referrers/" in path:
        return Freshness.INDEX
    return Freshness.IMMUTABLE


def check(aim: Aim, kept: Kept) -> None:
    """Refuse what is no manifest, or no list.  Raises ManifestInvalidError."""
    if aim.role in {"manifest", "tag"}:
        _read(kept)
    elif "/.list/" in aim.path:
        _tag_list(kept)
    elif not isinstance(_json(kept.data).get("manifests"), list):
        raise ManifestInvalidError("not an index of referrers")


def _json(data: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(data, type=dict[str, object])
    except MALFORMED as error:
        raise ManifestInvalidError(f"not JSON: {error}"[:300]) from error


def _tag_list(kept: Kept) -> list[str]:
    try:
        found = msgspec.json.decode(kept.data, type=TagList).tags or []
    except MALFORMED as error:
        raise ManifestInvalidError(f"not a list of tags: {error}"[:300]) from error
    return [each for each in found if names.TAG.match(each)]


def _read(kept: Kept) -> Document:
    """The manifest, by the type that its answer, or its record, gave it."""
    media_type = kept.origin.media_type
    if kept.artifact is not None and not media_type:
        found = _json(kept.artifact.metadata).get("mediaType")
        media_type = found if isinstance(found, str) else ""
    return read_manifest(kept.data, media_type)


def respond(request: Request, aim: Aim, kept: Kept) -> Response:
    """Manifests and blobs as they are; lists under our name."""
    if aim.role == "layer":
        digest = next(f"{name}:{value}" for name, value in aim.promise.digests.items())
        headers = (("docker-content-digest", digest), API_VERSION)
        return Response(media_type=BINARY, headers=headers)
    if aim.role in {"manifest", "tag"}:
        told = aim.version or str(Digest.of(kept.data))
        return Response(
            content=kept.data,
            media_type=_read(kept).media_type,
            headers=(("docker-content-digest", told), API_VERSION),
            etag=told,
        )
    if "/.list/" in aim.path:
        return _list_response(request, aim, kept)
    return Response(content=kept.data, media_type=OCI_INDEX, headers=(API_VERSION,))


def _list_response(request: Request, aim: Aim, kept: Kept) -> Response:
    mount = names.mount_path(request)
    key = mount.rpartition("/")[2]
    document = {"name": f"{key}/{aim.package}", "tags": _tag_list(kept)}
    headers = [API_VERSION]
    more = NEXT.search(kept.origin.link)
    if more is not None:
        query = parse_qs(urlsplit(more[1]).query)
        told = [(name, query[name][0]) for name in ("n", "last") if name in query]
        pairs = [f"{name}={quote(value, safe='')}" for name, value in told]
        url = f"{mount}/{aim.package}/tags/list?{'&'.join(pairs)}"
        headers.append(("link", f'<{url}>; rel="next"'))
    return Response(
        content=msgspec.json.encode(document),
        media_type="application/json",
        headers=tuple(headers),
    )


def facts(repository: str, aim: Aim, file: File, kept: Kept) -> Sequence[Fact]:
    """A file under its own path; a manifest under its digest as well, and beside its subject."""
    if aim.role not in {"manifest", "tag"}:
        return (Cached(repository, aim.package, aim.version, (file,)),)
    document = _read(kept)
    digest = aim.version or file.digest
    metadata: dict[str, object] = {"mediaType": document.media_type}
    if document.artifact_type:
        metadata["artifactType"] = document.artifact_type
    if document.subject is not None:
        metadata["subject"] = str(document.subject)
    path = names.manifest_path(aim.package, Digest.parse(digest))
    manifest = msgspec.structs.replace(
        file, path=path, role="manifest", metadata=msgspec.json.encode(metadata), metadata_digest=""
    )
    found = [Cached(repository, aim.package, digest, (manifest,))]
    if aim.role == "tag":
        found.append(Cached(repository, aim.package, "", (file,)))
    return found


REMOTE = Remote(aim, classify, respond, check=check, facts=facts, base=base)
