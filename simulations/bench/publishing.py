"""Put the same payloads into every registry, the way its own clients do."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urljoin

from simulations.bench import payloads
from simulations.bench.client import AnswerError, Client, call, form
from simulations.bench.payloads import PROJECT, Wheel
from simulations.bench.servers import PASSWORD, Server

JSON = {"Content-Type": "application/json"}
BINARY = {"Content-Type": "application/octet-stream"}
DEVPI = "root/dev"  # user and index


def basic(user: str) -> dict[str, str]:
    """The credentials of a benchmark's administrator."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()}


ADMIN = basic("admin")


# --- Python -------------------------------------------------------------------------------------
def devpi_index(server: Server) -> None:
    """Make the index that wheels go to, unless it is there."""
    with suppress(AnswerError):
        call("GET", f"{server.url}/{DEVPI}")
        return
    login = json.dumps({"user": "root", "password": PASSWORD}).encode()
    answer, _ = call("POST", f"{server.url}/+login", login, JSON)
    token = json.loads(answer)["result"]["password"]
    auth = base64.b64encode(f"root:{token}".encode()).decode()
    index = json.dumps({"type": "stage", "bases": [], "volatile": True}).encode()
    call("PUT", f"{server.url}/{DEVPI}", index, {**JSON, "X-Devpi-Auth": auth})


def upload_wheel(
    server: Server, version: str, filename: str, content: Path | bytes, name: str = PROJECT
) -> None:
    """Upload one wheel as twine does; a path is streamed."""
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": name,
        "version": version,
        "summary": "A benchmark",
        "filetype": "bdist_wheel",
        "pyversion": "py3",
    }
    if isinstance(content, bytes):
        fields["sha256_digest"] = hashlib.sha256(content).hexdigest()
    body, headers = form(fields, filename, content)
    if server.name == "devpi":
        call("POST", f"{server.url}/{DEVPI}/", body, {**headers, **basic("root")})
    else:
        call("POST", f"{server.url}/pypi/pypi/", body, {**headers, **ADMIN})


def wheels(server: Server, found: list[Wheel]) -> None:
    """Publish wheels."""
    if server.name == "devpi":
        devpi_index(server)
    for each in found:
        if server.name == "pypiserver":
            (server.data / each.filename).write_bytes(each.data)
        else:
            upload_wheel(server, each.version, each.filename, each.data, each.project)


def simple_page(server: Server) -> str:
    """Where the project's page is."""
    places = {"devpi": f"/{DEVPI}/+simple", "pypiserver": "/simple", "atoll": "/pypi/pypi/simple"}
    return f"{server.url}{places[server.name]}/{PROJECT}/"


def wheel_link(server: Server, filename: str) -> str:
    """Where a file is, as the project's page says."""
    page, _ = call("GET", simple_page(server))
    found = re.search(rf'href="([^"#]*{re.escape(filename)})', page.decode())
    if found is None:
        raise LookupError(f"{server.name} does not list {filename}")
    return str(urljoin(simple_page(server), found[1]))


# --- npm ----------------------------------------------------------------------------------------
def npm_base(server: Server) -> str:
    """The registry's URL, as npm's settings have it."""
    return server.url + ("/npm/npm" if server.name == "atoll" else "")


def npm(server: Server, name: str, versions: list[str], size: int = 0) -> None:
    """Publish versions of a package, one after the other."""
    base = npm_base(server)
    headers = {**JSON, **(ADMIN if server.name == "atoll" else {})}
    for version in versions:
        data = payloads.tarball(name, version, size)
        call("PUT", f"{base}/{name}", payloads.npm_document(base, name, version, data), headers)


# --- OCI ----------------------------------------------------------------------------------------
def oci_image(server: Server) -> str:
    """The name that images are pushed to."""
    return f"{server.url}/v2/{'docker/' if server.name == 'atoll' else ''}bench"


def oci_blob(server: Server, content: Path | bytes, digest: str) -> None:
    """Upload a blob in one piece, as container clients do."""
    headers = ADMIN if server.name == "atoll" else {}
    _, told = call("POST", f"{oci_image(server)}/blobs/uploads/", b"", headers)
    place = urljoin(server.url, told["location"])
    place += f"{'&' if '?' in place else '?'}digest={digest}"
    call("PUT", place, content, {**headers, **BINARY})


def oci_stream(server: Server, source: Iterable[bytes], size: int, digest: str, cut: int) -> str:
    """Upload a blob over one connection, in one PUT or, cut, by PATCH; return its URL.

    ``cut`` is the size of the pieces of a chunked upload, 0 for none.
    """
    base = ADMIN if server.name == "atoll" else {}
    with Client(server.url) as client:
        _, told = client.call("POST", f"{oci_image(server)}/blobs/uploads/", b"", base)
        place, length = urljoin(server.url, told["location"]), {"Content-Length": str(size)}
        headers = {**base, **BINARY}
        if cut:
            sent = 0
            for piece in pieces(source, cut):
                span = {"Content-Range": f"{sent}-{sent + len(piece) - 1}"}
                _, told = client.call("PATCH", place, piece, {**headers, **span})
                place, sent = urljoin(server.url, told["location"]), sent + len(piece)
            source, length = (), {"Content-Length": "0"}
        place += f"{'&' if '?' in place else '?'}digest={digest}"
        client.call("PUT", place, source, {**headers, **length})
    return f"{oci_image(server)}/blobs/{digest}"


def pieces(source: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of one size, the last excepted."""
    held = bytearray()
    for data in source:
        held += data
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def oci_manifest(server: Server) -> str:
    """Push a small image; return the URL of its manifest by digest."""
    for data in (payloads.CONFIG, payloads.LAYER):
        oci_blob(server, data, payloads.digest_of(data))
    manifest = payloads.image_manifest()
    oci_tag(server, "latest", manifest)
    return f"{oci_image(server)}/manifests/{payloads.digest_of(manifest)}"


def oci_tag(server: Server, tag: str, manifest: bytes) -> None:
    """Push a manifest under a tag."""
    headers = {"Content-Type": payloads.MANIFEST_TYPE, **(ADMIN if server.name == "atoll" else {})}
    call("PUT", f"{oci_image(server)}/manifests/{tag}", manifest, headers)


# --- files --------------------------------------------------------------------------------------
def file(server: Server, name: str, content: Path) -> str:
    """Publish a plain file; return its URL.  nginx gets a hard link: it is the floor."""
    if server.name == "nginx":
        target = server.data / name
        target.unlink(missing_ok=True)
        target.hardlink_to(content)
        content.chmod(0o644)
        return f"{server.url}/{name}"
    url = f"{server.url}/general/generic/{name}"
    call("PUT", url, content, {**ADMIN, **BINARY})
    return url
