"""Remote repositories before real registries: installed through, then without, then elsewhere.

Three times each: with the upstream up; with its process stopped and every cached document past its
time; and from a peer that never asks any upstream.  The installed bytes are compared each time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulations.bench.servers import PASSWORD
from tests.conformance import samples, upstreams
from tests.conformance.conftest import NewNode, RunClient
from tests.conformance.installers import MAVEN_DEPENDENCY
from tests.conformance.machine import Machine
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed
from tests.conformance.test_npm import INSTALL, SETTINGS
from tests.conformance.test_oci import same_blobs
from tests.conformance.test_pypi import PIP, PIPS
from tests.conformance.test_two_nodes import eventually, fetch

CONTENT = samples.payload(300_000)
DEPENDENCY = samples.payload(50_000, seed=2)
PHASES = ("fresh", "stopped", "peer")


@dataclass(frozen=True, slots=True)
class Site:
    """A node that may ask upstreams on this machine, and its peer, which asks nobody."""

    a: NodeProcess
    b: NodeProcess
    admin: str

    def remote(self, key: str, form: str, url: str) -> str:
        """Make a public remote repository that believes nothing for long; give its key."""
        options = [key, "--format", form, "--public", "--type", "remote", "--upstream", url]
        self.a.command("repo", "create", "--data", str(self.a.data), *options)
        settings = {"index_ttl_seconds": 0, "stale_while_revalidate_seconds": 0}
        body = json.dumps({**settings, "patience_seconds": 3}).encode()
        request = urllib.request.Request(
            f"{self.a.url}/api/v1/repositories/{key}/cache-ttl",
            data=body,
            method="PUT",
            headers={"authorization": f"Bearer {self.admin}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        return key

    def of(self, phase: str) -> NodeProcess:
        """The node that clients of a phase ask."""
        return self.b if phase == "peer" else self.a

    def await_peer(self, path: str) -> None:
        """Wait until the peer answers for a path."""
        assert eventually(lambda: len(fetch(self.b, path, "*/*")) > 3), path


@pytest.fixture(scope="module")
def site(new_node: NewNode) -> Site:
    a = new_node("a", environment={"ATOLL_UPSTREAM_ALLOW": "127.0.0.0/8"})
    offline = {"ATOLL_UPSTREAM_OFFLINE": "true"}
    b = new_node("b", arguments=["--join", a.invitation()], environment=offline)
    return Site(a, b, a.token("admin"))


def npm_consumer(node: NodeProcess, key: str, tool: str, folder: Path) -> Path:
    """Make an empty project that installs from a repository without credentials or any cache."""
    folder.mkdir()
    (folder / "package.json").write_text('{"name": "c", "version": "1.0.0"}')
    printed(node, SETTINGS[tool], "", repository=key).write(folder, folder)
    settings = folder / (".yarnrc.yml" if tool == "yarn4" else ".npmrc")
    kept = [line for line in settings.read_text().splitlines() if "auth" not in line.lower()]
    if tool == "yarn4":
        (folder / "yarn.lock").touch()  # the mark of a project's root
        kept += ["nodeLinker: node-modules", "enableGlobalCache: false"]
        kept += [f"globalFolder: {folder}/global"]  # its copies of packuments
    else:
        kept += [f"cache={folder}/cache", f"cache-folder={folder}/cache"]
        kept += [f"store-dir={folder}/store"] if tool == "pnpm" else []
    settings.write_text("\n".join(kept) + "\n")
    return folder


def docker_content(run_client: RunClient, host: str, image: str, folder: Path) -> bytes:
    """Pull an image that the daemon does not have; return the file in it, and forget the image."""
    env = {"DOCKER_HOST": host}
    run_client("docker", "pull", image, env=env)
    command = ["create", "--network", "none", image, "/none"]
    container = run_client("docker", *command, env=env).strip()
    run_client("docker", "cp", f"{container}:/data.bin", folder / "data.bin", env=env)
    run_client("docker", "rm", container, env=env)
    run_client("docker", "rmi", image, env=env)
    content = (folder / "data.bin").read_bytes()
    (folder / "data.bin").unlink()
    return content


def test_pip_and_uv_through_devpi(site: Site, run_client: RunClient, tmp_path: Path) -> None:
    with upstreams.running("devpi", tmp_path / "devpi") as server:
        index = upstreams.devpi_index(server)
        wheels = [
            samples.wheel(tmp_path, "far-away", "1.0", CONTENT),
            samples.sdist(tmp_path, "far-away", "0.9"),
        ]
        into = ["--repository-url", f"{index}/", "-u", "root", "-p", PASSWORD]
        run_client("twine", "upload", "--non-interactive", *into, *wheels)
        key = site.remote("far-pypi", "pypi", f"{index}/+simple/")
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            if phase == "peer":
                site.await_peer(f"/pypi/{key}/simple/far-away/far_away-1.0-py3-none-any.whl")
            simple = f"{site.of(phase).url}/pypi/{key}/simple/"
            for pip in PIPS:
                target = tmp_path / f"{pip}-{phase}"
                options = [*PIP, "--target", target, "--index-url", simple]
                run_client(pip, "install", *options, "far-away")
                assert (target / "far_away/data.bin").read_bytes() == CONTENT
            uv = ["--no-cache", "--python", sys.executable, "--target", tmp_path / f"uv-{phase}"]
            run_client("uv", "pip", "install", *uv, "--index-url", simple, "far-away")
            assert (tmp_path / f"uv-{phase}/far_away/data.bin").read_bytes() == CONTENT


def test_npm_pnpm_yarn_1_and_yarn_4_through_verdaccio(
    site: Site, run_client: RunClient, tmp_path: Path
) -> None:
    with upstreams.running("verdaccio", tmp_path / "verdaccio") as server:
        for name, content in (("@far/away", CONTENT), ("far-dependency", DEPENDENCY)):
            source = samples.npm_package(tmp_path / "source", name, "1.0.0", content)
            manifest = json.loads((source / "package.json").read_text())
            if name == "@far/away":
                manifest["dependencies"] = {"far-dependency": "^1.0.0"}
            (source / "package.json").write_text(json.dumps(manifest))
            address = server.url.removeprefix("http:")
            (source / ".npmrc").write_text(f"registry={server.url}/\n{address}/:_authToken=any\n")
            run_client("npm", "publish", "--access", "public", cwd=source)
        key = site.remote("far-npm", "npm", server.url)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            if phase == "peer":
                site.await_peer(f"/npm/{key}/@far/away/-/away-1.0.0.tgz")
                site.await_peer(f"/npm/{key}/far-dependency/-/far-dependency-1.0.0.tgz")
            for tool in SETTINGS:
                consumer = npm_consumer(site.of(phase), key, tool, tmp_path / f"{tool}-{phase}")
                run_client(tool, INSTALL[tool], "@far/away", cwd=consumer)
                found = consumer / "node_modules/@far/away/data.bin"
                assert found.read_bytes() == CONTENT
                below = list((consumer / "node_modules").glob("**/far-dependency/data.bin"))
                assert {each.read_bytes() for each in below} == {DEPENDENCY}


def test_skopeo_through_a_registry(site: Site, run_client: RunClient, tmp_path: Path) -> None:
    layout = samples.oci_layout(tmp_path, "1", CONTENT)
    copy = ["copy", "--insecure-policy"]
    with upstreams.running("docker-registry", tmp_path / "registry") as server:
        place = server.url.removeprefix("http://")
        into = [*copy, "--dest-tls-verify=false", f"oci:{layout}:1"]
        run_client("skopeo", *into, f"docker://{place}/far/away:1")
        key = site.remote("far-oci", "docker", server.url)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            node = site.of(phase)
            if phase == "peer":
                site.await_peer(f"/v2/{key}/far/away/manifests/1")
            image = f"docker://{node.address}/{key}/far/away:1"
            out = tmp_path / f"out-{phase}"
            run_client("skopeo", *copy, "--src-tls-verify=false", image, f"oci:{out}:1")
            assert same_blobs(layout, out)
            tags = json.loads(fetch(node, f"/v2/{key}/far/away/tags/list", "*/*"))
            assert tags == {"name": f"{key}/far/away", "tags": ["1"]}


def test_docker_pulls_through_a_registry(
    site: Site, dockerd: str, run_client: RunClient, tmp_path: Path
) -> None:
    """Its own test: what skopeo asked for must not be why docker finds it."""
    content = samples.payload(400_000, seed=11)
    layout = samples.oci_layout(tmp_path, "1", content)
    with upstreams.running("docker-registry", tmp_path / "registry") as server:
        place = server.url.removeprefix("http://")
        into = ["copy", "--insecure-policy", "--dest-tls-verify=false", f"oci:{layout}:1"]
        run_client("skopeo", *into, f"docker://{place}/far/whale:1")
        key = site.remote("far-docker", "docker", server.url)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            if phase == "peer":
                site.await_peer(f"/v2/{key}/far/whale/manifests/1")
            image = f"{site.of(phase).address}/{key}/far/whale:1"
            assert docker_content(run_client, dockerd, image, tmp_path) == content


def test_maven_through_a_layout(
    site: Site,
    run_client: RunClient,
    maven_repository: Path,
    tmp_path: Path,
) -> None:
    with upstreams.running("nginx", tmp_path / "nginx") as server:
        jar = upstreams.maven_layout(
            tmp_path / "nginx/data", samples.jar(tmp_path, "away", CONTENT)
        )
        key = site.remote("far-maven", "maven", server.url)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            node, home = site.of(phase), tmp_path / f"home-{phase}"
            if phase == "peer":
                site.await_peer(f"/maven/{key}/far/away/1.0/away-1.0.jar")
            printed(node, "mvn", "", repository=key).write(home, home)
            local = tmp_path / f"m2-{phase}"
            shutil.copytree(maven_repository, local)
            base = ["-B", "-q", "-C", f"-Dmaven.repo.local={local}"]
            get = [f"{MAVEN_DEPENDENCY}:get", "-Dartifact=far:away:1.0"]
            run_client("mvn", *base, "-s", home / ".m2/settings.xml", *get)
            assert (local / "far/away/1.0/away-1.0.jar").read_bytes() == jar.read_bytes()
            sum_of = fetch(node, f"/maven/{key}/far/away/1.0/away-1.0.jar.sha1", "*/*")
            assert sum_of == Path(f"{jar}.sha1").read_bytes()


@pytest.fixture
def suite(run_client: RunClient, tmp_path: Path) -> tuple[Path, Path]:
    """Make a signed apt repository of two packages: its folder, and its key."""
    root, index = tmp_path / "apt", tmp_path / "apt/dists/stable/main/binary-amd64"
    pool = root / "pool/main"
    for folder in (index, pool):
        folder.mkdir(parents=True)
    samples.deb(pool, "far-away", "1.0", CONTENT)
    samples.deb(pool, "far-other", "1.0", DEPENDENCY)
    packages = run_client("dpkg-scanpackages", "pool", cwd=root).encode()
    upstreams.release(root / "dists/stable", index, packages)
    return root, upstreams.sign(root / "dists/stable", tmp_path / "gpg")


def test_apt_through_a_signed_repository(
    site: Site,
    run_client: RunClient,
    run_shell: RunClient,
    suite: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    with upstreams.running("nginx", tmp_path / "nginx") as server:
        shutil.copytree(suite[0], tmp_path / "nginx/data", dirs_exist_ok=True)
        subprocess.run(["chmod", "-R", "a+rX", str(tmp_path / "nginx")], check=True)
        key = site.remote("far-apt", "debian", server.url)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            if phase == "peer":
                site.await_peer(f"/debian/{key}/pool/main/far-away_1.0_all.deb")
            machine = Machine(tmp_path / f"root-{phase}", run_client, run_shell)
            keyring = machine.root / "etc/apt/keyrings/far.asc"
            shutil.copy(suite[1], keyring)
            (machine.root / "etc/apt/sources.list.d/far.sources").write_text(
                f"Types: deb\nURIs: {site.of(phase).url}/debian/{key}\nSuites: stable\n"
                f"Components: main\nArchitectures: amd64\nSigned-By: {keyring}\n"
            )
            machine.apt("update")
            assert machine.install("far-away") == CONTENT
