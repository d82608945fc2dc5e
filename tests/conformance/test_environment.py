"""The world that real clients are put into: nothing from outside, nothing missing unnamed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conformance import installers
from tests.conformance.conftest import ClientPath

EVERY = [
    *installers.DEBIAN,
    *installers.PYPI,
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
