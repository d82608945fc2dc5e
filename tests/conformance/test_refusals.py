"""What a client shows of a refusal: the node's reason, not only a number."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.conformance import samples
from tests.conformance.conftest import RunClient
from tests.conformance.installers import MAVEN_DEPLOY
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed

# client: (whose settings, the file they are in, commands before the publish, the publish)
NPM: dict[str, tuple[str, str, list[list[str]], list[str]]] = {
    "npm": ("npm", ".npmrc", [], ["publish"]),
    "pnpm": ("pnpm", ".npmrc", [], ["publish", "--no-git-checks"]),
    "yarn": ("yarn", ".npmrc", [], ["publish", "--non-interactive", "--new-version", "1.0.0"]),
    "yarn4": ("yarn-berry", ".yarnrc.yml", [["install"]], ["npm", "publish"]),
}


def test_twine_and_uv_tell_of_a_climbing_member(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    wheel = samples.wheel(tmp_path, "climbing", "1.0", b"")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("../../escaped.txt", "x")
    url = f"{node.url}/pypi/pypi/legacy/"
    for command, status in (
        (["twine", "upload", "--non-interactive", "--repository-url", url], 1),
        (["uv", "publish", "--publish-url", url], 2),
    ):
        arguments = [*command, "-u", "me", "-p", token, wheel]
        said = run_client(*arguments, status=status, errors=True)
        assert "escaped.txt" in said


@pytest.mark.parametrize("tool", NPM)
def test_npm_and_its_rivals_tell_that_a_repository_is_missing(
    tool: str, node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    settings, file, before, publish = NPM[tool]
    source = samples.npm_package(tmp_path, "nowhere", "1.0.0", b"")
    text = printed(node, settings, token).files[file]
    (source / file).write_text(text.replace("/npm/npm", "/npm/gone"))
    if tool == "yarn4":
        (source / "yarn.lock").touch()
    for arguments in before:
        run_client(tool, *arguments, cwd=source)
    said = run_client(tool, *publish, cwd=source, status=1, errors=True)
    assert "no npm repository 'gone'" in said


def test_skopeo_and_crane_tell_that_a_repository_is_missing(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    layout = samples.oci_layout(tmp_path, "1", b"x")
    image = f"{node.address}/nosuch/image:1"
    copy = ["copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds", f"me:{token}"]
    target = [f"oci:{layout}:1", f"docker://{image}"]
    reason = "no oci repository 'nosuch'"
    assert reason in run_client("skopeo", *copy, *target, status=1, errors=True)
    assert reason in run_client("crane", "digest", image, status=1, errors=True)


def test_mvn_tells_that_a_release_exists(
    node: NodeProcess, token: str, run_client: RunClient, maven_repository: Path, tmp_path: Path
) -> None:
    printed(node, "mvn", token).write(tmp_path, tmp_path)
    said = ""
    for status, content in enumerate((b"one", b"two")):
        said = run_client(
            "mvn",
            "-B",
            "-q",
            f"-Dmaven.repo.local={maven_repository}",
            "-s",
            tmp_path / ".m2/settings.xml",
            f"{MAVEN_DEPLOY}:deploy-file",
            "-DrepositoryId=maven",
            f"-Durl={node.url}/maven/maven",
            f"-Dfile={samples.jar(tmp_path, 'once', content)}",
            "-DgroupId=org.example",
            "-DartifactId=once",
            "-Dversion=1.0",
            status=status,
            errors=True,
        )
    assert "409 File already exists" in said


def test_dput_tells_that_a_package_exists(
    node: NodeProcess,
    token: str,
    client_env: dict[str, str],
    run_client: RunClient,
    tmp_path: Path,
) -> None:
    printed(node, "dput", token).write(Path(client_env["HOME"]), tmp_path)
    said = ""
    for status, content in ((0, b"one"), (3, b"two")):
        package = samples.deb(tmp_path, "once", "1.0", content)
        upload = samples.changes(tmp_path, "once", "1.0", package)
        arguments = ["-U", "debian", upload]
        said = run_client("dput", *arguments, cwd=tmp_path, status=status, errors=True)
    assert "once_1.0_all.deb exists with other bytes" in said


def test_a_full_quota_is_told(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    quota = ["--format", "pypi", "--public", "--quota", "10000"]
    node.command("repo", "create", "--data", str(node.data), "tight", *quota)
    wheel = samples.wheel(tmp_path, "large", "1.0", samples.payload(20_000))
    options = ["--non-interactive", "--repository-url", f"{node.url}/pypi/tight/legacy/"]
    arguments = ["twine", "upload", *options, "-u", "me", "-p", token, wheel]
    said = run_client(*arguments, status=1, errors=True)
    assert "do not fit" in said
