"""Publishing to one node and installing from another, with the real clients where they are.

Each function returns a sentence that says how it was done.  Without the client the same requests
are made by this process, and the sentence says so.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from cli.demo import samples
from store.errors import DigestMismatchError, RegistryError

TIMEOUT = 600.0
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """A node's URL, a token, and a folder for what clients keep."""

    url: str
    token: str
    folder: Path

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return urlsplit(self.url).netloc

    def run(self, *command: str | Path) -> None:
        """Run a client in a HOME of its own.  Raises RegistryError with its last words."""
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        keep = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "SSL_CERT_FILE"}}
        done = subprocess.run(
            [str(each) for each in command],
            env={**keep, "HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode:
            last = (done.stderr or done.stdout)[-600:]
            raise RegistryError(f"{command[0]} ended with {done.returncode}: {last}")

    def request(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """One request.  Raises RegistryError for anything but success."""
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT)
        basic = base64.b64encode(f"demo:{self.token}".encode()).decode()
        try:
            connection.request(
                method,
                path,
                body,
                {"authorization": f"Basic {basic}", **(headers or {})},
            )
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise RegistryError(f"{method} {path}: {answer.status} {data[:300]!r}")
        return data

    def download(self, path: str) -> str:
        """The SHA-256 of what a path gives, whatever its size."""
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT)
        digest = hashlib.sha256()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            while piece := answer.read(PIECE):
                digest.update(piece)
        finally:
            connection.close()
        if answer.status != 200:
            raise RegistryError(f"GET {path}: {answer.status}")
        return digest.hexdigest()


def publish_wheel(site: Site, wheel: Path) -> str:
    """Upload a wheel."""
    if shutil.which("twine"):
        site.run(
            "twine",
            "upload",
            "--non-interactive",
            "--disable-progress-bar",
            "--repository-url",
            f"{site.url}/pypi/pypi/legacy/",
            "-u",
            "demo",
            "-p",
            site.token,
            wheel,
        )
        return "twine upload"
    boundary = secrets.token_hex(16)
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": "atoll-demo",
        "version": "1.0",
        "filetype": "bdist_wheel",
        "pyversion": "py3",
    }
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
        for k, v in fields.items()
    )
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{wheel.name}"'
    )
    body += f"{head}\r\n\r\n".encode() + wheel.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    site.request("POST", "/pypi/pypi/legacy/", body, kind)
    return "the upload form (twine is not installed)"


def install_wheel(site: Site, wheel: Path) -> str:
    """Install it with pip and compare the installed file with the wheel's."""
    import zipfile

    target = site.folder / "site-packages"
    site.run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--index-url",
        f"{site.url}/pypi/pypi/simple/",
        "--target",
        target,
        "atoll-demo",
    )
    with zipfile.ZipFile(wheel) as archive:
        expected = hashlib.sha256(archive.read("atoll_demo/data.bin")).hexdigest()
    _same(expected, samples.sha256(target / "atoll_demo" / "data.bin"))
    return "pip install"


def publish_npm(site: Site, tarball: Path) -> str:
    """Publish the npm package."""
    if shutil.which("npm"):
        _npmrc(site)
        registry = f"{site.url}/npm/npm/"
        site.run("npm", "publish", "--access", "public", "--registry", registry, tarball)
        return "npm publish"
    kind = {"content-type": "application/json"}
    site.request("PUT", "/npm/npm/atoll-demo", samples.npm_document(tarball), kind)
    return "the publish document (npm is not installed)"


def _npmrc(site: Site) -> None:
    home = site.folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    (home / ".npmrc").write_text(f"//{site.address}/npm/npm/:_authToken={site.token}\n")


def install_npm(site: Site, tarball: Path) -> str:
    """Install it and compare the file inside."""
    with tarfile.open(tarball) as archive:
        member = archive.extractfile("package/data.bin")
        expected = hashlib.sha256(member.read() if member else b"").hexdigest()
    if not shutil.which("npm"):
        _same(samples.sha256(tarball), site.download(f"/npm/npm/atoll-demo/-/{tarball.name}"))
        return "a download (npm is not installed)"
    project = site.folder / "project"
    project.mkdir()
    (project / "package.json").write_text("{}")
    registry = f"{site.url}/npm/npm/"
    site.run("npm", "install", "--prefix", project, "--registry", registry, "atoll-demo@1.0.0")
    _same(expected, samples.sha256(project / "node_modules" / "atoll-demo" / "data.bin"))
    return "npm install"


def publish_image(site: Site, image: samples.Image) -> str:
    """Push the image."""
    target = f"docker://{site.address}/docker/atoll-demo:1"
    if shutil.which("skopeo"):
        site.run(
            "skopeo",
            "--insecure-policy",
            "copy",
            "--dest-tls-verify=false",
            "--dest-creds",
            f"demo:{site.token}",
            f"oci:{image.layout}:1",
            target,
        )
        return "skopeo copy"
    for blob in image.blobs:
        with blob.open("rb") as body:
            path = f"/v2/docker/atoll-demo/blobs/uploads/?digest=sha256:{blob.name}"
            length = {"content-length": str(blob.stat().st_size)}
            kind = {"content-type": "application/octet-stream", **length}
            site.request("POST", path, body, kind)
    kind = {"content-type": f"{samples.KIND}.manifest.v1+json"}
    site.request("PUT", "/v2/docker/atoll-demo/manifests/1", image.manifest.read_bytes(), kind)
    return "the distribution API (skopeo is not installed)"


def install_image(site: Site, image: samples.Image) -> str:
    """Pull the image and compare every blob."""
    source = f"docker://{site.address}/docker/atoll-demo:1"
    if not shutil.which("skopeo"):
        for blob in image.blobs:
            path = f"/v2/docker/atoll-demo/blobs/sha256:{blob.name}"
            _same(blob.name, site.download(path))
        return "the distribution API (skopeo is not installed)"
    target = site.folder / "pulled"
    copy = ("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false")
    site.run(*copy, source, f"oci:{target}:1")
    for blob in (image.manifest, *image.blobs):
        _same(blob.name, samples.sha256(target / "blobs" / "sha256" / blob.name))
    return "skopeo copy"


def _same(expected: str, actual: str) -> None:
    if expected != actual:
        raise DigestMismatchError(f"sha256:{expected}", f"sha256:{actual}")
