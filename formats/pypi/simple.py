"""The simple index, as JSON and HTML.  Pure: equal projects give equal bytes, in both forms.

Spec: Simple repository API 1.4 (PEP 503, 629, 658, 691, 700, 708, 714, 740, 792).
"""

from __future__ import annotations

import html
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from formats.pypi.projects import Project, ProjectFile

API_VERSION = "1.4"
JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
TEXT_HTML = "text/html"
ALIASES = {
    "application/vnd.pypi.simple.latest+json": JSON,
    "application/vnd.pypi.simple.latest+html": HTML,
}


def iso_time(seconds: float) -> str:
    """Ledger time as RFC 3339 with microseconds, in UTC (PEP 700)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def provenance_url(file: ProjectFile, base_url: str) -> str | None:
    """Where a file's attestations are; only https URLs may be told (PEP 740)."""
    if file.provenance is None or not base_url.startswith("https://"):
        return None
    place = f"{file.artifact.package}/{file.artifact.version}/{file.artifact.filename}"
    return f"{base_url}/integrity/{quote(place)}/provenance"


def core_metadata(file: ProjectFile) -> Mapping[str, str] | None:
    """The digest of the metadata file: wheels only, an sdist's may change when it is built."""
    if file.core_metadata is None or file.stored.filetype != "bdist_wheel":
        return None
    return {"sha256": file.core_metadata.digest.hex}


INDEX_JSON = (b'{"meta":{"api-version":"%s"},"projects":[' % API_VERSION.encode(), b"]}")


# --- JSON ---------------------------------------------------------------------------------------
def index_json(names: Iterable[str]) -> bytes:
    """All projects."""
    return b"".join([INDEX_JSON[0], rows_json(names), INDEX_JSON[1]])


def rows_json(names: Iterable[str]) -> bytes:
    """Some projects, as the list of all has them."""
    return msgspec.json.encode([{"name": name} for name in names])[1:-1]


def project_json(project: Project, base_url: str) -> bytes:
    """One project's files."""
    meta: dict[str, object] = {"api-version": API_VERSION}
    if project.tracks:
        meta["tracks"] = project.tracks
    status = {"status": project.status.status}
    if project.status.reason:
        status["reason"] = project.status.reason
    document: dict[str, object] = {
        "meta": meta,
        "name": project.name,
        "project-status": status,
        "versions": [str(each) for each in project.versions],
        "files": [_file_json(each, base_url) for each in project.listed],
    }
    if project.alternate_locations:
        document["alternate-locations"] = project.alternate_locations
    return msgspec.json.encode(document)


def _file_json(file: ProjectFile, base_url: str) -> dict[str, object]:
    artifact = file.artifact
    row: dict[str, object] = {
        "filename": artifact.filename,
        "url": quote(artifact.filename),
        "hashes": {"sha256": artifact.digest.hex},
        "size": artifact.size,
        "upload-time": iso_time(artifact.published),
        "yanked": file.yanked or file.yanked is not None,
        "gpg-sig": file.signature is not None,
    }
    if file.stored.requires_python:
        row["requires-python"] = file.stored.requires_python
    metadata = core_metadata(file)
    if metadata is not None:
        row["core-metadata"] = metadata  # only: pip before 23.1 dies of the old name (PEP 714)
    provenance = provenance_url(file, base_url)
    if provenance is not None:
        row["provenance"] = provenance
    return row


# --- HTML ---------------------------------------------------------------------------------------
def index_html(names: Iterable[str]) -> bytes:
    """All projects."""
    return _page("Simple index", [("repository-version", API_VERSION)], [rows_html(names).decode()])


def rows_html(names: Iterable[str]) -> bytes:
    """Some projects, as the page of all has them."""
    rows = (f'<a href="{quote(name)}/">{html.escape(name)}</a><br>\n' for name in names)
    return "".join(rows).encode()


async def index_parts(
    pages: AsyncIterator[Sequence[str]], media_type: str
) -> AsyncGenerator[bytes]:
    """All projects as ``index_json`` or ``index_html`` would render them, a page at a time."""
    if media_type == JSON:
        (start, end), rows, between = INDEX_JSON, rows_json, b","
    else:
        whole, body = index_html([]), b"</h1>\n"
        at = whole.index(body) + len(body)
        (start, end), rows, between = (whole[:at], whole[at:]), rows_html, b""
    yield start
    separator = b""
    async for names in pages:
        yield separator + rows(names)
        separator = between
    yield end


def project_html(project: Project, base_url: str) -> bytes:
    """One project's files."""
    meta = [("repository-version", API_VERSION), ("project-status", project.status.status)]
    if project.status.reason:
        meta.append(("project-status-reason", project.status.reason))
    meta += [("tracks", url) for url in project.tracks]
    meta += [("alternate-locations", url) for url in project.alternate_locations]
    anchors = [_anchor(each, base_url) for each in project.listed]
    return _page(f"Links for {project.name}", meta, anchors)


def _anchor(file: ProjectFile, base_url: str) -> str:
    artifact = file.artifact
    attributes = {"href": f"{quote(artifact.filename)}#sha256={artifact.digest.hex}"}
    if file.stored.requires_python:
        attributes["data-requires-python"] = file.stored.requires_python
    metadata = core_metadata(file)
    if metadata is not None:
        told = f"sha256={metadata['sha256']}"
        attributes |= {"data-dist-info-metadata": told, "data-core-metadata": told}
    if file.yanked is not None:
        attributes["data-yanked"] = file.yanked
    attributes["data-gpg-sig"] = "true" if file.signature is not None else "false"
    provenance = provenance_url(file, base_url)
    if provenance is not None:
        attributes["data-provenance"] = provenance
    text = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<a {text}>{html.escape(artifact.filename)}</a><br>\n"


def _page(title: str, meta: Sequence[tuple[str, str]], body: Iterable[str]) -> bytes:
    tags = "".join(f'<meta name="pypi:{name}" content="{html.escape(v)}">\n' for name, v in meta)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{tags}'
        f"<title>{html.escape(title)}</title>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        f"{''.join(body)}</body>\n</html>\n"
    ).encode()


# --- choosing -----------------------------------------------------------------------------------
def choose(accept: str, wanted: str = "") -> str | None:
    """Pick the media type for an Accept header (PEP 691), or None if nothing fits.

    ``wanted`` is the ``format`` query parameter, which overrides the header.  Wildcards, and no
    header at all, mean HTML: that is what clients older than PEP 691 read.
    """
    weights = {wanted: 1.0} if wanted else _weights(accept or "*/*")
    best, chosen = 0.0, None
    for offered in (JSON, HTML, TEXT_HTML):
        names = [name for name, target in ALIASES.items() if target == offered] + [offered]
        if offered == TEXT_HTML:
            names += ["text/*", "*/*"]
        weight = max((weights[name] for name in names if name in weights), default=0.0)
        if weight > best:
            best, chosen = weight, offered
    return chosen


def _weights(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in accept.split(",")[:64]:
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                weight = _quality(value.strip())
        found[name.lower()] = weight
    return found


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0
