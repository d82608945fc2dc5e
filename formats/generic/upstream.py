"""Generic upstreams: any web server with files.  Paths are passed through.

Nothing says which files change, so all are asked about again after a while, but for paths that the
repository's ``immutable`` patterns match, and those that hold a digest themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from formats.contract import Request, Response
from formats.generic.files import file_headers
from formats.generic.paths import REVISIONS, clean_path
from formats.remote import Aim, Freshness, Kept, Promise, Remote

DIGEST = re.compile(r"(?:^|/)(?:by-hash/SHA256/|sha256[:/-])([0-9a-f]{64})(?=/|$)")


def aim(request: Request, base: str, options: Mapping[str, object]) -> Aim | None:
    """The file that a path names; listings and revisions are answered from what is kept."""
    if "path" not in request.params or request.path.endswith("/"):
        return None
    if "list" in request.query or "versions" in request.query or request.argument("version"):
        return None
    path = clean_path(request.params["path"])
    if path.startswith(f"{REVISIONS}/"):
        return None
    found = DIGEST.search(path)
    promise = Promise(digests={"sha256": found[1]}) if found else Promise()
    return Aim(
        path,
        quote(path, safe="/!$&'()*+,;=:@~"),
        package=path.rpartition("/")[0],
        promise=promise,
    )


def classify(path: str) -> Freshness:
    """A path with the digest of its bytes in it never changes; any other may."""
    return Freshness.IMMUTABLE if DIGEST.search(path) else Freshness.MUTABLE


def respond(request: Request, aim: Aim, kept: Kept) -> Response:
    """The headers of a file."""
    media_type, headers = file_headers(aim.path, kept.artifact)
    return Response(media_type=media_type, headers=headers)


REMOTE = Remote(aim, classify, respond)
