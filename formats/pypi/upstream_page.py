"""Project pages of upstreams: read from JSON or HTML, rendered in both.  Pure.

One reading serves both forms, so they cannot drift apart.  Nothing of upstream's HTML is passed on:
links are parsed and written anew, and every file is fetched from here.
Spec: Simple repository API 1.4 (PEP 503, 629, 658, 691, 700, 714, 792).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urljoin, urlsplit

import msgspec

from formats.pypi.simple import API_VERSION
from store.errors import ManifestInvalidError

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
FILES_MAX = 100_000
DIGEST = re.compile(r"(md5|sha1|sha256|sha512)=([0-9a-fA-F]{32,128})")
SAFE = re.compile(r"[A-Za-z0-9][^/\\\x00-\x20\x7f\"<>]{0,254}\Z")


class File(msgspec.Struct, omit_defaults=True, rename="kebab"):
    """One file of a project, as an index lists it."""

    filename: str
    url: str
    hashes: dict[str, str] = {}
    requires_python: str | None = None
    core_metadata: bool | dict[str, str] | None = None
    dist_info_metadata: bool | dict[str, str] | None = None
    yanked: bool | str = False
    size: int | None = None
    upload_time: str | None = None
    gpg_sig: bool | None = None
    provenance: str | None = None

    @property
    def metadata(self) -> Mapping[str, str] | None:
        """Digests of its core metadata beside it; {} for one without a digest, None for none."""
        told = self.core_metadata if self.core_metadata is not None else self.dist_info_metadata
        if isinstance(told, dict):
            return told
        return {} if told else None


class Page(msgspec.Struct, rename="kebab"):
    """A project's page."""

    files: list[File]
    name: str = ""
    versions: list[str] = []
    project_status: dict[str, str] = {}


class Name(msgspec.Struct):
    """A project in the list of all."""

    name: str


class Index(msgspec.Struct):
    """The list of all projects."""

    projects: list[Name]


class Anchors(HTMLParser):
    """The links of an HTML page, and the base that they are relative to."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.base = ""
        self.found: list[tuple[dict[str, str | None], str]] = []
        self._open: dict[str, str | None] | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link or the base."""
        if tag == "a" and len(self.found) < FILES_MAX:
            self._open, self._text = dict(attrs), ""
        elif tag == "base" and not self.base:
            self.base = dict(attrs).get("href") or ""

    def handle_data(self, data: str) -> None:
        """Note a link's text."""
        if self._open is not None:
            self._text += data[:300]

    def handle_endtag(self, tag: str) -> None:
        """Close a link."""
        if tag == "a" and self._open is not None:
            self.found.append((self._open, self._text.strip()))
            self._open = None


def is_json(media_type: str, data: bytes) -> bool:
    """Tell the JSON form from the HTML one."""
    return "json" in media_type or data[:1] in {b"{", b"["}


def read_page(data: bytes, media_type: str) -> Page:
    """Read a project's page.  Raises ManifestInvalidError."""
    if is_json(media_type, data):
        try:
            page = msgspec.json.decode(data, type=Page)
        except MALFORMED as error:
            raise ManifestInvalidError(f"not a project's page: {error}"[:300]) from error
        page.files = [each for each in page.files[:FILES_MAX] if SAFE.match(each.filename)]
        return page
    parser = _parse(data)
    files = [_file(attributes, text, parser.base) for attributes, text in parser.found]
    return Page([each for each in files if each is not None])


def read_index(data: bytes, media_type: str) -> list[str]:
    """Read the names of all projects.  Raises ManifestInvalidError."""
    if is_json(media_type, data):
        try:
            return [each.name for each in msgspec.json.decode(data, type=Index).projects]
        except MALFORMED as error:
            raise ManifestInvalidError(f"not a list of projects: {error}"[:300]) from error
    return [text for _, text in _parse(data).found if text]


