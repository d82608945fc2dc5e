"""Start every registry as a process of its own, tuned for the work, with its version on record."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.environment import ROOT
from simulations.bench import install
from simulations.bench.client import AnswerError, call

CLI = (sys.executable, "-m", "cli")
START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 15.0
POLL_SECONDS = 0.005
PASSWORD = "bench-only"  # of servers that live for a few minutes on loopback

VERDACCIO_CONFIG = """\
storage: {storage}
uplinks: {{}}
packages: {{'**': {{access: $all, publish: $all}}}}
web: {{enable: false}}
max_body_size: 200mb
log: {{type: stdout, format: json, level: error}}
"""
REGISTRY_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  cache: {{blobdescriptor: inmemory}}
http: {{addr: "127.0.0.1:{port}"}}
"""
NGINX_CONFIG = """\
daemon off; master_process on; worker_processes 1; pid {work}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  open_file_cache max=100; default_type application/octet-stream;
  client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  server {{ listen 127.0.0.1:{port}; root {storage}; }}
}}
"""


@dataclass(slots=True)
class Server:
    """A registry that can be started, stopped and started again on the same data."""

    name: str
    version: str
    command: Sequence[str]
    environment: Mapping[str, str]
    url: str  # empty: told by the process itself
    probe: str  # the path that answers when it is ready
    work: Path
    config: str  # published beside the figures
    size: int  # bytes it occupies where it is installed
    process: subprocess.Popen[bytes] | None = None
    told: bool = False  # whether the URL is what the process said

    @property
    def running(self) -> Sequence[Server]:
        """The servers behind this name that run: itself."""
        return [self] if self.process is not None else []

    @property
    def data(self) -> Path:
        """The folder that everything it keeps lies in."""
        return self.work / "data"

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        if self.process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self.process.pid

    def start(self) -> float:
        """Start it; return the seconds until its first answer.  Raises PeerMissingError."""
        began = time.monotonic()
        output = self.work / "output"
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                list(self.command),
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while not self._answers(output):
            if self.process.poll() is not None or time.monotonic() - began > START_SECONDS_MAX:
                tail = output.read_text("utf-8", "replace")[-1000:]
                self.stop()
                raise install.PeerMissingError(f"{self.name} did not start: {tail}")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def _answers(self, output: Path) -> bool:
        if not self.url or self.told:
            ready = re.search(rb"^atoll: ready (http://\S+)$", output.read_bytes(), re.MULTILINE)
            if ready is None:
                return False
            self.url, self.told = ready[1].decode().rstrip("/"), True
        try:
            call("GET", self.url + self.probe)
        except (AnswerError, OSError):
            return False
        return True

    def wipe(self) -> None:
        """Let it begin anew, without anything that it kept.  Raises PeerMissingError."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        self.start()

    def stop(self) -> None:
        """End it and its children."""
        if self.process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(STOP_SECONDS_MAX)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.process = None


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _output(*command: str | Path) -> str:
    finished = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=60, check=False
    )
    return (finished.stdout + finished.stderr).strip()


# --- each of them -------------------------------------------------------------------------------
def atoll(work: Path) -> Server:
    """Our node with its defaults; only the limit on writes is lifted, for publishing."""
    command = [*CLI, "up", "--data", str(work / "data")]
    command += ["--http", "127.0.0.1:0", "--mesh", "127.0.0.1:0"]
    environment = {
        "PYTHONPATH": str(ROOT),
        "ATOLL_ADMIN_PASSWORD": PASSWORD,
        "ATOLL_ACCESS_WRITES_PER_MINUTE": "1000000",
        "ATOLL_UPSTREAM_ALLOW": "127.0.0.0/8",
    }
    told = _output("git", "-C", ROOT, "describe", "--always", "--dirty")
    revision = "unknown" if " " in told else told  # not a checkout: git explains why
    version = f"{revision}, Python {sys.version.split()[0]}"
    shown = "defaults; ATOLL_ACCESS_WRITES_PER_MINUTE=1000000 for publishing, "
    shown += "ATOLL_UPSTREAM_ALLOW=127.0.0.0/8 for upstreams on loopback"
    size = requirements_size()
    return Server("atoll", version, command, environment, "", "/livez", work, shown, size)


def requirements_size() -> int:
    """Bytes of our own source and of every pinned library, as they are installed here."""
    from importlib import metadata

    text = (ROOT / "requirements.txt").read_text("utf-8")
    total = sum(install.size_of(ROOT / n) for n in ("node", "mesh", "formats", "store", "cli"))
    for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE):
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue  # a pin for another Python or platform
        for each in files:
            place = Path(str(each.locate()))
            total += place.stat().st_size if place.suffix != ".pyc" and place.exists() else 0
    return total


def devpi(work: Path) -> Server:
    """devpi-server without a mirror of PyPI."""
    scripts, port = install.python("devpi", install.DEVPI), free_port()
    data = work / "data"
    _output(
        scripts / "devpi-init", "--serverdir", data, "--no-root-pypi", "--root-passwd", PASSWORD
    )
    options = ["--serverdir", str(data), "--host", "127.0.0.1", "--port", str(port)]
    more = ["--threads", "32", "--max-request-body-size", str(4 << 30)]  # 1 GiB is its own bound
    command = [str(scripts / "devpi-server"), *options, *more]
    shown = "devpi-init --no-root-pypi; devpi-server " + " ".join(more)
    url = f"http://127.0.0.1:{port}"
    version = install.DEVPI[0].partition("==")[2]
    size = install.size_of(install.folder() / "devpi" / "lib")
    return Server("devpi", version, command, {}, url, "/+api", work, shown, size)


def pypiserver(work: Path) -> Server:
    """Pypiserver with its cache of file hashes, under waitress."""
    scripts, port = install.python("pypiserver", install.PYPISERVER), free_port()
    data = work / "data"
    data.mkdir()
    options = ["--server", "auto", "--backend", "cached-dir", "--disable-fallback"]
    where = ["-i", "127.0.0.1", "-p", str(port), "-a", ".", "-P", "."]
    command = [str(scripts / "pypi-server"), "run", *options, *where, str(data)]
    shown = f"pypi-server run {' '.join(options)}, waitress installed"
    url = f"http://127.0.0.1:{port}"
    size = install.size_of(install.folder() / "pypiserver" / "lib")
    return Server("pypiserver", "2.4.2", command, {}, url, "/", work, shown, size)


def verdaccio(work: Path, name: str = "verdaccio", template: str = VERDACCIO_CONFIG) -> Server:
    """Verdaccio without web pages and request log."""
    (node, script), port = install.verdaccio(), free_port()
    config = work / "config.yaml"
    config.write_text(template.format(storage=work / "data"), "utf-8")
    command = [str(node), str(script), "--config", str(config), "--listen", f"127.0.0.1:{port}"]
    size = install.size_of(install.folder() / "verdaccio" / "node_modules")
    version = f"{install.VERDACCIO}, Node.js {_output(node, '--version')} (not in its size)"
    shown = template.format(storage="…")
    url = f"http://127.0.0.1:{port}"
    environment = {"NODE_ENV": "production"}
    return Server(name, version, command, environment, url, "/-/ping", work, shown, size)


def registry(work: Path) -> Server:
    """Docker's registry over its file system driver, without an access log."""
    program, port = install.debian("docker-registry"), free_port()
    config = work / "config.yaml"
    config.write_text(REGISTRY_CONFIG.format(storage=work / "data", port=port), "utf-8")
    command = [str(program), "serve", str(config)]
    version = _output(program, "--version").split()[-1]
    shown = REGISTRY_CONFIG.format(storage="…", port=0)
    url, size = f"http://127.0.0.1:{port}", program.stat().st_size
    return Server("docker-registry", version, command, {}, url, "/v2/", work, shown, size)


def nginx(work: Path, name: str = "nginx", template: str = NGINX_CONFIG) -> Server:
    """Nginx with one worker; as it comes, over a folder of files: the floor."""
    program, port = install.debian("nginx"), free_port()
    data = work / "data"
    data.mkdir()
    (data / "ready").write_text("ready\n", "utf-8")
    work.chmod(0o755)
    data.chmod(0o755)
    config = work / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    config.write_text(user + template.format(work=work, storage=data, port=port), "utf-8")
    command = [str(program), "-c", str(config), "-p", str(work), "-e", "stderr"]
    version = _output(program, "-v").rpartition("/")[2]
    shown = template.format(work="…", storage="…", port=0)
    url, size = f"http://127.0.0.1:{port}", program.stat().st_size
    environment = install.libraries(program)
    return Server(name, version, command, environment, url, "/ready", work, shown, size)


SERVERS: dict[str, Callable[[Path], Server]] = {
    "atoll": atoll,
    "devpi": devpi,
    "pypiserver": pypiserver,
    "verdaccio": verdaccio,
    "docker-registry": registry,
    "nginx": nginx,
}
