"""Folder listings, as JSON and as HTML."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from formats.contract import Repository, Request, Response, redirect
from formats.generic.paths import REVISIONS, ROOT
from store.errors import NotFoundError
from store.rows import Artifact

PAGE = 1000  # folder names asked for at once
LAST = "\U0010ffff" * 8  # sorts after every name that people give
HTML, JSON = "text/html; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies directly in a folder."""

    folders: Sequence[str]
    files: Sequence[Artifact]


async def root(request: Request, repository: Repository) -> Response:
    """The listing of the whole repository's top."""
    return await folder(request, repository, "")


async def folder(request: Request, repository: Repository, path: str) -> Response:
    """Render a folder as the client accepts.  Raises NotFoundError when nothing is in it."""
    if path and not request.path.endswith("/") and "list" not in request.query:
        await list_folder(repository, path)
        return redirect(f"{quote(path.rpartition('/')[2])}/")  # links below are relative
    media_type = choose(request)

    async def render() -> bytes:
        found = await list_folder(repository, path)
        return to_html(path, found) if media_type == HTML else to_json(path, found)

    rendered = await repository.cached(f"{media_type}:{path}", render)
    return Response(
        content=rendered.data,
        media_type=media_type,
        headers=(("vary", "Accept"),),
        etag=rendered.etag,
        modified=rendered.modified,
    )


def choose(request: Request) -> str:
    """JSON for scripts (``?list``), HTML for browsers; Accept decides if it names one of them."""
    accept = request.headers.get("accept", "")
    if "application/json" in accept:
        return JSON
    if "text/html" in accept or "list" not in request.query:
        return HTML
    return JSON


async def list_folder(repository: Repository, path: str) -> Listing:
    """Read a folder.  Raises NotFoundError when it does not exist; the root always does."""
    files = sorted(await repository.artifacts(path or ROOT), key=lambda each: each.path.encode())
    folders = [name async for name in subfolders(repository, path)]
    if path and not files and not folders:
        raise NotFoundError(f"no such file or folder: {path}")
    return Listing(folders, files)


async def subfolders(repository: Repository, path: str) -> AsyncIterator[str]:
    """Names of the folders in a folder, each deeper level skipped in one step."""
    prefix, after = f"{path}/" if path else "", ""
    seen = set() if path else {ROOT, REVISIONS}  # "a-b" sorts between "a" and "a/b"
    while names := await repository.packages(prefix=prefix, after=after, limit=PAGE):
        for name in names:
            child = name.removeprefix(prefix).partition("/")[0]
            if child not in seen:
                seen.add(child)
                yield child
        after = names[-1]
        if "/" in after.removeprefix(prefix):  # go on behind everything below this child
            after = f"{prefix}{after.removeprefix(prefix).partition('/')[0]}/{LAST}"


def to_json(path: str, found: Listing) -> bytes:
    """A folder as JSON: names, sizes, digests and ledger times."""
    entries: list[dict[str, object]] = [{"name": name, "type": "folder"} for name in found.folders]
    entries += [
        {
            "name": each.filename,
            "type": "file",
            "size": each.size,
            "sha256": each.digest.hex,
            "modified": each.published,
        }
        for each in found.files
    ]
    return msgspec.json.encode({"path": path, "entries": entries})


def to_html(path: str, found: Listing) -> bytes:
    """A folder as a page of relative links."""
    names = [f"{name}/" for name in found.folders] + [each.filename for each in found.files]
    rows = "".join(
        f'<li><a href="./{quote(name)}">{html.escape(name)}</a></li>\n' for name in names
    )
    title = html.escape(f"/{path}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"</head><body>\n<h1>{title}</h1>\n<ul>\n{rows}</ul>\n</body></html>\n"
    ).encode()
