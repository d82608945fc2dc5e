"""mvn and Ivy: deployed and resolved files are the same bytes; releases never change."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from tests.conformance import samples
from tests.conformance.conftest import HttpStatus, RunClient
from tests.conformance.installers import MAVEN_DEPENDENCY, MAVEN_DEPLOY
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed

GROUP = "org.example.demo"
CONTENT = samples.payload(150_000)
Maven = Callable[..., str]


@pytest.fixture
def maven(
    node: NodeProcess,
    token: str,
    client_env: dict[str, str],
    run_client: RunClient,
    maven_repository: Path,
    tmp_path: Path,
) -> Maven:
    """Run mvn with the printed settings and a local repository of its own."""
    home = Path(client_env["HOME"])
    printed(node, "mvn", token).write(home, tmp_path)

    def run(*arguments: str, status: int = 0, settings: Path | None = None) -> str:
        options = ["-B", "-q", "-C", f"-Dmaven.repo.local={maven_repository}"]
        chosen = settings or home / ".m2/settings.xml"  # HOME is not where Java looks for it
        return run_client("mvn", *options, "-s", chosen, *arguments, status=status)

    return run


def url_of(node: NodeProcess, key: str = "maven") -> str:
    return f"{node.url}/maven/{key}"


def deploy(
    maven: Maven, url: str, file: Path, artifact: str, version: str, *, status: int = 0
) -> None:
    maven(
        f"{MAVEN_DEPLOY}:deploy-file",
        f"-Durl={url}",
        f"-DrepositoryId={url.rpartition('/')[2]}",
        f"-Dfile={file}",
        f"-DgroupId={GROUP}",
        f"-DartifactId={artifact}",
        f"-Dversion={version}",
        status=status,
    )


def get(maven: Maven, artifact: str, version: str, *, status: int = 0, **how: Path) -> None:
    coordinates = f"-Dartifact={GROUP}:{artifact}:{version}"
    maven("-U", f"{MAVEN_DEPENDENCY}:get", coordinates, "-Dtransitive=false", status=status, **how)


def resolved(repository: Path, artifact: str, version: str) -> Path:
    folder = repository / GROUP.replace(".", "/") / artifact / version
    return folder / f"{artifact}-{version}.jar"


def read_metadata(run_client: RunClient, url: str, folder: str) -> ET.Element:
    """Fetch `maven-metadata.xml`, compared with its checksum."""
    address = f"{url}/{GROUP.replace('.', '/')}/{folder}/maven-metadata.xml"
    text = run_client("curl", "-sS", "--fail-with-body", address)
    stated = run_client("curl", "-sS", "--fail-with-body", f"{address}.sha1")
    assert stated.strip() == hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return ET.fromstring(text)


def test_printed_settings_let_mvn_deploy_and_get(
    node: NodeProcess,
    maven: Maven,
    run_client: RunClient,
    maven_repository: Path,
    tmp_path: Path,
) -> None:
    jar = samples.jar(tmp_path, "app", CONTENT)
    for version in ("1.9", "1.10"):
        deploy(maven, url_of(node), jar, "app", version)
    get(maven, "app", "1.10")
    assert resolved(maven_repository, "app", "1.10").read_bytes() == jar.read_bytes()
    metadata = read_metadata(run_client, url_of(node), "app")
    assert [each.text for each in metadata.iter("version")] == ["1.9", "1.10"]
    assert metadata.findtext("versioning/release") == "1.10"


def test_a_snapshot_can_be_deployed_again(
    node: NodeProcess,
    maven: Maven,
    run_client: RunClient,
    maven_repository: Path,
    tmp_path: Path,
) -> None:
    for content in (b"first", b"second"):
        jar = samples.jar(tmp_path, "moving", content)
        deploy(maven, url_of(node), jar, "moving", "2.0-SNAPSHOT")
        get(maven, "moving", "2.0-SNAPSHOT")
        got = resolved(maven_repository, "moving", "2.0-SNAPSHOT")
        assert got.read_bytes() == jar.read_bytes()
    metadata = read_metadata(run_client, url_of(node), "moving/2.0-SNAPSHOT")
    assert metadata.findtext("versioning/snapshot/buildNumber") == "2"


def test_a_release_cannot_be_changed(
    node: NodeProcess, maven: Maven, run_client: RunClient, tmp_path: Path
) -> None:
    jar = samples.jar(tmp_path, "fixed", CONTENT)
    deploy(maven, url_of(node), jar, "fixed", "1.0")
    published = jar.read_bytes()
    samples.jar(tmp_path, "fixed", b"other")
    deploy(maven, url_of(node), jar, "fixed", "1.0", status=1)
    url = f"{url_of(node)}/{GROUP.replace('.', '/')}/fixed/1.0/fixed-1.0.jar"
    run_client("curl", "-sS", "--fail-with-body", "-o", tmp_path / "got", url)
    assert (tmp_path / "got").read_bytes() == published


def test_a_wrong_checksum_is_refused(
    node: NodeProcess, token: str, http_status: HttpStatus, tmp_path: Path
) -> None:
    jar = samples.jar(tmp_path, "sums", CONTENT)
    (tmp_path / "wrong").write_text("0" * 40)
    upload = ["-u", f"me:{token}", "-T"]
    url = f"{url_of(node)}/org/example/sums/1.0/sums-1.0.jar"
    assert http_status(f"{url}.sha1", *upload, tmp_path / "wrong") == 201  # waits for its file
    assert http_status(url, *upload, jar) == 400
    assert http_status(url) == 404


def test_ivy_resolves(
    node: NodeProcess, maven: Maven, run_client: RunClient, tmp_path: Path
) -> None:
    jar = samples.jar(tmp_path, "ivied", CONTENT)
    deploy(maven, url_of(node), jar, "ivied", "3.1")
    settings = tmp_path / "ivysettings.xml"
    settings.write_text(
        '<ivysettings><settings defaultResolver="node"/>'
        f'<caches defaultCacheDir="{tmp_path}/cache"/><resolvers>'
        f'<ibiblio name="node" m2compatible="true" root="{escape(url_of(node))}"/>'
        "</resolvers></ivysettings>"
    )
    wanted = ["-settings", settings, "-dependency", GROUP, "ivied", "latest.release"]
    pattern = f"{tmp_path}/got/[artifact]-[revision].[ext]"
    run_client("ivy", *wanted, "-confs", "default", "-retrieve", pattern)
    assert (tmp_path / "got" / "ivied-3.1.jar").read_bytes() == jar.read_bytes()


def test_a_private_repository_asks_for_credentials(
    node: NodeProcess,
    token: str,
    private: Callable[[str], str],
    maven: Maven,
    maven_repository: Path,
    http_status: HttpStatus,
    tmp_path: Path,
) -> None:
    key = private("maven")
    settings: dict[str, Path] = {}
    for user, secret in (("member", token), ("stranger", "wrong")):
        printed(node, "mvn", secret, repository=key).write(tmp_path / user, tmp_path)
        settings[user] = tmp_path / user / ".m2/settings.xml"
    jar = samples.jar(tmp_path, "secret", CONTENT)
    target = [f"{MAVEN_DEPLOY}:deploy-file", f"-Durl={url_of(node, key)}", f"-DrepositoryId={key}"]
    target += [f"-Dfile={jar}", f"-DgroupId={GROUP}", "-DartifactId=secret", "-Dversion=1.0"]
    maven(*target, settings=settings["stranger"], status=1)
    maven(*target, settings=settings["member"])
    url = f"{url_of(node, key)}/{GROUP.replace('.', '/')}/secret/1.0/secret-1.0.jar"
    assert http_status(url) == 401
    get(maven, "secret", "1.0", settings=settings["member"])
    assert resolved(maven_repository, "secret", "1.0").read_bytes() == jar.read_bytes()
