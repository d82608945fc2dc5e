"""Virtual repositories over a local and a remote member: one place to publish to and install from.

What is ours is published *through* the virtual repository, what is far away lies on a real registry.
Three times each: with the upstream up; with its process stopped and every cached document past its
time; and from a peer that never asks any upstream.  The installed bytes are compared each time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.bench.servers import PASSWORD
from tests.conformance import samples, upstreams
from tests.conformance.conftest import NewNode, RunClient
from tests.conformance.installers import MAVEN_DEPENDENCY, MAVEN_DEPLOY
from tests.conformance.machine import Machine
from tests.conformance.settings import printed
from tests.conformance.test_npm import INSTALL, SETTINGS
from tests.conformance.test_oci import same_blobs
from tests.conformance.test_pypi import PIP, PIPS
from tests.conformance.test_remote import PHASES, Site, docker_content, npm_consumer
from tests.conformance.test_two_nodes import fetch

OURS = samples.payload(200_000, seed=3)
FAR = samples.payload(300_000)
Virtual = Callable[[str, str, str], str]


@pytest.fixture(scope="module")
def site(new_node: NewNode) -> Site:
    a = new_node("a", environment={"ATOLL_UPSTREAM_ALLOW": "127.0.0.0/8"})
    offline = {"ATOLL_UPSTREAM_OFFLINE": "true"}
    b = new_node("b", arguments=["--join", a.invitation()], environment=offline)
    return Site(a, b, a.token("admin"))


@pytest.fixture
def virtual(site: Site) -> Virtual:
    """Make a local, a remote and a virtual repository of both; give the virtual one's key."""

    def make(name: str, form: str, url: str) -> str:
        data = ["--data", str(site.a.data)]
        far, near, key = site.remote(f"{name}-far", form, url), f"{name}-near", f"{name}-all"
        site.a.command("repo", "create", *data, near, "--format", form, "--public")
        members = ["--member", near, "--member", far, "--deploy", near]
        kind = ["--format", form, "--public", "--type", "virtual", *members]
        site.a.command("repo", "create", *data, key, *kind)
        return key

    return make


def test_pip_and_uv(site: Site, virtual: Virtual, run_client: RunClient, tmp_path: Path) -> None:
    with upstreams.running("devpi", tmp_path / "devpi") as server:
        index = upstreams.devpi_index(server)
        far = samples.wheel(tmp_path, "far-away", "1.0", FAR)
        (tmp_path / "usurped").mkdir()
        usurped = samples.wheel(tmp_path / "usurped", "near-by", "9.9", FAR)
        target = ["--repository-url", f"{index}/", "-u", "root", "-p", PASSWORD]
        run_client("twine", "upload", "--non-interactive", *target, far, usurped)
        key = virtual("v-pypi", "pypi", f"{index}/+simple/")
        ours = ["--repository-url", f"{site.a.url}/pypi/{key}/legacy/", "-u", "me"]
        near = samples.wheel(tmp_path, "near-by", "1.0", OURS)
        run_client("twine", "upload", "--non-interactive", *ours, "-p", site.admin, near)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            if phase == "peer":
                site.await_peer(f"/pypi/{key}/simple/far-away/far_away-1.0-py3-none-any.whl")
                site.await_peer(f"/pypi/{key}/simple/near-by/near_by-1.0-py3-none-any.whl")
            simple = f"{site.of(phase).url}/pypi/{key}/simple/"
            names = ["--index-url", simple, "far-away", "near-by"]
            pips = {pip: tmp_path / f"{pip}-{phase}" for pip in PIPS}
            for pip, folder in pips.items():
                run_client(pip, "install", *PIP, "--target", folder, *names)
            uv, python = tmp_path / f"uv-{phase}", ["--no-cache", "--python", sys.executable]
            run_client("uv", "pip", "install", *python, "--target", uv, *names)
            for folder in (*pips.values(), uv):
                assert (folder / "far_away/data.bin").read_bytes() == FAR
                assert (folder / "near_by/data.bin").read_bytes() == OURS


