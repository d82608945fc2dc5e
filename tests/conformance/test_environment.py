"""The world that real clients are put into: nothing from outside, nothing missing unnamed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conformance import installers
from tests.conformance.conftest import ClientPath, RunClient
from tests.conformance.installers import MAVEN_DEPENDENCY, MAVEN_DEPLOY, MAVEN_SAMPLE

EVERY = [
    *installers.DEBIAN,
    *installers.PYPI,
    *installers.DEBIAN_PIP,
    *installers.NPM,
    *installers.GO,
    "node",
    "npm",
    "ivy",
]


@pytest.mark.parametrize("name", EVERY)
def test_every_client_runs(name: str, client: ClientPath) -> None:
    assert os.access(client(name), os.X_OK)


def test_a_client_sees_its_own_home(client: ClientPath, client_env: dict[str, str]) -> None:
    finished = subprocess.run(
        [client("npm"), "config", "get", "cache"],
        env=client_env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(finished.stdout.strip()).is_relative_to(client_env["HOME"])


def test_dockerd_answers(client: ClientPath, client_env: dict[str, str], dockerd: str) -> None:
    finished = subprocess.run(
        [client("docker"), "info", "--format", "{{.Driver}}"],
        env={**client_env, "DOCKER_HOST": dockerd},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.strip() == "vfs"


def test_maven_finds_its_plug_ins_in_the_copy(
    run_client: RunClient, maven_repository: Path, tmp_path: Path
) -> None:
    before = sum(1 for _ in maven_repository.rglob("*.jar"))
    jar = tmp_path / "sample.jar"
    jar.write_bytes(b"PK\x05\x06" + bytes(18))  # an empty zip archive
    target = (tmp_path / "remote").as_uri()
    options = ["-B", "-q", f"-Dmaven.repo.local={maven_repository}"]
    coordinates = ["-DgroupId=org.example", "-DartifactId=sample", "-Dversion=1.0", f"-Dfile={jar}"]
    run_client("mvn", *options, f"{MAVEN_DEPLOY}:deploy-file", *coordinates, f"-Durl={target}")
    stored = tmp_path / "remote" / "org" / "example" / "sample" / "1.0" / "sample-1.0.jar"
    assert stored.read_bytes() == jar.read_bytes()
    run_client("mvn", "-o", *options, f"{MAVEN_DEPENDENCY}:get", f"-Dartifact={MAVEN_SAMPLE}")
    assert sum(1 for _ in maven_repository.rglob("*.jar")) == before
