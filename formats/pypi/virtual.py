"""Projects of several members as one: a file is listed, and comes, from the first that lists it.

Spec: Simple repository API 1.4; formats.md §3.3 (virtual).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import Version

from formats.contract import Request, Response
from formats.pypi import legacy, simple
from formats.pypi.names import known_form, parse_filename
from formats.pypi.pages import choose
from formats.pypi.upstream_page import File, Page, names_of, page_html, page_json, read_page
from formats.virtual import Ask, Document, Members, Virtual, lister
from store.digest import Digest
from store.errors import NameInvalidError, NotFoundError, PackageUnknownError

SIDE = (".metadata", ".asc")  # suffixes of what lies beside a file, and comes from where it does
READ = re.compile(r"/(?:simple|integrity)(?:/|\Z)")


def normalize(pattern: str) -> str:
    """A name's normal form, whose wildcards stay."""
    return re.sub(r"[-_.]+", "-", pattern).lower()


async def answer(request: Request, members: Members) -> Response | None:
    """A page, a file, or what is told of a project."""
    params = request.params
    if request.path.startswith("/pypi/"):
        return await _legacy(request, members, known_form(params["project"]))
    if not READ.match(request.path):
        return None
    if "project" not in params:
        # Of local members alone the list is made in pages, on the disk, as that of one of them is.
        return await _index(request, members) if members.outside else None
    name = known_form(params["project"])
    if "file" in params:
        documents = await _pages(members, name)
        wanted = params["file"]
        names = [wanted, *(wanted.removesuffix(each) for each in SIDE if wanted.endswith(each))]
        return await members.of(await lister(members, documents, _filenames, names))
    if name != params["project"] or not request.path.endswith("/"):
        return None  # our own redirect
    return await _page(request, members, name)


# --- pages --------------------------------------------------------------------------------------
async def _pages(members: Members, name: str) -> Sequence[Document]:
    """Each member's page of a project.  Raises PackageUnknownError."""
    found = await members.documents(name, Ask(f"/simple/{name}/", simple.JSON))
    if not found:
        raise PackageUnknownError(f"no project {name} here")
    return found


def _read(document: Document) -> Page:
    return read_page(document.data, document.media_type)


def _filenames(document: Document) -> list[str]:
    return [each.filename for each in _read(document).files]


def merge(documents: Sequence[Document]) -> Page:
    """The union of files, each as the first member lists it; the first member's status."""
    pages = [_read(each) for each in documents]
    files: dict[str, File] = {}
    for page in pages:
        for each in page.files:
            files.setdefault(each.filename, each)
    told = all(page.versions for page in pages)
    versions = {v: None for page in pages for v in page.versions} if told else {}
    status = pages[0].project_status if pages else {}
    return Page(list(files.values()), versions=sorted(versions, key=_order), project_status=status)


def _order(version: str) -> tuple[bool, Version, str]:
    known = _version(version)
    return known is not None, known or Version("0"), version


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except ValueError:
        return None


async def _page(request: Request, members: Members, name: str) -> Response:
    media_type, documents = choose(request), await _pages(members, name)

    def build() -> Response:
        render = page_json if media_type == simple.JSON else page_html
        return _rendered(render(name, merge(documents)), media_type)

    return await members.merged(f"page {media_type} {name}", documents, build)


def _rendered(data: bytes, media_type: str) -> Response:
    charset = "" if media_type == simple.JSON else "; charset=utf-8"
    told = f"{media_type}{charset}"
    return Response(content=data, media_type=told, headers=(("vary", "Accept"),))


async def _index(request: Request, members: Members) -> Response:
    """The names of all, but for those that a member is not asked for."""
    media_type = choose(request)
    documents = await members.documents("", Ask("/simple/", simple.JSON))
    withheld = {e.member: await members.withheld(e.member) for e in documents if e.remote}
    kept = " ".join(each.mark for each in withheld.values())

    out: dict[int, Collection[str]] = {}

    async def gather() -> None:
        for member, each in withheld.items():
            out[member] = await each.names()

    def build() -> Response:
        names = names_of(
            name
            for each in documents
            for name in _names(each)
            if name not in out.get(each.member, ())
        )
        render = simple.index_json if media_type == simple.JSON else simple.index_html
        return _rendered(render(names), media_type)

    return await members.merged(f"index {media_type} {kept}", documents, build, gather)


