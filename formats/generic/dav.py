"""As much WebDAV as rclone and file managers need.  Spec: RFC 4918 §9.1 and §9.3."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.utils import formatdate
from functools import partial
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

from formats.contract import Repository, Request, Response, document_response
from formats.generic.listing import entries, missing
from formats.generic.paths import clean_path, is_folder
from store.errors import MethodNotAllowedError
from store.rows import Artifact

XML = "application/xml; charset=utf-8"
START = b'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'
END = b"</D:multistatus>\n"
COLLECTION = "<D:resourcetype><D:collection/></D:resourcetype>"


async def properties(request: Request, repository: Repository) -> Response:
    """Answer PROPFIND at depth 0 or 1 with the live properties we have, whichever were asked for.

    Infinite depth is answered as 1: clients walk on by themselves.
    """
    path = clean_path(request.params["path"]) if "path" in request.params else ""
    base = quote(urlsplit(request.base_url).path)
    artifact = await repository.find(path) if path else None
    if artifact is not None:
        return Response(207, START + _file(base, artifact) + END, XML)
    if path and not await is_folder(repository, path):
        raise missing(path)
    depth = request.headers.get("depth", "1")
    if depth == "0":
        return Response(207, START + _folder(base, path) + END, XML)
    parts = partial(_parts, repository, base, path)
    found = await repository.composed(f"{XML}:{base}:{path}", parts)
    return document_response(found, XML, status=207)


async def _parts(repository: Repository, base: str, path: str) -> AsyncGenerator[bytes]:
    """A folder and what lies directly in it."""
    before = START + _folder(base, path)
    prefix = f"{path}/" if path else ""
    async with aclosing(entries(repository, path)) as found:
        async for each in found:
            row = _folder(base, prefix + each) if isinstance(each, str) else _file(base, each)
            yield before + row
            before = b""
    yield before + END


async def make_folder(request: Request, repository: Repository) -> Response:
    """Answer MKCOL: folders exist through their files, so there is nothing to keep.

    Raises MethodNotAllowedError when something is there, as RFC 4918 §9.3.1 asks.
    """
    path = clean_path(request.params["path"]) if "path" in request.params else ""
    if not path or await repository.find(path) is not None or await is_folder(repository, path):
        raise MethodNotAllowedError(f"{path or '/'} exists")
    return Response(201)


def _folder(base: str, path: str) -> bytes:
    return _row(f"{base}/{quote(path)}/" if path else f"{base}/", COLLECTION)


def _file(base: str, artifact: Artifact) -> bytes:
    modified = formatdate(artifact.published, usegmt=True)
    return _row(
        f"{base}/{quote(artifact.path)}",
        "<D:resourcetype/>"
        f"<D:getcontentlength>{artifact.size}</D:getcontentlength>"
        f"<D:getlastmodified>{modified}</D:getlastmodified>"
        f'<D:getetag>"{artifact.digest}"</D:getetag>',
    )


def _row(href: str, properties: str) -> bytes:
    return (
        f"<D:response><D:href>{escape(href)}</D:href><D:propstat><D:prop>{properties}</D:prop>"
        "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n"
    ).encode()
