"""pip, uv, twine and poetry against a node: the installed bytes are what was published."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from tests.conformance import samples
from tests.conformance.conftest import ClientPath, RunClient
from tests.conformance.nodes import NodeProcess

CONTENT = samples.payload(300_000)


@pytest.fixture(scope="module")
def token(node: NodeProcess) -> str:
    return node.token("write")


def index(node: NodeProcess) -> str:
    return f"{node.url}/pypi/pypi/simple/"


def legacy(node: NodeProcess) -> str:
    return f"{node.url}/pypi/pypi/legacy/"


def upload(run_client: RunClient, node: NodeProcess, token: str, *files: Path, status: int = 0) -> str:
    arguments = ["--non-interactive", "--disable-progress-bar", "--repository-url", legacy(node)]
    return run_client("twine", "upload", *arguments, "-u", "me", "-p", token, *files, status=status)


def installed(target: Path, name: str) -> bytes:
    return (target / name / "data.bin").read_bytes()


def test_twine_publishes_and_pip_installs(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    upload(run_client, node, token, samples.wheel(tmp_path, "demo-twine", "1.0", CONTENT))
    target = tmp_path / "target"
    arguments = ["--no-cache-dir", "--index-url", index(node), "--target", target]
    run_client("pip", "install", *arguments, "Demo.Twine==1.0")
    assert installed(target, "demo_twine") == CONTENT


def test_a_repeat_is_accepted_and_other_bytes_are_not(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    wheel = samples.wheel(tmp_path, "demo-again", "1.0", CONTENT)
    upload(run_client, node, token, wheel)
    upload(run_client, node, token, wheel)
    samples.wheel(tmp_path, "demo-again", "1.0", b"other")
    upload(run_client, node, token, wheel, status=1)
    skip = ["--skip-existing", "--non-interactive", "--repository-url", legacy(node)]
    run_client("twine", "upload", *skip, "-u", "me", "-p", token, wheel)


def test_pip_reads_metadata_instead_of_the_wheel(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    upload(run_client, node, token, samples.wheel(tmp_path, "demo-meta", "1.0", CONTENT))
    arguments = ["--dry-run", "--no-cache-dir", "--ignore-installed", "-v", "--index-url", index(node)]
    text = run_client("pip", "install", *arguments, "--target", tmp_path / "t", "demo-meta")
    assert ".whl.metadata" in text


def test_yanked_versions_are_skipped(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    old = samples.wheel(tmp_path, "demo-yank", "1.0", b"one")
    new = samples.wheel(tmp_path, "demo-yank", "2.0", b"two")
    upload(run_client, node, token, old, new)
    url = f"{node.url}/pypi/pypi/yank/demo-yank/2.0"
    body = ["-X", "PUT", "-d", '{"reason":"broken"}', "-H", "content-type: application/json"]
    run_client("curl", "-sS", "--fail-with-body", "-u", f"me:{token}", *body, url)
    target = tmp_path / "target"
    run_client(
        "pip", "install", "--no-cache-dir", "--index-url", index(node), "--target", target, "demo-yank"
    )
    assert installed(target, "demo_yank") == b"one"


def test_uv_publishes_and_installs(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    wheel = samples.wheel(tmp_path, "demo-uv", "1.0", CONTENT)
    run_client("uv", "publish", "--publish-url", legacy(node), "-u", "me", "-p", token, wheel)
    target = tmp_path / "target"
    arguments = ["--no-cache", "--python", sys.executable, "--index-url", index(node)]
    run_client("uv", "pip", "install", *arguments, "--target", target, "demo-uv")
    assert installed(target, "demo_uv") == CONTENT


def test_poetry_publishes_and_installs(
    node: NodeProcess,
    token: str,
    run_client: RunClient,
    client: ClientPath,
    client_env: dict[str, str],
    tmp_path: Path,
) -> None:
    project = tmp_path / "project"
    (project / "demo_poetry").mkdir(parents=True)
    (project / "demo_poetry" / "__init__.py").write_text("")
    (project / "demo_poetry" / "data.bin").write_bytes(CONTENT)
    (project / "pyproject.toml").write_text(
        '[tool.poetry]\nname = "demo-poetry"\nversion = "1.0"\ndescription = ""\nauthors = []\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    )
    env = {
        "POETRY_REPOSITORIES_NODE_URL": legacy(node),
        "POETRY_HTTP_BASIC_NODE_USERNAME": "me",
        "POETRY_HTTP_BASIC_NODE_PASSWORD": token,
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }
    run_client("poetry", "build", "--no-interaction", "--format", "wheel", cwd=project, env=env)
    run_client("poetry", "publish", "--no-interaction", "-r", "node", cwd=project, env=env)
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "pyproject.toml").write_text(
        '[tool.poetry]\nname = "c"\nversion = "1"\ndescription = ""\nauthors = []\n'
        'package-mode = false\n[tool.poetry.dependencies]\npython = ">=3.11"\ndemo-poetry = "1.0"\n'
        f'[[tool.poetry.source]]\nname = "node"\nurl = "{index(node)}"\npriority = "primary"\n'
    )
    inside = {"POETRY_VIRTUALENVS_IN_PROJECT": "true", **env}
    run_client("poetry", "install", "--no-interaction", cwd=consumer, env=inside)
    (found,) = consumer.glob(".venv/lib/python*/site-packages/demo_poetry/data.bin")
    assert found.read_bytes() == CONTENT
    digest = hashlib.sha256(next(project.glob("dist/*.whl")).read_bytes()).hexdigest()
    assert digest in (consumer / "poetry.lock").read_text()


def test_a_private_repository_asks_for_credentials(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    node.command("repo", "create", "--data", str(node.data), "wheels", "--format", "pypi", "--private")
    wheel = samples.wheel(tmp_path, "demo-private", "1.0", CONTENT)
    url = f"{node.url}/pypi/wheels"
    arguments = ["--non-interactive", "--repository-url", f"{url}/legacy/", "-u", "me", "-p", token]
    run_client("twine", "upload", *arguments, wheel)
    plain = ["--no-cache-dir", "--no-input", "--target", tmp_path / "t"]
    run_client("pip", "install", *plain, "--index-url", f"{url}/simple/", "demo-private", status=1)
    secret = url.replace("://", f"://me:{token}@")
    run_client("pip", "install", *plain, "--index-url", f"{secret}/simple/", "demo-private")
    assert installed(tmp_path / "t", "demo_private") == CONTENT
