"""Search: by words, by digest, by beginning; over what the caller may read, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec

from node.api.artifacts import ArtifactList, view
from node.api.contract import Access, Call, Table
from node.search import asking
from store.errors import DigestInvalidError

table = Table("search", searches=True)
PER_PAGE_MAX = 100
OFFSET_MAX = 10_000
FILTERS = ("repository", "format", "license", "version", "tag")


class Hit(msgspec.Struct):
    repository_key: str
    format: str
    package: str
    version: str
    path: str
    description: str
    keywords: list[str]
    license: str
    tags: list[str]
    files: int
    size_bytes: int
    updated_at: float
    url: str


class SearchAnswer(msgspec.Struct):
    items: list[Hit]
    total: int
    exact: bool
    facets: dict[str, dict[str, int]]
    engine: str
    files: list[str]  # of a digest: the paths, each in the repository of the item beside it


class FoundPackage(msgspec.Struct):
    repository_key: str
    name: str
    files: int
    size_bytes: int


class FoundPackages(msgspec.Struct):
    items: list[FoundPackage]


class Popular(msgspec.Struct):
    repository_key: str
    name: str
    downloads: int
    last_used_at: float


class Trending(msgspec.Struct):
    items: list[Popular]


class Suggestions(msgspec.Struct):
    suggestions: list[str]


class SearchStatus(msgspec.Struct):
    documents: int
    pending: int
    rebuilding: bool
    written: int
    meilisearch: str


def readable(call: Call) -> list[str]:
    """The repositories that the caller may read: nothing of any other may be told."""
    return [
        entry.key
        for entry in call.core.directory_repositories()
        if call.core.gate.may(call.caller, "read", entry)
    ]


def _hit(call: Call, row: Mapping[str, Any]) -> Hit:
    place = f"{call.root_url}/api/v1/repositories/{row['repository']}"
    if row["path"]:
        url = f"{place}/artifacts/{quote(row['path'])}"
    else:
        url = f"{place}/packages/{quote(row['package'], safe='/@')}"
    return Hit(
        repository_key=row["repository"],
        format=row["format"],
        package=row["package"],
        version=row["version"],
        path=row["path"],
        description=row["description"],
        keywords=row["keywords"].split(),
        license=row["license"],
        tags=row["tags"].split(),
        files=row["files"],
        size_bytes=row["size"],
        updated_at=row["updated"] / 1000,
        url=url,
    )


@table.route(
    "GET",
    "/search/advanced",
    Access.OPEN,
    answer=SearchAnswer,
    parameters=("q", *FILTERS, "versions", "limit", "offset"),
)
async def search(call: Call) -> SearchAnswer:
    """Find packages, versions and files, with facets; docs/search.md says what ``q`` may hold."""
    limit = min(max(1, call.number("limit", 20)), PER_PAGE_MAX)
    offset = call.number("offset", 0, OFFSET_MAX)
    given = {name: call.query[name] for name in FILTERS if call.query.get(name)}
    asked = asking.read(call.query.get("q", ""), readable(call), **given)
    if asked.digest:
        return await _by_digest(call, asked, limit)
    query = asked.query
    if call.query.get("versions") in {"1", "true", "all"}:
        query = replace(query, latest=False)
    page = await call.core.search.search(query, limit=limit, offset=offset)
    facets = {name: dict(values) for name, values in page.facets.items()}
    hits = [_hit(call, row) for row in page.rows]
    return SearchAnswer(hits, page.total, page.exact, facets, page.engine, [])


async def _by_digest(call: Call, asked: asking.Asked, limit: int) -> SearchAnswer:
    found = await call.core.search.by_digest(
        asked.digest, asked.query.repositories, PER_PAGE_MAX + 1
    )
    hits: list[Hit] = []
    for repository, path in found[:limit]:
        each = await call.core.catalog.find(repository, path)
        entry = call.core.entry(repository)
        if each is None or entry is None:
            continue
        row = {
            "repository": repository,
            "format": entry.format,
            "package": each.package,
            "version": each.version,
            "path": path,
            "files": 1,
            "size": each.size,
            "updated": each.published * 1000,
        }
        row |= dict.fromkeys(("description", "keywords", "license", "tags"), "")
        hits.append(_hit(call, row))
    exact = len(found) <= PER_PAGE_MAX
    paths = [each.path for each in hits]
    return SearchAnswer(hits, min(len(found), PER_PAGE_MAX), exact, {}, "catalog", paths)


@table.route("GET", "/search/quick", Access.OPEN, answer=FoundPackages, parameters=("q", "limit"))
async def search_quick(call: Call) -> FoundPackages:
    """Find packages by words of their name, of a file's name or of what is said of them.

    Words of one and two letters are found as whole words only, not as the beginning of others.
    """
    limit = max(1, call.number("limit", 20, PER_PAGE_MAX))
    text = call.query.get("q", "").strip()
    if not text:  # looking for nothing in particular would look at everything
        return FoundPackages([])
    asked = asking.read(text, readable(call))
    page = await call.core.search.search(asked.query, limit=limit)
    names = dict.fromkeys((row["repository"], row["package"]) for row in page.rows)
    found = [await call.core.catalog.package(*name) for name in names]
    return FoundPackages(
        [FoundPackage(p.repository, p.package, p.files, p.size) for p in found if p is not None]
    )


@table.route(
    "GET", "/search/checksum", Access.OPEN, answer=ArtifactList, parameters=tuple(asking.LENGTHS)
)
async def search_checksum(call: Call) -> ArtifactList:
    """Find files by a digest of any recorded algorithm, in the repositories that one may read."""
    keys, items = readable(call), []
    for algorithm, size in asking.LENGTHS.items():
        value = call.query.get(algorithm)
        if value is None:
            continue
        if len(value) != size or not asking.HEX.fullmatch(value.lower()):
            raise DigestInvalidError(f"not a {algorithm} digest: {value[:40]!r}")
        found = await call.core.search.by_digest(f"{algorithm}:{value}", keys, PER_PAGE_MAX)
        for repository, path in found:
            each = await call.core.catalog.find(repository, path)
            items += [await view(call, each)] if each is not None else []
    return ArtifactList(items, None)


@table.route(
    "GET", "/search/suggest", Access.OPEN, answer=Suggestions, parameters=("prefix", "limit")
)
async def suggest(call: Call) -> Suggestions:
    """Complete a package's name; less than three letters are a whole word of it."""
    limit = max(1, call.number("limit", 10, 50))
    prefix = call.query.get("prefix", "").strip()
    if not prefix:
        return Suggestions([])
    asked = asking.read(prefix, readable(call))
    terms = tuple(replace(term, column="names") for term in asked.query.terms)
    page = await call.core.search.search(replace(asked.query, terms=terms), limit=4 * limit)
    names = dict.fromkeys(row["package"] for row in page.rows)
    return Suggestions(list(names)[:limit])


