"""As much WebDAV as rclone and file managers need.  Spec: RFC 4918 §9.1 and §9.3."""

from __future__ import annotations

from email.utils import formatdate
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

from formats.contract import Repository, Request, Response
from formats.generic.listing import list_folder
from formats.generic.paths import clean_path, is_folder
from store.errors import MethodNotAllowedError
from store.rows import Artifact

XML = "application/xml; charset=utf-8"
COLLECTION = "<D:resourcetype><D:collection/></D:resourcetype>"


async def properties(request: Request, repository: Repository) -> Response:
    """Answer PROPFIND at depth 0 or 1 with the live properties we have, whichever were asked for.

    Infinite depth is answered as 1: clients walk on by themselves.
    """
    path = clean_path(request.params["path"]) if "path" in request.params else ""
    base = quote(urlsplit(request.base_url).path)
    artifact = await repository.find(path) if path else None
    if artifact is not None:
        return _multistatus([_file(base, artifact)])
    found = await list_folder(repository, path)
    rows = [_row(f"{base}/{quote(path)}/" if path else f"{base}/", COLLECTION)]
    if request.headers.get("depth", "1") != "0":
        prefix = f"{base}/{quote(path)}/" if path else f"{base}/"
        rows += [_row(f"{prefix}{quote(name)}/", COLLECTION) for name in found.folders]
        rows += [_file(base, each) for each in found.files]
    return _multistatus(rows)


async def make_folder(request: Request, repository: Repository) -> Response:
    """Answer MKCOL: folders exist through their files, so there is nothing to keep.

    Raises MethodNotAllowedError when something is there, as RFC 4918 §9.3.1 asks.
    """
    path = clean_path(request.params["path"]) if "path" in request.params else ""
    if not path or await repository.find(path) is not None or await is_folder(repository, path):
        raise MethodNotAllowedError(f"{path or '/'} exists")
    return Response(201)


def _file(base: str, artifact: Artifact) -> str:
    modified = formatdate(artifact.published, usegmt=True)
    return _row(
        f"{base}/{quote(artifact.path)}",
        "<D:resourcetype/>"
        f"<D:getcontentlength>{artifact.size}</D:getcontentlength>"
        f"<D:getlastmodified>{modified}</D:getlastmodified>"
        f'<D:getetag>"{artifact.digest}"</D:getetag>',
    )


def _row(href: str, properties: str) -> str:
    return (
        f"<D:response><D:href>{escape(href)}</D:href><D:propstat><D:prop>{properties}</D:prop>"
        "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n"
    )


def _multistatus(rows: list[str]) -> Response:
    body = (
        '<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'
        + "".join(rows)
        + "</D:multistatus>\n"
    )
    return Response(207, body.encode(), XML)
