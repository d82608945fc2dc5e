"""pip, uv, twine, poetry, hatch and flit: the installed bytes are what was published."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conformance import samples
from tests.conformance.conftest import HttpStatus, RunClient
from tests.conformance.installers import DEBIAN_PIP
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed

CONTENT = samples.payload(300_000)
JSON = "content-type: application/json"
TWINE = ("--non-interactive", "--disable-progress-bar")
PIP = ("--no-cache-dir", "--no-input")
PIPS = ("pip", *DEBIAN_PIP)


def index(node: NodeProcess) -> str:
    return f"{node.url}/pypi/pypi/simple/"


def legacy(node: NodeProcess) -> str:
    return f"{node.url}/pypi/pypi/legacy/"


def upload(
    run_client: RunClient, node: NodeProcess, token: str, *files: Path, status: int = 0
) -> str:
    target = ["--repository-url", legacy(node), "-u", "me", "-p", token]
    return run_client("twine", "upload", *TWINE, *target, *files, status=status)


def installed(target: Path, name: str) -> bytes:
    return (target / name / "data.bin").read_bytes()


def test_printed_settings_let_twine_publish_and_pip_install(
    node: NodeProcess,
    token: str,
    run_client: RunClient,
    client_env: dict[str, str],
    tmp_path: Path,
) -> None:
    home = Path(client_env["HOME"])
    printed(node, "twine", token).write(home, tmp_path)
    printed(node, "pip", token).write(home, tmp_path)
    wheel = samples.wheel(tmp_path, "demo-twine", "1.0", CONTENT)
    run_client("twine", "upload", *TWINE, "--repository", "atoll", wheel)
    env = {"PIP_CONFIG_FILE": str(home / ".config/pip/pip.conf")}  # read despite the clean world's
    for pip in PIPS:
        run_client(pip, "install", *PIP, "--target", tmp_path / pip, "Demo.Twine==1.0", env=env)
        assert installed(tmp_path / pip, "demo_twine") == CONTENT


def test_a_repeat_is_accepted_and_other_bytes_are_not(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    wheel = samples.wheel(tmp_path, "demo-again", "1.0", CONTENT)
    upload(run_client, node, token, wheel)
    upload(run_client, node, token, wheel)
    samples.wheel(tmp_path, "demo-again", "1.0", b"other")
    assert "File already exists" in upload(run_client, node, token, wheel, status=1)
    target = ["--publish-url", legacy(node), "-u", "me", "-p", token]
    run_client("uv", "publish", *target, "--check-url", index(node), wheel, status=2)
    run_client("pip", "install", *PIP, "-i", index(node), "--target", tmp_path / "t", "demo-again")
    assert installed(tmp_path / "t", "demo_again") == CONTENT


def test_pip_refuses_bytes_that_are_not_the_locked_ones(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    wheel = samples.wheel(tmp_path, "demo-locked", "1.0", CONTENT)
    upload(run_client, node, token, wheel)
    right, wrong = hashlib.sha256(wheel.read_bytes()).hexdigest(), hashlib.sha256(b"").hexdigest()
    arguments = [*PIP, "--index-url", index(node), "--require-hashes", "--target", tmp_path / "t"]
    (tmp_path / "wrong.txt").write_text(f"demo-locked==1.0 --hash=sha256:{wrong}\n")
    (tmp_path / "right.txt").write_text(f"demo-locked==1.0 --hash=sha256:{right}\n")
    run_client("pip", "install", *arguments, "-r", tmp_path / "wrong.txt", status=1)
    run_client("pip", "install", *arguments, "-r", tmp_path / "right.txt")
    assert installed(tmp_path / "t", "demo_locked") == CONTENT


def test_pip_reads_metadata_instead_of_the_wheel(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    upload(run_client, node, token, samples.wheel(tmp_path, "demo-meta", "1.0", CONTENT))
    arguments = [*PIP, "--dry-run", "--ignore-installed", "-v", "--index-url", index(node)]
    text = run_client("pip", "install", *arguments, "--target", tmp_path / "t", "demo-meta")
    assert ".whl.metadata" in text


def test_yanked_versions_are_skipped(
    node: NodeProcess, token: str, run_client: RunClient, http_status: HttpStatus, tmp_path: Path
) -> None:
    old = samples.wheel(tmp_path, "demo-yank", "1.0", b"one")
    new = samples.wheel(tmp_path, "demo-yank", "2.0", b"two")
    upload(run_client, node, token, old, new)
    url = f"{node.url}/pypi/pypi/yank/demo-yank/2.0"
    body = ["-X", "PUT", "-d", '{"reason":"broken"}', "-H", JSON]
    assert http_status(url, "-u", f"me:{token}", *body) == 204
    target = tmp_path / "target"
    run_client("pip", "install", *PIP, "-i", index(node), "--target", target, "demo-yank")
    assert installed(target, "demo_yank") == b"one"


def test_uv_publishes_and_installs(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    settings = printed(node, "uv", token)
    (tmp_path / "uv.toml").write_text(settings.files["uv.toml"])
    env = {**settings.exports(), "UV_NO_CONFIG": "false", "UV_CONFIG_FILE": f"{tmp_path}/uv.toml"}
    wheel = samples.wheel(tmp_path, "demo-uv", "1.0", CONTENT)
    run_client("uv", "publish", wheel, env=env)
    target = tmp_path / "target"
    arguments = ["--no-cache", "--python", sys.executable, "--target", target]
    run_client("uv", "pip", "install", *arguments, "demo-uv", env=env)
    assert installed(target, "demo_uv") == CONTENT


def project(folder: Path, name: str, requires: str, backend: str) -> Path:
    """A project whose source holds `data.bin`."""
    module = folder / name / name.replace("-", "_")
    module.mkdir(parents=True)
    (module / "__init__.py").write_text('"""A sample."""\n__version__ = "1.0"\n')
    (module / "data.bin").write_bytes(CONTENT)
    (folder / name / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1.0"\ndescription = "a sample"\n'
        f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{backend}"\n'
    )
    return folder / name


def test_poetry_publishes_and_installs(
    node: NodeProcess,
    token: str,
    run_client: RunClient,
    run_shell: RunClient,
    tmp_path: Path,
) -> None:
    source = project(tmp_path, "demo-poetry", "poetry-core", "poetry.core.masonry.api")
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "pyproject.toml").write_text(
        '[project]\nname = "c"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["demo-poetry==1.0"]\n[tool.poetry]\npackage-mode = false\n'
    )
    env = {
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "POETRY_VIRTUALENVS_IN_PROJECT": "true",
        "POETRY_VIRTUALENVS_OPTIONS_NO_PIP": "true",
    }
    run_shell(printed(node, "poetry", token).shell, cwd=consumer, env=env)
    run_client("poetry", "build", "-n", "--format", "wheel", cwd=source, env=env)
    run_client("poetry", "publish", "-n", "-r", "atoll", cwd=source, env=env)
    run_client("poetry", "install", "-n", cwd=consumer, env=env)
    (found,) = consumer.glob(".venv/lib/python*/site-packages/demo_poetry/data.bin")
    assert found.read_bytes() == CONTENT
    digest = hashlib.sha256(next(source.glob("dist/*.whl")).read_bytes()).hexdigest()
    assert digest in (consumer / "poetry.lock").read_text()


def test_hatch_and_flit_publish(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    wheel = samples.wheel(tmp_path, "demo-hatch", "1.0", CONTENT)
    target = ["-r", legacy(node), "-u", "me", "-a", token, "--no-prompt"]
    run_client("hatch", "publish", *target, wheel, cwd=tmp_path)
    source = project(tmp_path, "demo-flit", "flit_core", "flit_core.buildapi")
    env = {"FLIT_INDEX_URL": legacy(node), "FLIT_USERNAME": "me", "FLIT_PASSWORD": token}
    run_client("flit", "publish", "--no-use-vcs", cwd=source, env=env)
    names = ["demo-hatch", "demo-flit"]
    options = [*PIP, "--only-binary", ":all:", "--target", tmp_path / "t"]
    run_client("pip", "install", *options, "--index-url", index(node), *names)
    assert installed(tmp_path / "t", "demo_hatch") == CONTENT
    assert installed(tmp_path / "t", "demo_flit") == CONTENT


def test_a_private_repository_asks_for_credentials(
    node: NodeProcess,
    token: str,
    private: Callable[[str], str],
    run_client: RunClient,
    http_status: HttpStatus,
    tmp_path: Path,
) -> None:
    key = private("pypi")
    wheel = samples.wheel(tmp_path, "demo-private", "1.0", CONTENT)
    url = f"{node.url}/pypi/{key}"
    credentials = ["--repository-url", f"{url}/legacy/", "-u", "me", "-p", token]
    run_client("twine", "upload", *TWINE, *credentials, wheel)
    assert http_status(f"{url}/simple/demo-private/") == 401
    plain = [*PIP, "--target", tmp_path / "t"]
    run_client("pip", "install", *plain, "-i", f"{url}/simple/", "demo-private", status=1)
    env = printed(node, "pip", token, repository=key).exports()
    for pip in PIPS:
        into = [*PIP, "--target", tmp_path / pip]
        run_client(pip, "install", *into, "demo-private", env=env)
        assert installed(tmp_path / pip, "demo_private") == CONTENT


def test_nobody_publishes_without_a_token(
    node: NodeProcess, run_client: RunClient, http_status: HttpStatus, tmp_path: Path
) -> None:
    upload(run_client, node, "wrong", samples.wheel(tmp_path, "demo-no", "1.0", b""), status=1)
    assert http_status(f"{index(node)}demo-no/") == 404
