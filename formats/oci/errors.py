"""OCI's error bodies and its Bearer challenge.

Spec: distribution-spec 1.1 §Error Codes; distribution token specification.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from formats.contract import Request, Response, json_response
from store import errors
from store.errors import NotFoundError, RegistryError

API_VERSION = ("docker-distribution-api-version", "registry/2.0")


class ManifestBlobUnknownError(NotFoundError):
    """A manifest names a blob or manifest that its image does not have."""


CODES: dict[type[RegistryError], str] = {
    errors.BlobUnknownError: "BLOB_UNKNOWN",
    errors.ManifestUnknownError: "MANIFEST_UNKNOWN",
    ManifestBlobUnknownError: "MANIFEST_BLOB_UNKNOWN",
    errors.SessionUnknownError: "BLOB_UPLOAD_UNKNOWN",
    errors.NotFoundError: "NAME_UNKNOWN",
    errors.DigestInvalidError: "DIGEST_INVALID",
    errors.DigestMismatchError: "DIGEST_INVALID",
    errors.ManifestInvalidError: "MANIFEST_INVALID",
    errors.NameInvalidError: "NAME_INVALID",
    errors.PathInvalidError: "NAME_INVALID",
    errors.TooLargeError: "SIZE_INVALID",
    errors.RangeInvalidError: "BLOB_UPLOAD_INVALID",
    errors.RejectedError: "UNSUPPORTED",
    errors.ConflictError: "DENIED",
    errors.MethodNotAllowedError: "UNSUPPORTED",
    errors.UnauthorizedError: "UNAUTHORIZED",
    errors.DeniedError: "DENIED",
    errors.TooManyRequestsError: "TOOMANYREQUESTS",
    RegistryError: "UNKNOWN",  # not in the spec; clients show it with its message
}
ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}
IMAGE_PATH = re.compile(r"/(?P<image>.+?)/(?:blobs|manifests|tags|referrers)/")


def error_body(error: RegistryError) -> Response:
    """Say it as OCI clients expect.  The nearest class with a code speaks for its subclasses."""
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    body = {"errors": [{"code": code, "message": str(error), "detail": None}]}
    return json_response(body, status=error.status, headers=(API_VERSION,))


def challenge(request: Request, error: RegistryError) -> str:
    """Name the token endpoint, and the scope: without one, clients drop the token on HEAD."""
    parts = [
        f'realm="{request.root_url}/v2/token"',
        f'service="{urlsplit(request.root_url).netloc}"',
    ]
    scope = wanted_scope(request)
    if scope:
        parts.append(f'scope="{scope}"')
    if request.principal.kind != "anonymous":
        parts.append('error="insufficient_scope"')
    return "Bearer " + ",".join(parts)


def wanted_scope(request: Request) -> str:
    """The scope whose token would do, as far as the path tells."""
    if request.path.rstrip("/").endswith("/_catalog"):
        return "registry:catalog:*"
    key = request.base_url.removeprefix(request.root_url).strip("/").removeprefix("v2").strip("/")
    found = IMAGE_PATH.match(request.path)
    if not key or found is None or '"' in found["image"]:
        return ""
    upload = "/blobs/uploads/" in request.path  # reading or cancelling a session is pushing, too
    actions = "pull,push" if upload else ACTIONS.get(request.method, "pull,push")
    return f"repository:{key}/{found['image']}:{actions}"
