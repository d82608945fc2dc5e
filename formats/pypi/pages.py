"""Reading: index pages, files, provenance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from formats.contract import BINARY, Repository, Request, Response, blob_response, redirect
from formats.digests import digest_headers
from formats.pypi import simple
from formats.pypi.names import known_form
from formats.pypi.projects import PROVENANCE, load_project, project_status
from store.errors import DeniedError, NotAcceptableError, NotFoundError

PAGE = 2000  # project names asked for at once: rendering them takes a millisecond
PROVENANCE_TYPE = "application/vnd.pypi.integrity.v1+json"
TYPES = {"metadata": "text/plain; charset=utf-8", "signature": "application/pgp-signature"}


def choose(request: Request) -> str:
    """The media type to answer in.  Raises NotAcceptableError."""
    wanted = request.argument("format").replace(" ", "+")  # an unescaped plus reads as a space
    chosen = simple.choose(request.headers.get("accept", ""), wanted)
    if chosen is None:
        raise NotAcceptableError(f"offered are {simple.JSON}, {simple.HTML}, {simple.TEXT_HTML}")
    return chosen


async def index(request: Request, repository: Repository) -> Response:
    """List all projects: a page of them in memory, however many there are."""
    media_type = choose(request)
    form = simple.JSON if media_type == simple.JSON else simple.HTML  # text/html is the same
    found = await repository.listed(
        f"index:{form}", lambda: simple.index_parts(Names(repository), form)
    )
    return Response(
        content=found,
        media_type=_told(media_type),
        headers=(("vary", "Accept"),),
        etag=found.etag,
        modified=found.modified,
    )


class Names(AsyncIterator[Sequence[str]]):
    """The names of all projects in byte order, page by page."""

    def __init__(self, repository: Repository) -> None:
        self._repository, self._after = repository, ""

    async def __anext__(self) -> Sequence[str]:
        page = await self._repository.packages(after=self._after, limit=PAGE)
        if not page:
            raise StopAsyncIteration
        self._after = page[-1]
        return page


async def project_page(request: Request, repository: Repository) -> Response:
    """List one project's files.  Raises PackageUnknownError."""
    name = known_form(request.params["project"])
    if name != request.params["project"] or not request.path.endswith("/"):
        # PEP 503: one project, one URL, with a slash, since the links on it are relative
        up = "../" if request.path.endswith("/") else ""
        return redirect(f"{up}{name}/")
    media_type = choose(request)

    async def render() -> bytes:
        project = await load_project(repository, name)
        page = simple.project_json if media_type == simple.JSON else simple.project_html
        return page(project, request.base_url)

    # Links are relative, but for those to attestations, which only https pages have.
    base = request.base_url if request.base_url.startswith("https://") else ""
    key = f"project:{media_type}:{base}:{name}"
    return await _rendered(repository, key, media_type, render)


async def _rendered(
    repository: Repository, key: str, media_type: str, render: Callable[[], Awaitable[bytes]]
) -> Response:
    found = await repository.cached(key, render)
    return Response(
        content=found.data,
        media_type=_told(media_type),
        headers=(("vary", "Accept"),),
        etag=found.etag,
        modified=found.modified,
    )


def _told(media_type: str) -> str:
    return media_type if media_type == simple.JSON else f"{media_type}; charset=utf-8"


async def download(request: Request, repository: Repository) -> Response:
    """Name a distribution, its metadata or its signature; the node streams it.

    Raises DeniedError when the project is in quarantine.
    """
    name = known_form(request.params["project"])
    artifact = await repository.artifact(f"{name}/{request.params['file']}")
    if project_status(await repository.flags(name)).status == "quarantined":
        raise DeniedError(f"project {name} is in quarantine")
    media_type = TYPES.get(artifact.role, BINARY)
    return blob_response(artifact, media_type, headers=digest_headers(artifact))


async def provenance(request: Request, repository: Repository) -> Response:
    """A file's attestations (PEP 740)."""
    name = known_form(request.params["project"])
    artifact = await repository.artifact(f"{name}/{request.params['file']}.provenance")
    if artifact.role != PROVENANCE or artifact.version != request.params["version"]:
        raise NotFoundError("no such file in this version")
    return blob_response(artifact, PROVENANCE_TYPE)
