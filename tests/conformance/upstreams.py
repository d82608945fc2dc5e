"""Real registries as upstreams of remote repositories: started by tests, and stopped in their midst."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import lzma
import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulations.bench import install, servers
from simulations.bench.servers import PASSWORD, Server


@contextmanager
def running(name: str, folder: Path) -> Iterator[Server]:
    """Start a registry; skip the test, with the reason, where it cannot be had."""
    folder.mkdir()
    try:
        server = servers.SERVERS[name](folder)
        server.start()
    except install.PeerMissingError as error:
        pytest.skip(f"no {name}: {error}")
    try:
        yield server
    finally:
        server.stop()


def basic(user: str, password: str) -> Mapping[str, str]:
    """The Authorization header of Basic."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {pair}"}


def devpi_index(server: Server) -> str:
    """Make an index that takes uploads; return its URL."""
    body = json.dumps({"bases": [], "volatile": True}).encode()
    login = json.dumps({"user": "root", "password": PASSWORD}).encode()
    told = _json("POST", f"{server.url}/+login", login, {})
    token = base64.b64encode(f"root:{told['result']['password']}".encode()).decode()
    user = "root"
    index = f"{server.url}/{user}/dev"
    _json("PUT", index, body, {"x-devpi-auth": token})
    return index


def _json(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict:

    sent = {"content-type": "application/json", "accept": "application/json", **headers}
    request = urllib.request.Request(url, data=body, method=method, headers=sent)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"{}")


def sign(folder: Path, home: Path) -> Path:
    """Sign the Release in a folder, inline and apart; return the public key."""
    home.mkdir(mode=0o700)
    environment = {**os.environ, "GNUPGHOME": str(home)}

    def gpg(*arguments: str | Path) -> None:
        command = ["gpg", "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run(
            [*command, *map(str, arguments)],
            env=environment,
            check=True,
            capture_output=True,
            timeout=60,
        )

    try:
        gpg("--quick-generate-key", "upstream@example.org", "ed25519", "sign", "never")
        gpg("--clearsign", "-o", folder / "InRelease", folder / "Release")
        gpg("--armor", "--detach-sign", "-o", folder / "Release.gpg", folder / "Release")
        key = home / "key.asc"
        gpg("--armor", "--export", "-o", key)
    finally:
        subprocess.run(
            ["gpgconf", "--kill", "all"],
            env=environment,
            check=False,
            capture_output=True,
            timeout=60,
        )
    return key


def maven_layout(root: Path, jar: Path) -> Path:
    """Lay ``far:away:1.0`` out with its checksums; return the jar in it."""
    folder = root / "far/away/1.0"
    folder.mkdir(parents=True)
    target = folder / "away-1.0.jar"
    pom = folder / "away-1.0.pom"
    target.write_bytes(jar.read_bytes())
    pom.write_text(
        '<?xml version="1.0"?>\n<project><modelVersion>4.0.0</modelVersion><groupId>far</groupId>'
        "<artifactId>away</artifactId><version>1.0</version></project>\n"
    )
    metadata = folder.parent / "maven-metadata.xml"
    metadata.write_text(
        '<?xml version="1.0"?>\n<metadata><groupId>far</groupId><artifactId>away</artifactId>'
        "<versioning><release>1.0</release><versions><version>1.0</version></versions>"
        "<lastUpdated>20240101000000</lastUpdated></versioning></metadata>\n"
    )
    for file in (target, pom, metadata):
        digest = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
        Path(f"{file}.sha1").write_text(digest)
    return target


def release(suite: Path, index: Path, packages: bytes) -> None:
    """Write an index, its twins and the Release that lists them."""
    (index / "Packages").write_bytes(packages)
    (index / "Packages.gz").write_bytes(gzip.compress(packages, mtime=0))
    (index / "Packages.xz").write_bytes(lzma.compress(packages))
    by_hash = index / "by-hash/SHA256"
    by_hash.mkdir(parents=True)
    lines = []
    for name in ("Packages", "Packages.gz", "Packages.xz"):
        data = (index / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        (by_hash / digest).write_bytes(data)
        lines.append(f" {digest} {len(data)} {(index / name).relative_to(suite)}\n")
    (suite / "Release").write_text(
        "Origin: far\nSuite: stable\nCodename: stable\nArchitectures: amd64\nComponents: main\n"
        "Date: Mon, 01 Jan 2024 00:00:00 UTC\nAcquire-By-Hash: yes\nSHA256:\n" + "".join(lines)
    )