def _parse(data: bytes) -> Anchors:
    text = data.decode("utf-8", "replace")
    if not re.search(r"<(?:!doctype|html|a|head|body|h1)\b", text[:5000], re.IGNORECASE):
        raise ManifestInvalidError("neither JSON nor HTML")
    parser = Anchors()
    parser.feed(text)
    parser.close()
    return parser


def _file(attributes: Mapping[str, str | None], text: str, base: str) -> File | None:
    href = attributes.get("href") or ""
    try:
        url = urljoin(base, href)
        parts = urlsplit(url)
    except ValueError:
        return None
    name = unquote(parts.path.rpartition("/")[2])
    if not SAFE.match(name):
        return None
    found = DIGEST.search(parts.fragment)
    told = attributes.get("data-core-metadata") or attributes.get("data-dist-info-metadata")
    listed = "data-core-metadata" in attributes or "data-dist-info-metadata" in attributes
    metadata = DIGEST.search(told or "")
    yanked = "data-yanked" in attributes
    return File(
        name,
        url.partition("#")[0],
        {found[1]: found[2].lower()} if found else {},
        attributes.get("data-requires-python"),
        {metadata[1]: metadata[2].lower()} if metadata else (listed and told != "false") or None,
        yanked=attributes.get("data-yanked") or yanked,
        gpg_sig={"true": True, "false": False}.get(attributes.get("data-gpg-sig") or ""),
    )


# --- rendering ----------------------------------------------------------------------------------
def page_json(name: str, page: Page) -> bytes:
    """The page as JSON; URLs are relative, so from here."""
    document: dict[str, object] = {
        "meta": {"api-version": API_VERSION},
        "name": name,
        "files": [_row(each) for each in page.files],
    }
    if page.versions:
        document["versions"] = page.versions
    if page.project_status:
        document["project-status"] = page.project_status
    return msgspec.json.encode(document)


def _row(file: File) -> dict[str, object]:
    row: dict[str, object] = {
        "filename": file.filename,
        "url": quote(file.filename),
        "hashes": file.hashes,
        "yanked": file.yanked,
    }
    if file.metadata is not None:
        row["core-metadata"] = file.metadata or True  # not under the old name (PEP 714)
    told = {
        "requires-python": file.requires_python,
        "size": file.size,
        "upload-time": file.upload_time,
        "gpg-sig": file.gpg_sig,
        "provenance": file.provenance,
    }
    return row | {key: value for key, value in told.items() if value is not None}


def page_html(name: str, page: Page) -> bytes:
    """The page as HTML."""
    anchors = "".join(_anchor(each) for each in page.files)
    title = html.escape(f"Links for {name}")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="pypi:repository-version" content="{API_VERSION}">\n'
        f"<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n{anchors}</body>\n</html>\n"
    ).encode()


def _anchor(file: File) -> str:
    strongest = next((n for n in ("sha256", "sha512", "sha1", "md5") if n in file.hashes), "")
    fragment = f"#{strongest}={file.hashes[strongest]}" if strongest else ""
    attributes = {"href": quote(file.filename) + fragment}
    if file.requires_python:
        attributes["data-requires-python"] = file.requires_python
    if file.metadata is not None:
        value = file.metadata.get("sha256")
        told = f"sha256={value}" if value else "true"
        attributes |= {"data-core-metadata": told, "data-dist-info-metadata": told}
    if file.yanked is not False:
        attributes["data-yanked"] = file.yanked if isinstance(file.yanked, str) else ""
    if file.gpg_sig is not None:
        attributes["data-gpg-sig"] = "true" if file.gpg_sig else "false"
    if file.provenance is not None:
        attributes["data-provenance"] = file.provenance
    text = " ".join(f'{key}="{html.escape(value)}"' for key, value in attributes.items())
    return f"<a {text}>{html.escape(file.filename)}</a><br>\n"


def names_of(names: Iterable[str]) -> list[str]:
    """Names that can be asked for, in byte order, each once."""
    return sorted({each for each in names if SAFE.match(each)}, key=str.encode)