def test_npm_pnpm_yarn_1_and_yarn_4(
    site: Site, virtual: Virtual, run_client: RunClient, tmp_path: Path
) -> None:
    with upstreams.running("verdaccio", tmp_path / "verdaccio") as server:
        place = server.url.removeprefix("http:")
        far = samples.npm_package(tmp_path / "far", "far-away", "1.0.0", FAR)
        (far / ".npmrc").write_text(f"registry={server.url}/\n{place}/:_authToken=any\n")
        run_client("npm", "publish", cwd=far)
        key = virtual("v-npm", "npm", server.url)
        near = samples.npm_package(tmp_path / "near", "near-by", "1.0.0", OURS)
        manifest = json.loads((near / "package.json").read_text())
        manifest["dependencies"] = {"far-away": "^1.0.0"}
        (near / "package.json").write_text(json.dumps(manifest))
        printed(site.a, "npm", site.admin, repository=key).write(near, near)
        run_client("npm", "publish", cwd=near)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            if phase == "peer":
                site.await_peer(f"/npm/{key}/far-away/-/far-away-1.0.0.tgz")
                site.await_peer(f"/npm/{key}/near-by/-/near-by-1.0.0.tgz")
            for tool in SETTINGS:
                consumer = npm_consumer(site.of(phase), key, tool, tmp_path / f"{tool}-{phase}")
                run_client(tool, INSTALL[tool], "near-by", cwd=consumer)
                assert (consumer / "node_modules/near-by/data.bin").read_bytes() == OURS
                found = list((consumer / "node_modules").glob("**/far-away/data.bin"))
                assert [each.read_bytes() for each in found] == [FAR] * len(found) != []


def test_skopeo(site: Site, virtual: Virtual, run_client: RunClient, tmp_path: Path) -> None:
    far = samples.oci_layout(tmp_path / "f", "1", FAR)
    near = samples.oci_layout(tmp_path / "n", "2", OURS)
    copy = ["copy", "--insecure-policy"]
    with upstreams.running("docker-registry", tmp_path / "registry") as server:
        place = server.url.removeprefix("http://")
        into = [*copy, "--dest-tls-verify=false"]
        run_client("skopeo", *into, f"oci:{far}:1", f"docker://{place}/far/away:1")
        key = virtual("v-oci", "docker", server.url)
        ours = f"docker://{site.a.address}/{key}/near/by:2"
        run_client("skopeo", *into, "--dest-creds", f"me:{site.admin}", f"oci:{near}:2", ours)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            node = site.of(phase)
            for image, layout in (("far/away:1", far), ("near/by:2", near)):
                name, _, tag = image.partition(":")
                if phase == "peer":
                    site.await_peer(f"/v2/{key}/{name}/manifests/{tag}")
                out = tmp_path / f"{tag}-{phase}"
                source = f"docker://{node.address}/{key}/{image}"
                run_client("skopeo", *copy, "--src-tls-verify=false", source, f"oci:{out}:{tag}")
                assert same_blobs(layout, out)
                tags = json.loads(fetch(node, f"/v2/{key}/{name}/tags/list", "*/*"))
                assert tags == {"name": f"{key}/{name}", "tags": [tag]}


def test_docker(
    site: Site, virtual: Virtual, dockerd: str, run_client: RunClient, tmp_path: Path
) -> None:
    """What is ours is pushed by docker too, through the virtual repository."""
    contents = {"far/whale:1": samples.payload(400_000, seed=11), "near/whale:2": OURS[::-1]}
    into, env = ["copy", "--insecure-policy", "--dest-tls-verify=false"], {"DOCKER_HOST": dockerd}
    with upstreams.running("docker-registry", tmp_path / "registry") as server:
        place = server.url.removeprefix("http://")
        far = samples.oci_layout(tmp_path / "f", "1", contents["far/whale:1"])
        run_client("skopeo", *into, f"oci:{far}:1", f"docker://{place}/far/whale:1")
        key = virtual("v-docker", "docker", server.url)
        near, archive = samples.oci_layout(tmp_path / "n", "2", OURS[::-1]), tmp_path / "near.tar"
        ours = f"{site.a.address}/{key}/near/whale:2"
        packed = ["copy", "--insecure-policy", f"oci:{near}:2", f"docker-archive:{archive}:{ours}"]
        run_client("skopeo", *packed)
        run_client("docker", "load", "-i", archive, env=env)
        login = ["login", "-u", "me", "--password-stdin", site.a.address]
        run_client("docker", *login, stdin=site.admin.encode(), env=env)
        run_client("docker", "push", ours, env=env)
        run_client("docker", "rmi", ours, env=env)
        run_client("docker", "logout", site.a.address, env=env)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            for image, content in contents.items():
                if phase == "peer":
                    site.await_peer(f"/v2/{key}/{image.replace(':', '/manifests/')}")
                full = f"{site.of(phase).address}/{key}/{image}"
                assert docker_content(run_client, dockerd, full, tmp_path) == content


