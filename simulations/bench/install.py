"""Put the peers and the load generator in place, below the cache and never into the system.

Debian's packages are downloaded and unpacked, not installed: no daemon starts, root is not needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cli.environment import cache_directory, locked

DEVPI = ("devpi-server==6.20.3",)
PYPISERVER = ("pypiserver[cache]==2.4.2", "waitress==3.0.2")
VERDACCIO = "6.8.0"
# A dist-tag that one of Verdaccio's dependencies asks for is not everywhere: name the version.
VERDACCIO_MANIFEST = (
    '{"private":true,"dependencies":{"verdaccio":"%s"},"overrides":{"node-fetch":"2.7.0"}}'
)
# Command -> the Debian packages whose files it needs.
DEBIAN = {
    "wrk": ("wrk", "libluajit-5.1-2"),
    "nginx": ("nginx", "nginx-common"),
    "docker-registry": ("docker-registry",),
    "aria2c": ("aria2", "libaria2-0", "libc-ares2"),
    "rsync": ("rsync", "libpopt0"),
    "casync": ("casync", "libfuse2"),
    "zsync": ("zsync",),
    "zsyncmake": ("zsync",),
    "syncthing": ("syncthing",),
}
# What Go's module proxy has newer than Debian: module, version, command, build tags.
SYNCTHING = ("github.com/syncthing/syncthing", "v1.30.0", "cmd/syncthing", "noassets")
GO_MOD = "module peers\n\ngo 1.24\n\nrequire {module} {version}\n"
STAMP = ".made"  # in a folder that is whole: what it was made of
STEP_SECONDS_MAX = 900.0


class PeerMissingError(Exception):
    """A peer cannot be had here; its text says why."""


def folder() -> Path:
    """Name the folder that peers are unpacked in."""
    return cache_directory() / "bench"


def make(root: Path, recipe: str, build: Callable[[], None]) -> None:
    """Make a folder, unless this very recipe has made it whole; other processes wait meanwhile."""
    with locked(root.with_name(f"{root.name}.lock")):
        stamp = root / STAMP
        if stamp.exists() and stamp.read_text("utf-8") == recipe:
            return
        shutil.rmtree(root, ignore_errors=True)  # what was begun and not finished, or another one
        root.mkdir(parents=True)
        build()
        stamp.write_text(recipe, "utf-8")


def debian(command: str) -> Path:
    """Find a command of Debian's, or unpack its package.  Raises PeerMissingError."""
    found = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found:
        return Path(found)
    root = folder() / command

    def unpack() -> None:
        _run(["apt-get", "download", *DEBIAN[command]], cwd=root)
        for archive in sorted(root.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(archive), str(root)])
            archive.unlink()

    make(root, " ".join(DEBIAN[command]), unpack)
    for place in ("usr/bin", "usr/sbin"):
        if (root / place / command).exists():
            return root / place / command
    raise PeerMissingError(f"{command} is not in the packages {', '.join(DEBIAN[command])}")


def libraries(command: Path) -> dict[str, str]:
    """The environment that lets an unpacked command find the libraries unpacked beside it."""
    places = sorted({str(p.parent) for p in command.parents[2].glob("usr/lib/*/*.so*")})
    return {"LD_LIBRARY_PATH": ":".join(places)} if folder() in command.parents and places else {}


def python(name: str, requirements: Sequence[str]) -> Path:
    """Make a virtual environment; return its folder of scripts.  Raises PeerMissingError."""
    root = folder() / name

    def build() -> None:
        _run([sys.executable, "-m", "venv", str(root)])
        pip = [str(root / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
        _run([*pip, "--disable-pip-version-check", *requirements])

    make(root, "\n".join(requirements), build)
    return root / "bin"


def verdaccio() -> tuple[Path, Path]:
    """Install Verdaccio; return Node.js and its script.  Raises PeerMissingError."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        raise PeerMissingError("no Node.js on this machine")
    root = folder() / "verdaccio"

    def build() -> None:
        (root / "package.json").write_text(VERDACCIO_MANIFEST % VERDACCIO, "utf-8")
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        _run([npm, "install", *quiet], cwd=root)

    make(root, VERDACCIO, build)
    return Path(node), root / "node_modules" / "verdaccio" / "bin" / "verdaccio"


def go(module: str, version: str, command: str, tags: str = "") -> Path:
    """Build a command from Go's module proxy.  Raises PeerMissingError."""
    program = shutil.which("go")
    if not program:
        raise PeerMissingError("no Go on this machine")
    root = folder() / "go" / f"{command.rpartition('/')[2]}-{version}"
    built = root / command.rpartition("/")[2]

    def build() -> None:
        (root / "go.mod").write_text(GO_MOD.format(module=module, version=version), "utf-8")
        told = [program, "build", "-tags", tags, "-o", str(built), f"{module}/{command}"]
        _run(told, cwd=root, environment={"GOFLAGS": "-mod=mod -buildvcs=false"})

    make(root, f"{module} {version} {tags}", build)
    return built


def syncthing() -> Path:
    """Build a current Syncthing, or unpack Debian's.  Raises PeerMissingError."""
    try:
        return go(*SYNCTHING)
    except PeerMissingError:
        return debian("syncthing")


def size_of(root: Path) -> int:
    """Bytes of the files below a folder, compiled Python left out: it is made at the first run."""
    return sum(
        each.stat().st_size
        for each in root.rglob("*")
        if each.is_file() and not each.is_symlink() and each.suffix != ".pyc"
    )


def _run(
    command: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    try:
        subprocess.run(
            command,
            cwd=cwd,
            env=None if environment is None else {**os.environ, **environment},
            check=True,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS_MAX,
        )
    except (OSError, subprocess.SubprocessError) as error:
        told = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise PeerMissingError(f"{command[0]}: {told[-1] if told else error}") from error
