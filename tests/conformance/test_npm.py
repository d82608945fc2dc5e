"""npm, pnpm, yarn 1 and yarn 4: installed files are the published ones, lock files hold their hashes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import samples
from tests.conformance.conftest import ClientPath, HttpStatus, RunClient
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed

CONTENT = samples.payload(200_000)
PROMPT_SECONDS_MAX = 30.0
SETTINGS = {"npm": "npm", "pnpm": "pnpm", "yarn": "yarn", "yarn4": "yarn-berry"}
PUBLISH = {
    "npm": [["publish"]],
    "pnpm": [["publish", "--no-git-checks"]],
    "yarn": [["publish", "--non-interactive", "--new-version", "1.0.0"]],
    "yarn4": [["install"], ["npm", "publish"]],
}
INSTALL = {"npm": "install", "pnpm": "add", "yarn": "add", "yarn4": "add"}
LOCKS = {
    "npm": "package-lock.json",
    "pnpm": "pnpm-lock.yaml",
    "yarn": "yarn.lock",
    "yarn4": "yarn.lock",
}


def paste(node: NodeProcess, token: str, tool: str, folder: Path, *, repository: str = "") -> Path:
    """Make a folder a project with the printed settings of a tool."""
    folder.mkdir(parents=True, exist_ok=True)
    printed(node, SETTINGS[tool], token, repository=repository).write(folder, folder)
    if tool == "yarn4":
        (folder / "yarn.lock").touch()  # the mark of a project's root
        with (folder / ".yarnrc.yml").open("a") as file:
            file.write("nodeLinker: node-modules\nenableGlobalCache: false\n")
    if not (folder / "package.json").exists():
        (folder / "package.json").write_text('{"name": "consumer", "version": "1.0.0"}')
    return folder


def publish(
    run_client: RunClient, node: NodeProcess, token: str, folder: Path, *options: str
) -> None:
    paste(node, token, "npm", folder)
    run_client("npm", "publish", *options, cwd=folder)


def fetch(run_client: RunClient, url: str) -> Any:
    return json.loads(run_client("curl", "-sS", "--fail-with-body", url))


def served_integrity(
    run_client: RunClient, node: NodeProcess, name: str, version: str, folder: Path
) -> str:
    """The integrity in the packument, once the tarball is found to have it."""
    dist = fetch(run_client, f"{node.url}/npm/npm/{name}")["versions"][version]["dist"]
    run_client("curl", "-sS", "--fail-with-body", "-o", folder / "t.tgz", dist["tarball"])
    digest = hashlib.sha512((folder / "t.tgz").read_bytes()).digest()
    assert dist["integrity"] == f"sha512-{base64.b64encode(digest).decode()}"
    return str(dist["integrity"])


@pytest.mark.parametrize("tool", SETTINGS)
def test_printed_settings_let_it_publish_and_install(
    tool: str, node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    name = f"@team/demo-{tool}"
    source = samples.npm_package(tmp_path, name, "1.0.0", CONTENT)
    paste(node, token, tool, source)
    for arguments in PUBLISH[tool]:
        run_client(tool, *arguments, cwd=source)
    integrity = served_integrity(run_client, node, name, "1.0.0", tmp_path)
    consumer = paste(node, token, tool, tmp_path / "consumer")
    run_client(tool, INSTALL[tool], f"{name}@^1.0.0", cwd=consumer)
    for file in ("data.bin", "index.js"):
        installed = (consumer / "node_modules" / name / file).read_bytes()
        assert installed == (source / file).read_bytes()
    lock = (consumer / LOCKS[tool]).read_text()
    assert (integrity if tool != "yarn4" else f"{name}@npm:^1.0.0") in lock


def test_dependencies_are_resolved_and_locked(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    for version in ("1.0.0", "1.5.0", "2.0.0"):
        lower = samples.npm_package(tmp_path, "lower", version, version.encode())
        publish(run_client, node, token, lower)
    upper = samples.npm_package(tmp_path, "upper", "1.0.0", CONTENT)
    package = json.loads((upper / "package.json").read_text())
    (upper / "package.json").write_text(
        json.dumps({**package, "dependencies": {"lower": "^1.2.0"}})
    )
    publish(run_client, node, token, upper)
    consumer = paste(node, token, "npm", tmp_path / "consumer")
    run_client("npm", "install", "upper", cwd=consumer)
    assert (consumer / "node_modules/lower/data.bin").read_bytes() == b"1.5.0"
    locked = json.loads((consumer / "package-lock.json").read_text())["packages"]
    for name, version in (("upper", "1.0.0"), ("lower", "1.5.0")):
        integrity = served_integrity(run_client, node, name, version, tmp_path)
        assert locked[f"node_modules/{name}"]["integrity"] == integrity


def test_changed_bytes_are_refused(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    source = samples.npm_package(tmp_path, "fixed", "1.0.0", CONTENT)
    publish(run_client, node, token, source)
    (source / "data.bin").write_bytes(b"other")
    run_client("npm", "publish", cwd=source, status=1)
    consumer = paste(node, token, "npm", tmp_path / "consumer")
    run_client("npm", "install", "fixed", cwd=consumer)
    assert (consumer / "node_modules/fixed/data.bin").read_bytes() == CONTENT
    lock = consumer / "package-lock.json"
    integrity = served_integrity(run_client, node, "fixed", "1.0.0", tmp_path)
    wrong = f"sha512-{base64.b64encode(bytes(64)).decode()}"
    lock.write_text(lock.read_text().replace(integrity, wrong))
    run_client("npm", "ci", "--cache", tmp_path / "empty", cwd=consumer, status=1)
    assert not (consumer / "node_modules/fixed/data.bin").exists()


def test_npm_moves_dist_tags(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    source = samples.npm_package(tmp_path, "@team/tagged", "1.0.0", b"old")
    publish(run_client, node, token, source)
    source = samples.npm_package(tmp_path, "@team/tagged", "2.0.0-rc.1", b"new")
    publish(run_client, node, token, source, "--tag", "next")
    run_client("npm", "dist-tag", "add", "@team/tagged@1.0.0", "stable", cwd=source)
    listed = run_client("npm", "dist-tag", "ls", "@team/tagged", cwd=source).split("\n")
    assert set(filter(None, listed)) == {"latest: 1.0.0", "next: 2.0.0-rc.1", "stable: 1.0.0"}
    run_client("npm", "dist-tag", "rm", "@team/tagged", "stable", cwd=source)
    consumer = paste(node, token, "npm", tmp_path / "consumer")
    run_client("npm", "install", "@team/tagged@next", cwd=consumer)
    assert (consumer / "node_modules/@team/tagged/data.bin").read_bytes() == b"new"
    run_client("npm", "install", "@team/tagged@stable", cwd=consumer, status=1)


def test_npm_deprecates_and_searches(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    source = samples.npm_package(tmp_path, "obsolete-thing", "1.0.0", b"old")
    publish(run_client, node, token, source)
    run_client("npm", "deprecate", "obsolete-thing@1", "use another", cwd=source)
    shown = run_client("npm", "view", "obsolete-thing", "deprecated", "--json", cwd=source)
    assert json.loads(shown) == "use another"
    found = json.loads(run_client("npm", "search", "obsolete", "--json", cwd=source))
    assert [each["name"] for each in found] == ["obsolete-thing"]


def test_npm_unpublishes(
    node: NodeProcess, run_client: RunClient, http_status: HttpStatus, tmp_path: Path
) -> None:
    token = node.token("admin", name="unpublisher")
    for version in ("1.0.0", "1.1.0"):
        source = samples.npm_package(tmp_path, "fleeting", version, version.encode())
        publish(run_client, node, token, source)
    packument = f"{node.url}/npm/npm/fleeting"
    tarball = fetch(run_client, packument)["versions"]["1.1.0"]["dist"]["tarball"]
    run_client("npm", "unpublish", "fleeting@1.1.0", cwd=source)
    left = fetch(run_client, packument)
    assert (list(left["versions"]), left["dist-tags"]) == (["1.0.0"], {"latest": "1.0.0"})
    assert http_status(tarball) == 404
    (source / "data.bin").write_bytes(b"another 1.1.0")
    run_client("npm", "publish", cwd=source, status=1)  # a version stays bound to its bytes
    run_client("npm", "unpublish", "fleeting", "--force", cwd=source)
    assert http_status(packument) == 404


def converse(
    command: list[str], env: dict[str, str], folder: Path, answers: list[tuple[str, str]]
) -> str:
    """Answer a tool's prompts on a terminal; return what it wrote.  It must end with status 0."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=folder, close_fds=True
    )
    os.close(theirs)
    said, read, deadline = "", 0, time.monotonic() + PROMPT_SECONDS_MAX
    while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            said += os.read(ours, 4096).decode(errors="replace")
        except OSError:  # the tool has closed its end
            break
        if answers and answers[0][0] in said[read:]:
            read = len(said)
            os.write(ours, f"{answers.pop(0)[1]}\n".encode())
    os.close(ours)
    assert process.wait(PROMPT_SECONDS_MAX) == 0, said
    return said


