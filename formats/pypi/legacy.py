"""The legacy JSON API: ``/pypi/{project}/json`` and ``/pypi/{project}/{version}/json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from packaging.version import Version

from formats.contract import Repository, Request, Response
from formats.pypi.names import known_form, parse_version
from formats.pypi.projects import Project, ProjectFile, load_project
from formats.pypi.simple import iso_time
from store.errors import NameInvalidError, NotFoundError

if TYPE_CHECKING:
    from packaging.metadata import RawMetadata

TEXTS = (
    "author",
    "author_email",
    "description",
    "description_content_type",
    "home_page",
    "license",
    "license_expression",
    "maintainer",
    "maintainer_email",
    "summary",
)
LISTS = ("classifiers", "dynamic", "license_files", "provides_extra", "requires_dist")


async def project_document(request: Request, repository: Repository) -> Response:
    """Describe the newest release and list all of them."""
    return await _answer(request, repository, "")


async def version_document(request: Request, repository: Repository) -> Response:
    """Describe one release."""
    return await _answer(request, repository, request.params["version"])


async def _answer(request: Request, repository: Repository, version: str) -> Response:
    name = known_form(request.params["project"])

    async def render() -> bytes:
        project = await load_project(repository, name)
        release = _release(project, version)
        return to_json(project, release, await _metadata(repository, release), request.base_url)

    rendered = await repository.cached(f"json:{request.base_url}:{name}:{version}", render)
    return Response(
        content=rendered.data,
        media_type="application/json",
        etag=rendered.etag,
        modified=rendered.modified,
    )


def _release(project: Project, version: str) -> list[ProjectFile]:
    """The files of a version, or of the newest one.  Raises NotFoundError."""
    try:
        wanted = parse_version(version) if version else newest(project)
    except NameInvalidError as error:
        raise NotFoundError(str(error)) from error
    files = [each for each in project.listed if each.version == wanted]
    if not files:
        raise NotFoundError(f"{project.name} has no version {version}")
    return files


def newest(project: Project) -> Version | None:
    """The highest version: a final release before pre-releases, yanked ones last."""
    standing: dict[Version, bool] = {}
    for each in project.listed:
        standing[each.version] = standing.get(each.version, False) or each.yanked is None
    return max(standing, key=lambda v: (standing[v], not v.is_prerelease, v), default=None)


async def _metadata(repository: Repository, release: Sequence[ProjectFile]) -> RawMetadata:
    """The core metadata of a release: a wheel's, if there is one."""
    best = min(release, key=lambda each: each.stored.filetype)
    if best.core_metadata is None:
        return {}
    from packaging.metadata import parse_email  # a twentieth of a node's start

    return parse_email(await repository.load(best.core_metadata.digest))[0]


def to_json(
    project: Project, release: Sequence[ProjectFile], raw: RawMetadata, base_url: str
) -> bytes:
    """Render the document.  Pure."""
    releases: dict[str, list[object]] = {}
    for each in project.listed:
        releases.setdefault(str(each.version), []).append(_file_json(each, base_url))
    yanked = [each.yanked for each in release]
    info = describe(project.name, str(release[0].version), yanked, raw, base_url)
    serial = int(max(each.artifact.published for each in project.files))
    return render(info, releases, [_file_json(each, base_url) for each in release], serial)


def render(
    info: Mapping[str, object],
    releases: Mapping[str, Sequence[object]],
    urls: Sequence[object],
    serial: int,
) -> bytes:
    """Put the document together."""
    document = {
        "info": info,
        "last_serial": serial,
        "releases": releases,
        "urls": urls,
        "vulnerabilities": [],
    }
    return msgspec.json.encode(document)


def describe(
    name: str, version: str, yanks: Sequence[str | None], raw: RawMetadata, base_url: str
) -> dict[str, object]:
    """What a release says of itself.  ``yanks`` has its files' reasons, None for no yank."""
    reasons = [each for each in yanks if each is not None]
    yanked = len(reasons) == len(yanks)
    page = f"{base_url}/simple/{name}/"
    found: dict[str, object] = {key: raw.get(key) or "" for key in TEXTS}
    found |= {key: raw.get(key) or None for key in LISTS}
    return found | {
        "classifiers": raw.get("classifiers") or [],
        "keywords": ",".join(raw.get("keywords") or []),
        "name": raw.get("name") or name,
        "package_url": page,
        "platform": ",".join(raw.get("platforms") or []),
        "project_url": page,
        "project_urls": raw.get("project_urls") or None,
        "release_url": f"{base_url}/pypi/{name}/{version}/json",
        "requires_python": raw.get("requires_python") or "",
        "version": version,
        "yanked": yanked,
        "yanked_reason": (reasons[0] or None) if yanked else None,
    }


def _file_json(file: ProjectFile, base_url: str) -> dict[str, object]:
    artifact, stored = file.artifact, file.stored
    digests = dict(sorted(artifact.checksums.items()))
    return {
        "comment_text": "",
        "digests": digests,
        "downloads": -1,
        "filename": artifact.filename,
        "has_sig": file.signature is not None,
        "md5_digest": artifact.checksums.get("md5", ""),
        "packagetype": stored.filetype,
        "python_version": stored.python,
        "requires_python": stored.requires_python or None,
        "size": artifact.size,
        "upload_time": iso_time(artifact.published)[:19],
        "upload_time_iso_8601": iso_time(artifact.published),
        "url": f"{base_url}/simple/{quote(artifact.path)}",
        "yanked": file.yanked is not None,
        "yanked_reason": file.yanked or None,
    }
