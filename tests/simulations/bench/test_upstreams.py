"""What an origin was asked, and what stands before it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from simulations.bench import installs, payloads, remote, upstreams
from simulations.bench.servers import Server


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(upstreams, "LOGGED_SECONDS", 0.0)
    (tmp_path / "data").mkdir()
    return Server("origin", "1", (), {}, "http://origin", "/ready", tmp_path, "", 1)


def test_an_origin_counts_bodies_of_one_path(origin: Server) -> None:
    lines = ["GET /a 200 100", "HEAD /a 200 0", "GET /b 200 7", "GET /a 206 30", "GET /ab 200 1"]
    (origin.work / "asked").write_text("\n".join(lines) + "\n")
    assert upstreams.asked(origin, "/a") == (2, 130)
    assert upstreams.asked(origin, "/c") == (0, 0)


def test_a_tarball_is_listed_with_its_digest(origin: Server, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"x" * 100_000)
    target = remote._tarball(origin, "far", content)
    data = target.read_bytes()
    with tarfile.open(target) as archive:
        assert archive.getnames() == ["package/package.json", "package/noise.bin"]
    assert len(gzip.decompress(data)) > 100_000
    document = json.loads((origin.data / "far.json").read_text())
    dist = document["versions"][document["dist-tags"]["latest"]]["dist"]
    sha512 = base64.b64encode(hashlib.sha512(data).digest()).decode()
    assert dist == {"tarball": "http://origin/far/-/far-1.0.0.tgz", "integrity": f"sha512-{sha512}"}


def test_a_crowd_is_divided_among_the_nodes_of_a_site(tmp_path: Path) -> None:
    site = upstreams.Site(tmp_path, 2)
    assert list(site.running) == []
    for number, node in enumerate(site.nodes):
        node.url = f"http://node{number}"
        node.process = object()  # type: ignore[assignment]  # running, for all that is asked
    urls = remote._spread(site, remote.PLACES["atoll-site"], "/file", 4)
    assert urls == [f"http://node{n % 2}/general/far-files/file" for n in range(4)]


def test_a_lock_file_names_what_was_published() -> None:
    lock = installs._lock(["many0001"], "http://node/npm/npm")
    packages = lock["packages"]
    assert isinstance(packages, dict)
    entry = packages["node_modules/many0001"]
    assert entry["resolved"] == "http://node/npm/npm/many0001/-/many0001-1.0.0.tgz"
    data = payloads.tarball("many0001", "1.0.0", installs.FILE_SIZE)
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    assert entry["integrity"] == f"sha512-{digest}"


def test_a_release_names_documents_by_digest() -> None:
    text = f"SHA256:\n {'a' * 64}     1234 main/binary-amd64/Packages.gz\n {'b' * 40} 1 not/this\n"
    assert installs.LISTED.findall(text) == [("a" * 64, "1234", "main/binary-amd64/Packages.gz")]
