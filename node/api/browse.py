"""Browsing a repository: its tree, and a page for each package and version."""

from __future__ import annotations

from functools import partial

import msgspec
import sqlalchemy as sa

from node.api.artifacts import ArtifactView, views
from node.api.contract import Access, Call, Table, cut
from node.search.documents import FILES_MAX
from store import catalog_rows, hlc, tree
from store.catalog import FLAGS, POINTERS
from store.errors import PackageUnknownError, RejectedError
from store.paging import storable
from store.rows import Artifact, FlagRow, Pointer
from store.schema import files, flags
from store.search_writing import DocumentKey

table = Table("browse")
TEXT_MAX = 200  # characters of a pointer's or a mark's value that are shown
MARKS_MAX = 1000  # pointers or marks of a package that are shown


class TreeNode(msgspec.Struct):
    name: str
    path: str
    kind: str  # folder | file
    size_bytes: int | None = None
    created_at: float | None = None
    checksum_sha256: str | None = None
    package: str | None = None
    version: str | None = None


class TreeAnswer(msgspec.Struct):
    path: str
    nodes: list[TreeNode]
    next: str | None


class VersionSummary(msgspec.Struct):
    version: str
    files: int
    size_bytes: int
    updated_at: float
    downloads: int = 0
    last_used_at: float = 0.0


class PointerView(msgspec.Struct):
    name: str
    value: str
    updated_at: float
    conflicted: bool


class MarkView(msgspec.Struct):
    name: str
    version: str
    path: str
    value: str


class PackagePage(msgspec.Struct):
    repository_key: str
    name: str
    format: str
    files: int
    size_bytes: int
    updated_at: float
    description: str
    license: str
    keywords: list[str]
    latest_version: str
    versions: list[VersionSummary]
    next: str | None
    tags: list[PointerView]
    marks: list[MarkView]
    downloads: int
    last_used_at: float


class VersionPage(msgspec.Struct):
    repository_key: str
    package: str
    version: str
    format: str
    description: str
    license: str
    keywords: list[str]
    tags: list[str]
    size_bytes: int
    files: list[ArtifactView]
    more_files: bool
    marks: list[MarkView]
    downloads: int
    last_used_at: float


@table.route(
    "GET",
    "/repositories/{key}/tree",
    Access.READ,
    answer=TreeAnswer,
    parameters=("path", "after", "limit"),
)
async def show_tree(call: Call) -> TreeAnswer:
    """List what lies directly in a folder; ``next`` is the ``after`` of the following page."""
    limit = min(max(1, call.number("limit", 100)), tree.LIMIT_MAX - 1)
    folder, after = call.query.get("path", "").strip("/"), call.query.get("after", "")
    key = call.repository.key
    if not storable(folder, after):
        return TreeAnswer(folder, [], None)
    unit = partial(tree.children, repository=key, folder=folder, after=after, limit=limit + 1)
    page, more = cut(await call.core.catalog.read(unit), limit, lambda each: each.cursor)
    return TreeAnswer(folder, [_node(each) for each in page], more)


def _node(each: tree.Node) -> TreeNode:
    found = each.artifact
    if found is None:
        return TreeNode(each.name, each.path, "folder")
    return TreeNode(
        each.name,
        each.path,
        "file",
        found.size,
        found.published,
        found.checksums.get("sha256"),
        found.package,
        found.version,
    )


@table.route(
    "GET",
    "/repositories/{key}/packages/{package:path}",
    Access.READ,
    answer=PackagePage,
    parameters=("after", "limit"),
)
async def show_package(call: Call) -> PackagePage:
    """Show a package: its versions in byte order, its tags and marks, what it says of itself."""
    limit, name = max(1, call.number("limit", 100)), call.params["package"]
    entry, catalog = call.repository, call.core.catalog
    row = await catalog.package(entry.key, name)
    if row is None:
        raise PackageUnknownError(f"{entry.key} has no package {name[:200]!r}")
    after = call.query.get("after", "")
    unit = partial(_versions, repository=entry.key, package=name, after=after, limit=limit + 1)
    found = await catalog.read(unit) if storable(after) else []
    page, more = cut(found, limit, lambda each: each.version)
    told = await call.core.search.newest(entry.key, name)
    used = await call.core.usage.usage(entry.key, name)
    kept = call.core.usage.kept
    uses = await kept.versions(entry.key, name, [each.version for each in page])
    for each in page:
        each.downloads, each.last_used_at = uses.get(each.version, (0, 0.0))
    return PackagePage(
        repository_key=entry.key,
        name=name,
        format=entry.format,
        files=row.files,
        size_bytes=row.size,
        updated_at=row.updated,
        description=told["description"] if told else "",
        license=told["license"] if told else "",
        keywords=told["keywords"].split() if told else [],
        latest_version=told["version"] if told else "",
        versions=list(page),
        next=more,
        tags=await catalog.read(partial(_tags, repository=entry.key, package=name)),
        marks=await catalog.read(partial(_marks, repository=entry.key, package=name)),
        downloads=used.downloads,
        last_used_at=used.last,
    )


