"""Generic files: a path holds bytes.  Spec: docs/formats/generic.md (the protocol is our own).

A path is bound to its bytes for ever, unless the repository option ``versioned`` is set: then each
PUT of other bytes adds a revision, the newest is what the path shows, and ``?version=`` reaches the
rest.  Folders exist through the files in them.  The package of a file is its folder.
"""

from __future__ import annotations

from formats.contract import (
    BLOB,
    Body,
    BodyKind,
    Format,
    Response,
    Route,
    Scope,
    json_response,
)
from formats.generic import dav, files, listing
from formats.generic.releases import RELEASES
from formats.generic.upstream import REMOTE
from formats.generic.virtual import VIRTUAL
from store.errors import RegistryError

PROPFIND_MAX = 64 << 10  # bytes; what clients ask for is not looked at


def error_body(error: RegistryError) -> Response:
    """Say it as JSON: a code that follows from the kind of error, and the message."""
    name = type(error).__name__.removesuffix("Error")
    code = "".join(f"_{each.lower()}" if each.isupper() else each for each in name).lstrip("_")
    return json_response({"error": code, "message": str(error)}, status=error.status)


CLIENT_SETTINGS = {
    "curl": """\
# upload, download, list
curl --fail --user {user}:{token} --upload-file app.tar.gz {url}/releases/app.tar.gz
curl --fail --user {user}:{token} --remote-name {url}/releases/app.tar.gz
curl --fail --user {user}:{token} "{url}/releases/?list"
""",
    "rclone": """\
# ~/.config/rclone/rclone.conf
[{key}]
type = webdav
url = {url}
vendor = other
headers = Authorization,"Bearer {token}"
# then: rclone copy ./dist {key}:releases
""",
}

FORMAT = Format(
    name="generic",
    keys=("generic",),
    mounts=("/general",),
    purl_type="generic",
    checksums=("sha1", "md5"),
    error_body=error_body,
    routes=(
        Route("GET", "/", listing.root),
        Route("PROPFIND", "/", dav.properties, body=Body(BodyKind.DOCUMENT, PROPFIND_MAX)),
        Route("MKCOL", "/", dav.make_folder, Scope.WRITE),
        Route("GET", "/{path*}", files.read),
        Route("PUT", "/{path*}", files.write, Scope.WRITE, BLOB),
        Route("DELETE", "/{path*}", files.remove, Scope.DELETE),
        Route("PROPFIND", "/{path*}", dav.properties, body=Body(BodyKind.DOCUMENT, PROPFIND_MAX)),
        Route("MKCOL", "/{path*}", dav.make_folder, Scope.WRITE),
    ),
    client_settings=CLIENT_SETTINGS,
    remote=REMOTE,
    virtual=VIRTUAL,
    releases=RELEASES,
)