@table.route("GET", "/search/recent", Access.OPEN, answer=SearchAnswer, parameters=("limit",))
async def recent(call: Call) -> SearchAnswer:
    """List what was changed last, newest first."""
    limit = max(1, call.number("limit", 20, PER_PAGE_MAX))
    query = asking.read("", readable(call)).query
    page = await call.core.search.search(query, limit=limit)
    hits = [_hit(call, row) for row in page.rows]
    return SearchAnswer(hits, page.total, page.exact, {}, page.engine, [])


@table.route("GET", "/search/trending", Access.OPEN, answer=Trending, parameters=("limit",))
async def trending(call: Call) -> Trending:
    """List the packages that were downloaded most, on all nodes together."""
    limit = max(1, call.number("limit", 20, PER_PAGE_MAX))
    found = await call.core.usage.kept.most(readable(call), limit)
    return Trending([Popular(r, p, use.downloads, use.last) for r, p, use in found])


@table.route("GET", "/admin/search", Access.MANAGE, answer=SearchStatus)
async def search_status(call: Call) -> SearchStatus:
    """Show how far the index is."""
    return await _status(call)


async def _status(call: Call) -> SearchStatus:
    found = await call.core.search.status()
    return SearchStatus(
        found.documents, found.pending, found.rebuilding, found.written, found.meilisearch
    )


@table.route("POST", "/admin/reindex", Access.MANAGE, answer=SearchStatus, status=202)
async def reindex(call: Call) -> SearchStatus:
    """Make the index anew, in the background; the old one answers meanwhile."""
    await call.core.search.rebuild()
    await call.note("search.rebuild", "")
    return await _status(call)