class _Name(msgspec.Struct):
    name: str


class _Names(msgspec.Struct):
    projects: list[_Name]


def _names(document: Document) -> list[str]:
    listed = msgspec.json.decode(document.data, type=_Names).projects
    names = (canonicalize_name(each.name) for each in listed)
    return [name for name in names if document.admits(name)]


# --- the legacy JSON API ------------------------------------------------------------------------
async def _legacy(request: Request, members: Members, name: str) -> Response:
    """The legacy document, made of the merged page, so that both say the same of each file."""
    documents = await _pages(members, name)
    files = merge(documents).files
    wanted = request.params.get("version", "")
    version = _chosen(files, wanted)
    release = [each for each in files if version is not None and _version_of(each) == version]
    if not release:
        raise NotFoundError(f"{name} has no version {wanted[:200]}")
    raw = await _core_metadata(members, documents, name, release)

    def build() -> Response:
        from packaging.metadata import parse_email  # a twentieth of a node's start

        rows = _rows(name, files, request.base_url)
        yanks = [_reason(each) for each in release]
        about = parse_email(raw)[0]
        info = legacy.describe(name, str(version), yanks, about, request.base_url)
        data = legacy.render(info, rows, rows[str(version)], 0)
        return Response(content=data, media_type="application/json")

    return await members.merged(f"legacy {name} {version} {Digest.of(raw)}", documents, build)


def _reason(file: File) -> str | None:
    return file.yanked if isinstance(file.yanked, str) else ("" if file.yanked else None)


def _version_of(file: File) -> Version | None:
    try:
        return parse_filename(file.filename).version
    except NameInvalidError:
        return None


def _chosen(files: Sequence[File], wanted: str) -> Version | None:
    """The version asked for, or the newest: final ones before others, yanked ones last."""
    if wanted:
        return _version(wanted)
    standing: dict[Version, bool] = {}
    for each in files:
        version = _version_of(each)
        if version is not None:
            standing[version] = standing.get(version, False) or each.yanked is False
    return max(standing, key=lambda v: (standing[v], not v.is_prerelease, v), default=None)


async def _core_metadata(
    members: Members, documents: Sequence[Document], name: str, release: Sequence[File]
) -> bytes:
    """The core metadata of a release, from the member that gives the file; b"" if there is none."""
    for each in sorted(release, key=lambda each: not each.filename.endswith(".whl")):
        if each.metadata is not None:
            member = await lister(members, documents, _filenames, [each.filename])
            path = f"/simple/{name}/{quote(each.filename)}.metadata"
            with suppress(NotFoundError):
                return await members.load(await members.of(member, Ask(path)))
    return b""


def _rows(name: str, files: Sequence[File], base_url: str) -> Mapping[str, list[object]]:
    """Files by version, as the legacy API tells of them."""
    releases: dict[str, list[object]] = {}
    for each in files:
        try:
            parsed = parse_filename(each.filename)
        except NameInvalidError:
            continue
        row = {
            "comment_text": "",
            "digests": each.hashes,
            "downloads": -1,
            "filename": each.filename,
            "has_sig": bool(each.gpg_sig),
            "md5_digest": each.hashes.get("md5", ""),
            "packagetype": parsed.filetype,
            "python_version": parsed.python,
            "requires_python": each.requires_python,
            "size": each.size or 0,
            "upload_time": (each.upload_time or "")[:19],
            "upload_time_iso_8601": each.upload_time or "",
            "url": f"{base_url}/simple/{name}/{quote(each.filename)}",
            "yanked": each.yanked is not False,
            "yanked_reason": _reason(each) or None,
        }
        releases.setdefault(str(parsed.version), []).append(row)
    return releases


VIRTUAL = Virtual(answer, normalize)