def test_maven(
    site: Site,
    virtual: Virtual,
    run_client: RunClient,
    maven_repository: Path,
    tmp_path: Path,
) -> None:
    with upstreams.running("nginx", tmp_path / "nginx") as server:
        far = upstreams.maven_layout(tmp_path / "nginx/data", samples.jar(tmp_path, "away", FAR))
        key = virtual("v-maven", "maven", server.url)
        (tmp_path / "near").mkdir()
        near, home = samples.jar(tmp_path / "near", "by", OURS), tmp_path / "deployer"
        printed(site.a, "mvn", site.admin, repository=key).write(home, home)
        base = ["-B", "-q", f"-Dmaven.repo.local={maven_repository}"]
        what = ["-DgroupId=near", "-DartifactId=by", "-Dversion=1.0", f"-Dfile={near}"]
        where = [f"-Durl={site.a.url}/maven/{key}", f"-DrepositoryId={key}"]
        settings = ["-s", home / ".m2/settings.xml"]
        run_client("mvn", *base, *settings, f"{MAVEN_DEPLOY}:deploy-file", *where, *what)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            node, home = site.of(phase), tmp_path / f"home-{phase}"
            printed(node, "mvn", "", repository=key).write(home, home)
            local = tmp_path / f"m2-{phase}"
            shutil.copytree(maven_repository, local)
            for group, artifact, jar in (("far", "away", far), ("near", "by", near)):
                path = f"{group}/{artifact}/1.0/{artifact}-1.0.jar"
                if phase == "peer":
                    site.await_peer(f"/maven/{key}/{path}")
                shutil.rmtree(local / group, ignore_errors=True)
                base = ["-B", "-q", "-C", f"-Dmaven.repo.local={local}"]
                get = [f"{MAVEN_DEPENDENCY}:get", f"-Dartifact={group}:{artifact}:1.0"]
                run_client("mvn", *base, "-s", home / ".m2/settings.xml", *get)
                assert (local / path).read_bytes() == jar.read_bytes()


@pytest.fixture
def upstream_suite(run_client: RunClient, tmp_path: Path) -> Path:
    """Make a signed apt repository of one package; give its folder."""
    root, index = tmp_path / "apt", tmp_path / "apt/dists/stable/main/binary-amd64"
    pool = root / "pool/main"
    for folder in (index, pool):
        folder.mkdir(parents=True)
    samples.deb(pool, "far-away", "1.0", FAR)
    packages = run_client("dpkg-scanpackages", "pool", cwd=root).encode()
    upstreams.release(root / "dists/stable", index, packages)
    upstreams.sign(root / "dists/stable", tmp_path / "gpg")
    return root


def test_apt(
    site: Site,
    virtual: Virtual,
    run_client: RunClient,
    run_shell: RunClient,
    upstream_suite: Path,
    tmp_path: Path,
) -> None:
    with upstreams.running("nginx", tmp_path / "nginx") as server:
        shutil.copytree(upstream_suite, tmp_path / "nginx/data", dirs_exist_ok=True)
        subprocess.run(["chmod", "-R", "a+rX", str(tmp_path / "nginx")], check=True)
        key = virtual("v-apt", "debian", server.url)
        near = samples.deb(tmp_path, "near-by", "1.0", OURS)
        target = f"{site.a.url}/debian/{key}/pool/main/"
        run_client("curl", "-fsS", "-u", f"me:{site.admin}", "-T", near, target)
        for phase in PHASES:
            if phase == "stopped":
                server.stop()
            node = site.of(phase)
            if phase == "peer":
                site.await_peer(f"/debian/{key}/pool/main/far-away_1.0_all.deb")
                site.await_peer(f"/debian/{key}/gpg-key.asc")
            machine = Machine(tmp_path / f"root-{phase}", run_client, run_shell)
            keyring = machine.root / "etc/apt/keyrings/all.asc"
            keyring.write_bytes(fetch(node, f"/debian/{key}/gpg-key.asc", "*/*"))
            (machine.root / "etc/apt/sources.list.d/all.sources").write_text(
                f"Types: deb\nURIs: {node.url}/debian/{key}\nSuites: stable\n"
                f"Components: main\nArchitectures: amd64\nSigned-By: {keyring}\n"
            )
            machine.apt("update")
            assert machine.install("far-away") == FAR
            assert machine.install("near-by") == OURS
