"""Fixtures of the conformance tests: real clients in a clean world, and real nodes for them to meet."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conformance import clients as installed
from tests.conformance import installers
from tests.conformance.machine import Machine
from tests.conformance.nodes import NodeProcess

DOCKERD_SECONDS_MAX = 30.0

CLIENT_SECONDS_MAX = 240.0
OUTPUT_TAIL = 6000  # characters of a failed client's output

ClientPath = Callable[[str], Path]
RunClient = Callable[..., str]
NewNode = Callable[..., NodeProcess]
HttpStatus = Callable[..., int]


@pytest.fixture(scope="session")
def client() -> ClientPath:
    """Give a client's path by name; skip the test, with the reason, if it cannot be had."""
    found = installed.available()

    def path(name: str) -> Path:
        entry = found[name]
        if isinstance(entry, installed.MissingClient):
            pytest.skip(f"no {name}: {entry.reason}")
        return entry.path

    return path


@pytest.fixture
def client_env(tmp_path: Path) -> dict[str, str]:
    """Make an environment with a HOME and caches of its own, and no outer configuration."""
    home = tmp_path / "home"
    temporary = tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = {
        "HOME": str(home),
        "PATH": installed.search_path(),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_PROXY": "127.0.0.1,localhost",
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_RUNTIME_DIR": str(temporary),
        "GNUPGHOME": str(home / ".gnupg"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "npm_config_globalconfig": str(home / "npmrc-global"),
        "npm_config_update_notifier": "false",
        "YARN_ENABLE_TELEMETRY": "0",
    }
    return {**environment, **_trust_store()}


def _trust_store() -> dict[str, str]:
    """Keep the machine's certificate authorities, which some of them name in the environment."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "JAVA_HOME", "NODE_EXTRA_CA_CERTS")
    return {name: os.environ[name] for name in names if name in os.environ}


@pytest.fixture
def run_client(client: ClientPath, client_env: Mapping[str, str], tmp_path: Path) -> RunClient:
    """Run a client in `client_env` and an empty folder: `run_client("twine", "upload", …)`.

    Gives its standard output, with `errors` standard error too.  Any other exit status than `status`
    fails the test and shows all of its output.
    """
    folder = tmp_path / "work"
    folder.mkdir()

    def run(
        name: str,
        *arguments: str | Path,
        cwd: Path = folder,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        status: int = 0,
        errors: bool = False,
    ) -> str:
        command = [str(client(name)), *map(str, arguments)]
        world = {**client_env, **(env or {})}
        return _finish(command, cwd, world, stdin, status, errors=errors)

    return run


@pytest.fixture
def run_shell(client_env: Mapping[str, str], tmp_path: Path) -> RunClient:
    """Run lines as a user pastes them: `run_shell("docker login …")`; the first failure ends them."""

    def run(script: str, *, cwd: Path = tmp_path, env: Mapping[str, str] | None = None) -> str:
        return _finish(["/bin/sh", "-euc", script], cwd, {**client_env, **(env or {})}, b"", 0)

    return run


def _finish(
    command: list[str],
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes,
    status: int,
    *,
    errors: bool = False,
) -> str:
    finished = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        input=stdin,
        capture_output=True,
        timeout=CLIENT_SECONDS_MAX,
        check=False,
    )
    output = finished.stdout.decode(errors="replace")
    said = f"{output}\n{finished.stderr.decode(errors='replace')}"
    if finished.returncode != status:
        text = said[-OUTPUT_TAIL:]
        name = " ".join([Path(command[0]).name, *command[1:2]])
        pytest.fail(f"`{name} …` ended with {finished.returncode}:\n{text}")
    return said if errors else output


@pytest.fixture
def machine(
    client: ClientPath, run_client: RunClient, run_shell: RunClient, tmp_path: Path
) -> Machine:
    """Make a private root that apt and dpkg install into."""
    for name in ("apt-get", "curl", "dpkg-deb"):
        client(name)
    return Machine(tmp_path / "root", run_client, run_shell)


@pytest.fixture
def http_status(run_client: RunClient) -> HttpStatus:
    """Ask with curl for the status of a URL: `http_status(url, "-u", "me:token", "-X", "DELETE")`."""

    def ask(url: str, *arguments: str | Path) -> int:
        quiet = ["-sS", "-o", os.devnull, "-w", "%{http_code}"]
        return int(run_client("curl", *quiet, *arguments, url))

    return ask


@pytest.fixture
def maven_repository(tmp_path: Path, client: ClientPath) -> Path:
    """Copy the local repository that holds Maven's own plug-ins; give it as `maven.repo.local`."""
    client("mvn")
    return Path(shutil.copytree(installers.maven_repository(), tmp_path / "m2"))


@pytest.fixture(scope="module")
def new_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewNode]:
    """Start nodes at will: `new_node("b", arguments=["--join", a.invitation()])`.

    At the end of the test file all are stopped, and each must end cleanly.
    """
    folder = tmp_path_factory.mktemp("nodes")
    started: list[NodeProcess] = []

    def start(
        name: str,
        *,
        arguments: list[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> NodeProcess:
        node = NodeProcess(folder / name, arguments=arguments or [], environment=environment)
        started.append(node)
        return node.start()

    try:
        yield start
        for node in reversed(started):
            node.stop()
    finally:
        for node in started:
            node.kill()


@pytest.fixture(scope="module")
def node(new_node: NewNode) -> NodeProcess:
    """Start the node that one test file talks to."""
    return new_node("node")


@pytest.fixture(scope="module")
def token(node: NodeProcess) -> str:
    """Make a token that publishes to that node."""
    return node.token("write")


@pytest.fixture(scope="module")
def private(node: NodeProcess) -> Callable[[str], str]:
    """Make a repository of a format that only its users see; give its key."""

    def create(format_key: str) -> str:
        key = f"private-{format_key}"
        arguments = ["--data", str(node.data), key, "--format", format_key, "--private"]
        node.command("repo", "create", *arguments)
        return key

    return create


@pytest.fixture(scope="module")
def dockerd(client: ClientPath, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Docker daemon of our own; give its DOCKER_HOST.  Skips where none can run.

    It needs no network of containers: images are pulled and pushed, never run.
    """
    command, folder = client("dockerd"), tmp_path_factory.mktemp("dockerd")
    client("docker")
    if os.geteuid() != 0:
        pytest.skip("dockerd needs root")
    host = f"unix://{folder / 'docker.sock'}"
    configuration = {
        "storage-driver": "vfs",
        "bridge": "none",
        "iptables": False,
        "data-root": str(folder / "data"),
        "exec-root": str(folder / "exec"),
        "pidfile": str(folder / "docker.pid"),
        "hosts": [host],
    }
    (folder / "daemon.json").write_text(json.dumps(configuration), "utf-8")
    log = folder / "log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [command, "--config-file", folder / "daemon.json"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _await_dockerd(daemon, client("docker"), host, log)
        yield host
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(DOCKERD_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _await_dockerd(daemon: subprocess.Popen[bytes], docker: Path, host: str, log: Path) -> None:
    deadline = time.monotonic() + DOCKERD_SECONDS_MAX
    while subprocess.run(
        [docker, "-H", host, "version"], capture_output=True, check=False
    ).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            said = log.read_text("utf-8", "replace").splitlines()[-1:]
            pytest.skip(f"dockerd does not run here: {installers.reason(''.join(said))}")
        time.sleep(0.2)
