"""Publish to one node, install from another: same bytes, same index documents."""

from __future__ import annotations

import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.conformance import samples
from tests.conformance.conftest import NewNode, RunClient
from tests.conformance.installers import MAVEN_DEPENDENCY, MAVEN_DEPLOY
from tests.conformance.machine import Machine
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed

CONTENT = samples.payload(400_000)
CONVERGE_SECONDS_MAX = 30.0
POLL_SECONDS = 0.05
HOST = "packages.example.org"  # one name for both nodes, so that absolute URLs agree too


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes of one mesh, and a token made on the first."""

    a: NodeProcess
    b: NodeProcess
    token: str

    def same(self, path: str, *holding: str, accept: str = "*/*") -> bytes:
        """Wait until both serve the same document, with these words in it; give it."""
        documents: list[bytes] = []

        def agreed() -> bool:
            documents[:] = [fetch(node, path, accept) for node in (self.a, self.b)]
            text = documents[0].decode()
            return documents[0] == documents[1] and all(word in text for word in holding)

        assert eventually(agreed), f"{path} differs:\n" + "\n---\n".join(map(repr, documents))
        return documents[0]


def fetch(node: NodeProcess, path: str, accept: str) -> bytes:
    request = urllib.request.Request(node.url + path, headers={"Host": HOST, "Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=CONVERGE_SECONDS_MAX) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return f"{error.code}".encode()


def holds(node: NodeProcess, path: str, content: bytes) -> bool:
    return fetch(node, path, "*/*") == content


def eventually(check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + CONVERGE_SECONDS_MAX
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


@pytest.fixture(scope="module")
def pair(new_node: NewNode) -> Pair:
    a = new_node("a")
    b = new_node("b", arguments=["--join", a.invitation()])
    return Pair(a, b, a.token("write"))


def test_wheels(pair: Pair, run_client: RunClient, tmp_path: Path) -> None:
    wheel = samples.wheel(tmp_path, "two-nodes", "1.0", CONTENT)
    target = ["--repository-url", f"{pair.a.url}/pypi/pypi/legacy/", "-u", "me", "-p", pair.token]
    run_client("twine", "upload", "--non-interactive", *target, wheel)
    page = "/pypi/pypi/simple/two-nodes/"
    pair.same(page, "two_nodes-1.0", accept="text/html")
    pair.same(page, "two_nodes-1.0", accept="application/vnd.pypi.simple.v1+json")
    pair.same("/pypi/pypi/simple/", "two-nodes")
    pair.same("/pypi/pypi/pypi/two-nodes/json", "two_nodes-1.0")
    index = f"{pair.b.url}/pypi/pypi/simple/"
    options = ["--no-cache-dir", "--target", tmp_path / "pip", "--index-url", index]
    run_client("pip", "install", *options, "two-nodes")
    assert (tmp_path / "pip/two_nodes/data.bin").read_bytes() == CONTENT
    options = ["--python", sys.executable, "--target", tmp_path / "uv", "--index-url", index]
    run_client("uv", "pip", "install", "--no-cache", *options, "two-nodes")
    assert (tmp_path / "uv/two_nodes/data.bin").read_bytes() == CONTENT


def test_npm_packages(pair: Pair, run_client: RunClient, tmp_path: Path) -> None:
    source = samples.npm_package(tmp_path, "@two/nodes", "1.0.0", CONTENT)
    printed(pair.a, "npm", pair.token).write(source, source)
    run_client("npm", "publish", cwd=source)
    pair.same("/npm/npm/@two%2fnodes", "nodes-1.0.0.tgz")
    abbreviated = "application/vnd.npm.install-v1+json"
    pair.same("/npm/npm/@two%2fnodes", "nodes-1.0.0.tgz", accept=abbreviated)
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "package.json").write_text('{"name": "consumer", "version": "1.0.0"}')
    printed(pair.b, "npm", pair.token).write(consumer, consumer)
    run_client("npm", "install", "@two/nodes", cwd=consumer)
    assert (consumer / "node_modules/@two/nodes/data.bin").read_bytes() == CONTENT


def test_images(pair: Pair, run_client: RunClient, tmp_path: Path) -> None:
    layout = samples.oci_layout(tmp_path, "1", CONTENT)
    copy = ["copy", "--insecure-policy"]
    into = [*copy, "--dest-tls-verify=false", "--dest-creds", f"me:{pair.token}"]
    image = "docker/two/nodes:1"
    run_client("skopeo", *into, f"oci:{layout}:1", f"docker://{pair.a.address}/{image}")
    manifest = pair.same("/v2/docker/two/nodes/manifests/1", "schemaVersion")
    out = [*copy, "--src-tls-verify=false", f"docker://{pair.b.address}/{image}"]
    run_client("skopeo", *out, f"oci:{tmp_path}/out:1")
    blobs = {each.name: each.read_bytes() for each in (layout / "blobs/sha256").iterdir()}
    copied = {each.name: each.read_bytes() for each in (tmp_path / "out/blobs/sha256").iterdir()}
    assert copied == blobs
    assert manifest in blobs.values()


def test_jars(
    pair: Pair,
    run_client: RunClient,
    maven_repository: Path,
    client_env: dict[str, str],
    tmp_path: Path,
) -> None:
    jar = samples.jar(tmp_path, "nodes", CONTENT)
    base = ["-B", "-q", "-C", f"-Dmaven.repo.local={maven_repository}"]
    coordinates = ["-DgroupId=two", "-DartifactId=nodes", "-Dversion=1.0", f"-Dfile={jar}"]
    for node, arguments in (
        (pair.a, [f"{MAVEN_DEPLOY}:deploy-file", "-DrepositoryId=maven", *coordinates]),
        (pair.b, [f"{MAVEN_DEPENDENCY}:get", "-Dartifact=two:nodes:1.0"]),
    ):
        home = tmp_path / node.data.name
        printed(node, "mvn", pair.token).write(home, home)
        url = f"-Durl={node.url}/maven/maven"
        run_client("mvn", *base, "-s", home / ".m2/settings.xml", *arguments, url)
        pair.same("/maven/maven/two/nodes/maven-metadata.xml", "<version>1.0</version>")
    resolved = maven_repository / "two/nodes/1.0/nodes-1.0.jar"
    assert resolved.read_bytes() == jar.read_bytes()


def test_debian_packages(
    pair: Pair, run_client: RunClient, machine: Machine, tmp_path: Path
) -> None:
    package = samples.deb(tmp_path, "two-nodes", "1.0", CONTENT)
    upload = ["-sS", "--fail-with-body", "-u", f"me:{pair.token}", "-T", package]
    run_client("curl", *upload, f"{pair.a.url}/debian/debian/pool/main/")
    stable = "/debian/debian/dists/stable"
    pair.same(f"{stable}/main/binary-amd64/Packages", "two-nodes")
    pair.same(f"{stable}/InRelease", "BEGIN PGP SIGNATURE")
    pair.same(f"{stable}/Release.gpg", "BEGIN PGP SIGNATURE")
    pair.same("/debian/debian/gpg-key.asc", "BEGIN PGP PUBLIC KEY")
    machine.paste(printed(pair.b, "apt", pair.token))
    machine.apt("update")
    assert machine.install("two-nodes") == CONTENT


def test_generic_files_published_at_either_end(
    pair: Pair, run_client: RunClient, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    for here, there in ((pair.a, pair.b), (pair.b, pair.a)):
        path = f"/general/generic/from-{here.data.name}.bin"
        upload = ["-sS", "--fail-with-body", "-u", f"me:{pair.token}", "-T", tmp_path / "f"]
        run_client("curl", *upload, f"{here.url}{path}")
        assert eventually(partial(holds, there, path, CONTENT))
    pair.same("/general/generic/?list", "from-a.bin", "from-b.bin", accept="application/json")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_nodes_that_publish_while_apart_agree_when_they_meet(
    new_node: NewNode, run_client: RunClient, tmp_path: Path
) -> None:
    here = new_node("here", arguments=["--mesh", f"127.0.0.1:{free_port()}"])
    there = new_node("there", arguments=["--join", here.invitation()])
    pair = Pair(here, there, here.token())

    def publish(node: NodeProcess, version: str) -> None:
        package = samples.deb(tmp_path, "apart", version, version.encode())
        upload = ["-sS", "--fail-with-body", "-u", f"me:{pair.token}", "-T", package]
        run_client("curl", *upload, f"{node.url}/debian/debian/pool/main/")

    packages = "/debian/debian/dists/stable/main/binary-amd64/Packages"
    publish(here, "1.0")
    pair.same(packages, "Version: 1.0")
    file = "/debian/debian/pool/main/apart_1.0_all.deb"
    assert eventually(lambda: fetch(there, file, "*/*").startswith(b"!<arch>"))
    here.kill()
    publish(there, "2.0")
    there.kill()
    there.start()  # alone, after a crash: what it fetched and what it was given are both there
    assert fetch(there, file, "*/*").startswith(b"!<arch>")
    assert b"Version: 2.0" in fetch(there, packages, "*/*")
    there.kill()
    here.start()
    publish(here, "3.0")
    there.start()
    pair.same(packages, "Version: 1.0", "Version: 2.0", "Version: 3.0")
    pair.same("/debian/debian/dists/stable/InRelease", "BEGIN PGP SIGNATURE")