def test_npm_logs_in_and_out(
    node: NodeProcess,
    client: ClientPath,
    client_env: dict[str, str],
    run_client: RunClient,
    tmp_path: Path,
) -> None:
    registry = ["--registry", f"{node.url}/npm/npm/"]
    command = [str(client("npm")), "login", "--auth-type=legacy", *registry]
    converse(
        command,
        client_env,
        tmp_path,
        [("Username:", "admin"), ("Password:", node.admin_password), ("Email", "a@example.org")],
    )
    assert run_client("npm", "whoami", *registry).strip() == "admin"
    source = samples.npm_package(tmp_path, "by-login", "1.0.0", CONTENT)
    run_client("npm", "publish", *registry, cwd=source)
    kept = (Path(client_env["HOME"]) / ".npmrc").read_text()
    run_client("npm", "logout", *registry)
    (tmp_path / ".npmrc").write_text(kept)
    env = {"npm_config_userconfig": str(tmp_path / ".npmrc")}
    run_client("npm", "whoami", *registry, env=env, status=1)  # that token is of no more use


@pytest.mark.parametrize("tool", SETTINGS)
def test_a_private_repository_asks_for_credentials(
    tool: str,
    node: NodeProcess,
    token: str,
    private_npm: str,
    run_client: RunClient,
    http_status: HttpStatus,
    tmp_path: Path,
) -> None:
    name = f"secret-{tool}"
    source = samples.npm_package(tmp_path, name, "1.0.0", CONTENT)
    paste(node, token, "npm", source, repository=private_npm)
    run_client("npm", "publish", cwd=source)
    url = f"{node.url}/npm/{private_npm}/{name}"
    assert http_status(url) == 401
    assert http_status(f"{url}/-/{name}-1.0.0.tgz") == 401
    stranger = paste(node, "wrong", tool, tmp_path / "stranger", repository=private_npm)
    run_client(tool, INSTALL[tool], name, cwd=stranger, status=1)
    consumer = paste(node, token, tool, tmp_path / "consumer", repository=private_npm)
    run_client(tool, INSTALL[tool], name, cwd=consumer)
    assert (consumer / "node_modules" / name / "data.bin").read_bytes() == CONTENT


@pytest.fixture(scope="module")
def private_npm(private: Callable[[str], str]) -> str:
    return private("npm")


def test_nobody_publishes_without_a_token(
    node: NodeProcess, run_client: RunClient, http_status: HttpStatus, tmp_path: Path
) -> None:
    source = samples.npm_package(tmp_path, "refused", "1.0.0", b"")
    paste(node, "wrong", "npm", source)
    run_client("npm", "publish", cwd=source, status=1)
    assert http_status(f"{node.url}/npm/npm/refused") == 404
