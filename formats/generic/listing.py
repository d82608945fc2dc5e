"""Folder listings, as JSON and as HTML, rendered in parts."""

from __future__ import annotations

import html
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from urllib.parse import quote

import msgspec

from formats.contract import Repository, Request, Response, document_response, redirect
from formats.generic.paths import REVISIONS, ROOT, is_folder
from store.errors import NotFoundError
from store.rows import Artifact

PAGE = 1000  # folder names asked for at once
LAST = "\U0010ffff" * 8  # sorts after every name that people give
HIDDEN = frozenset({ROOT, REVISIONS})  # at the top: files in no folder, and old ones
HTML, JSON = "text/html; charset=utf-8", "application/json"


Entry = str | Artifact  # a folder's name, or a file


async def root(request: Request, repository: Repository) -> Response:
    """The listing of the whole repository's top."""
    return await folder(request, repository, "")


async def folder(request: Request, repository: Repository, path: str) -> Response:
    """Render a folder as the client accepts.  Raises NotFoundError when nothing is in it."""
    if path and not request.path.endswith("/") and "list" not in request.query:
        if not await is_folder(repository, path):
            raise missing(path)
        return redirect(f"{quote(path.rpartition('/')[2])}/")  # links below are relative
    media_type = choose(request)
    parts = html_parts if media_type == HTML else json_parts
    found = await repository.composed(f"{media_type}:{path}", partial(parts, repository, path))
    return document_response(found, media_type, headers=(("vary", "Accept"),))


def choose(request: Request) -> str:
    """JSON for scripts (``?list``), HTML for browsers; Accept decides if it names one of them."""
    accept = request.headers.get("accept", "")
    if "application/json" in accept:
        return JSON
    if "text/html" in accept or "list" not in request.query:
        return HTML
    return JSON


def missing(path: str) -> NotFoundError:
    """What there is to say of a path with nothing at or below it."""
    return NotFoundError(f"no such file or folder: {path}")


# --- what is there ------------------------------------------------------------------------------
async def entries(repository: Repository, path: str) -> AsyncGenerator[Entry]:
    """What lies directly in a folder: folders, then files; however much it is, a page in memory.

    Raises NotFoundError when that is nothing; the root always exists.
    """
    empty = True
    async with aclosing(subfolders(repository, path)) as folders:
        async for name in folders:
            empty = False
            yield name
    async for file in repository.each(path or ROOT, f"{path}/" if path else ""):
        empty = False
        yield file
    if path and empty:
        raise missing(path)


async def subfolders(repository: Repository, path: str) -> AsyncGenerator[str]:
    """Names of the folders in a folder, each deeper level skipped in one step."""
    prefix, after = f"{path}/" if path else "", ""
    held: list[str] = []  # folders whose deeper levels may follow: "a-b" sorts between "a" and "a/"
    while names := await repository.packages(prefix=prefix, after=after, limit=PAGE):
        for name in names:
            child = name.removeprefix(prefix).partition("/")[0]
            while held and not child.startswith(held[-1]):
                held.pop()
            if child not in held:
                held.append(child)
                if path or child not in HIDDEN:
                    yield child
        after = names[-1]
        if "/" in after.removeprefix(prefix):  # go on behind everything below this child
            after = f"{prefix}{after.removeprefix(prefix).partition('/')[0]}/{LAST}"


# --- how it looks -------------------------------------------------------------------------------
async def json_parts(repository: Repository, path: str) -> AsyncGenerator[bytes]:
    """A folder as JSON: names, sizes, digests and ledger times."""
    before = msgspec.json.encode({"path": path})[:-1] + b',"entries":['
    async with aclosing(entries(repository, path)) as found:
        async for each in found:
            yield before + msgspec.json.encode(_row(each))
            before = b","
    yield (b"" if before == b"," else before) + b"]}"


def _row(each: Entry) -> dict[str, object]:
    if isinstance(each, str):
        return {"name": each, "type": "folder"}
    return {
        "name": each.filename,
        "type": "file",
        "size": each.size,
        "sha256": each.digest.hex,
        "modified": each.published,
    }


async def html_parts(repository: Repository, path: str) -> AsyncGenerator[bytes]:
    """A folder as a page of relative links."""
    title = html.escape(f"/{path}")
    before = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"</head><body>\n<h1>{title}</h1>\n<ul>\n"
    )
    async with aclosing(entries(repository, path)) as found:
        async for each in found:
            name = f"{each}/" if isinstance(each, str) else each.filename
            row = f'<li><a href="./{quote(name)}">{html.escape(name)}</a></li>\n'
            yield (before + row).encode()
            before = ""
    yield f"{before}</ul>\n</body></html>\n".encode()
