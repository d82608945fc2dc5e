"""PyPI upstreams: pages parsed and written anew, files held against the digests that pages tell.

Spec: Simple repository API 1.4.  The upstream is an index such as ``…/simple/`` or ``…/+simple/``;
of any other URL it is the ``simple/`` below.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from formats.contract import BINARY, Request, Response
from formats.digests import digest_headers
from formats.pypi import simple
from formats.pypi.names import known_form, parse_filename
from formats.pypi.pages import TYPES, choose
from formats.pypi.projects import DISTRIBUTION, METADATA, SIGNATURE, Stored
from formats.pypi.upstream_page import (
    File,
    names_of,
    page_html,
    page_json,
    read_index,
    read_page,
)
from formats.remote import Aim, Freshness, Kept, Promise, Remote
from store.errors import NameInvalidError

ACCEPT = f"{simple.JSON}, {simple.HTML};q=0.2, text/html;q=0.1"
TREE = ".simple"  # the folder of pages; no project's name begins like this
SUFFIXES = {".metadata": METADATA, ".asc": SIGNATURE}


def base(upstream_url: str) -> str:
    """The index itself, however the upstream was named."""
    url = upstream_url.rstrip("/")
    last = urlsplit(url).path.rpartition("/")[2]
    return f"{url}/" if last in {"simple", "+simple"} else f"{url}/simple/"


def aim(request: Request, base: str, options: Mapping[str, object]) -> Aim | None:
    """The index, a project's page or a file; None for what is answered without upstream."""
    params = request.params
    if not request.path.startswith("/simple"):
        return None
    if "project" not in params:
        return Aim(f"{TREE}/", "", TREE, role="index", accept=ACCEPT, document=True)
    name = known_form(params["project"])
    page = Aim(f"{TREE}/{name}", f"{name}/", name, role="index", accept=ACCEPT, document=True)
    if "file" in params:
        filename = params["file"]
        role = next((r for s, r in SUFFIXES.items() if filename.endswith(s)), DISTRIBUTION)
        return Aim(f"{name}/{filename}", "", name, role=role, index=page)
    if name != params["project"] or not request.path.endswith("/"):
        return None  # our own redirect
    return page


def classify(path: str) -> Freshness:
    """Files stay, whatever they are called; pages do not."""
    return Freshness.INDEX if path.startswith(f"{TREE}/") else Freshness.IMMUTABLE


def check(aim: Aim, kept: Kept) -> None:
    """Refuse what is no page.  Raises ManifestInvalidError."""
    if aim.path == f"{TREE}/":
        read_index(kept.data, kept.origin.media_type)
    else:
        read_page(kept.data, kept.origin.media_type)


def find(aim: Aim, kept: Kept, path: str) -> Promise | None:
    """What a page promises of a file, its metadata or its signature."""
    wanted = path.rpartition("/")[2]
    for file in read_page(kept.data, kept.origin.media_type).files:
        if wanted == file.filename:
            return Promise(file.url, _known(file.hashes), file.size, _version(file), _stored(file))
        if wanted == f"{file.filename}.metadata" and file.metadata is not None:
            return Promise(f"{file.url}.metadata", _known(file.metadata), version=_version(file))
        if wanted == f"{file.filename}.asc" and file.gpg_sig is not False:
            return Promise(f"{file.url}.asc", version=_version(file))
    return None


def _known(hashes: Mapping[str, str]) -> dict[str, str]:
    """The digests that are checked: the strong ones, if there are any."""
    lower = {name.lower(): value.lower() for name, value in hashes.items()}
    strong = {name: value for name, value in lower.items() if name in {"sha256", "sha512"}}
    return strong or {name: value for name, value in lower.items() if name in {"sha1", "md5"}}


def _version(file: File) -> str:
    try:
        return str(parse_filename(file.filename).version)
    except NameInvalidError:
        return ""  # an old kind of distribution; it is a file all the same


def _stored(file: File) -> bytes:
    """A file's metadata as an upload would have left it."""
    try:
        found = parse_filename(file.filename)
    except NameInvalidError:
        return b""
    return msgspec.json.encode(Stored(found.filetype, found.python, file.requires_python or ""))


def respond(request: Request, aim: Aim, kept: Kept) -> Response:
    """A page in the form the client reads best, or a file's headers."""
    if aim.index is not None:
        headers = digest_headers(kept.artifact) if kept.artifact else ()
        return Response(media_type=TYPES.get(aim.role, BINARY), headers=headers)
    media_type = choose(request)
    told = kept.origin.media_type
    if aim.path == f"{TREE}/":
        names = names_of(read_index(kept.data, told))
        data = simple.index_json(names) if media_type == simple.JSON else simple.index_html(names)
    else:
        page = read_page(kept.data, told)
        for each in page.files:
            each.provenance = None  # a URL of upstream's own
        render = page_json if media_type == simple.JSON else page_html
        data = render(aim.package, page)
    charset = "" if media_type == simple.JSON else "; charset=utf-8"
    return Response(
        content=data, media_type=f"{media_type}{charset}", headers=(("vary", "Accept"),)
    )


REMOTE = Remote(aim, classify, respond, find=find, check=check, base=base)