def _pointer(found: Pointer) -> PointerView:
    text = found.value[: 4 * TEXT_MAX].decode("utf-8", "replace")[:TEXT_MAX]
    return PointerView(found.name, text, found.updated, bool(found.siblings))


def _tags(connection: sa.Connection, repository: str, package: str) -> list[PointerView]:
    """A unit: pointers of a package, as many as a page shows."""
    asked = {"repository": repository, "package": package, "limit": MARKS_MAX}
    rows = connection.execute(POINTERS, asked)
    return [_pointer(catalog_rows.pointer(row)) for row in rows]


def _marks(
    connection: sa.Connection, repository: str, package: str, version: str | None = None
) -> list[MarkView]:
    """A unit: marks of a package, or of one version, as many as a page shows."""
    asked = {"repository": repository, "package": package, "limit": MARKS_MAX}
    query = FLAGS if version is None else FLAGS.where(flags.c.version == version)
    return [_mark(catalog_rows.flag(row)) for row in connection.execute(query, asked)]


def _mark(found: FlagRow) -> MarkView:
    text = found.value[: 4 * TEXT_MAX].decode("utf-8", "replace")[:TEXT_MAX]
    return MarkView(found.name, found.version, found.path, text)


def _versions(
    connection: sa.Connection, repository: str, package: str, after: str, limit: int
) -> list[VersionSummary]:
    """A unit: versions of a package with what they hold, by their index."""
    c = files.c
    query = sa.select(c.version, sa.func.count(), sa.func.sum(c.size), sa.func.max(c.hlc))
    query = query.where(c.repository == repository, c.package == package)
    if after:
        query = query.where(c.version > after)
    query = query.group_by(c.version).order_by(c.version).limit(limit)
    return [
        VersionSummary(version, count, int(size), hlc.seconds(newest))
        for version, count, size, newest in connection.execute(query)
    ]


@table.route(
    "GET",
    "/repositories/{key}/version",
    Access.READ,
    answer=VersionPage,
    parameters=("package", "version"),
)
async def show_version(call: Call) -> VersionPage:
    """Show one version of a package: its files, tags and marks."""
    entry, core = call.repository, call.core
    package, version = call.query.get("package", ""), call.query.get("version", "")
    if not package:
        raise RejectedError("package is missing")
    if not storable(package, version):
        raise PackageUnknownError(f"{entry.key} has no such package")
    unit = partial(_files, repository=entry.key, package=package, version=version)
    found = await core.catalog.read(unit)
    if not found:
        raise PackageUnknownError(f"{entry.key} has no {package[:200]!r} {version[:100]!r}")
    told = await core.search.source.make(DocumentKey(entry.key, package, version))
    unit_of_marks = partial(_marks, repository=entry.key, package=package, version=version)
    used = await core.usage.usage(entry.key, package, version)
    return VersionPage(
        repository_key=entry.key,
        package=package,
        version=version,
        format=entry.format,
        description=told.description if told else "",
        license=told.license if told else "",
        keywords=told.keywords.split() if told else [],
        tags=told.tags.split() if told else [],
        size_bytes=sum(each.size for each in found[:FILES_MAX]),
        files=await views(call, found[:FILES_MAX]),
        more_files=len(found) > FILES_MAX,
        marks=await core.catalog.read(unit_of_marks),
        downloads=used.downloads,
        last_used_at=used.last,
    )


def _files(
    connection: sa.Connection, repository: str, package: str, version: str
) -> list[Artifact]:
    """A unit: the files of a version, as far as a page shows them."""
    c = files.c
    query = sa.select(files).where(
        c.repository == repository, c.package == package, c.version == version
    )
    rows = connection.execute(query.limit(FILES_MAX + 1))
    return sorted((catalog_rows.artifact(row) for row in rows), key=lambda each: each.path)
