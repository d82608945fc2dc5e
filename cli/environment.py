"""Prepare the Python environment that Atoll runs in, and enter it.

A clean clone has nothing but a Python.  Its first command makes a virtual environment outside the
tree, installs the pinned libraries and starts itself again inside; later ones find it ready.
Only the standard library is imported here, and nothing of ours.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ROOT / "requirements.txt"
DEVELOPMENT = ROOT / "requirements-dev.txt"
PYTHON_MIN = (3, 11)
READY = "atoll-ready"  # its presence says that the installation ran to its end
OUTPUT_TAIL_LINES_MAX = 30  # of a failed command, shown to the user

LAUNCHER = """\
#!{python}
import sys

sys.path.insert(0, {root!r})
from cli.environment import keep_bytecode

keep_bytecode()
from cli.main import main

main()
"""


def cache_directory() -> Path:
    """Name the folder for what can be made again: environments, installed test clients."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "atoll"


def keep_bytecode() -> None:
    """Keep compiled modules in the cache folder where they cannot lie beside their sources.

    That is: where PYTHONDONTWRITEBYTECODE forbids it, or a checkout is not ours to write to.  To
    compile everything anew takes twice as long as all the rest of a node's start.
    """
    beside = Path(importlib.util.cache_from_source(__file__))  # written by now, if it may be
    if sys.pycache_prefix is None and (sys.dont_write_bytecode or not beside.exists()):
        with suppress(RuntimeError):  # who has no home compiles anew
            sys.pycache_prefix = str(cache_directory() / "bytecode")
            sys.dont_write_bytecode = False


def enter(requirements: Path, module: str) -> None:
    """Return inside an environment that holds the pins; elsewhere, run `module` again in one.

    A caller whose own environment already holds every pin stays where it is.
    """
    if sys.version_info[:2] < PYTHON_MIN:
        _stop(f"Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer is needed")
    if _satisfied(requirements):
        return
    python = prepare(requirements)
    if Path(sys.prefix) == python.parent.parent:
        _stop(f"{sys.prefix} lost libraries; delete it and try again")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(python, [str(python), "-m", module, *sys.argv[1:]])  # noqa: S606  our own interpreter and arguments


def prepare(requirements: Path) -> Path:
    """Make the environment of one requirements file unless it is there; return its Python.

    Concurrent callers wait for the first.  One that was killed half-way is made anew.
    """
    target = _environment(requirements)
    python = target / "bin" / "python"
    if not (target / READY).exists():
        with locked(target.with_name(target.name + ".lock")):
            if not (target / READY).exists():
                _build(target, requirements)
    _write_launcher(target)
    return python


def pins(requirements: Path) -> Iterator[tuple[str, str, bool]]:
    """List each pin as (name, version, conditional), files included by `-r` first."""
    for line in requirements.read_text("utf-8").splitlines():
        if line.startswith("-r "):
            yield from pins(requirements.parent / line[3:].strip())
        elif match := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)\s*(;)?", line):
            yield match[1], match[2], match[3] is not None


def _satisfied(requirements: Path) -> bool:
    """Tell whether this interpreter's own libraries are the pinned ones.

    A conditional pin (`; python_version …`) may be absent, and any of its versions will do.
    """
    accepted: dict[str, set[str]] = {}
    optional: set[str] = set()
    for name, version, conditional in pins(requirements):
        accepted.setdefault(name, set()).add(version)
        if conditional:
            optional.add(name)
    named = _named()
    for name, versions in accepted.items():
        if named.get(_plain(name)) in versions:
            continue
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name not in optional:
                return False
        else:
            if installed not in versions:
                return False
    return True


def _named() -> dict[str, str]:
    """Versions of the libraries, as the names of their folders tell them.

    Reading their metadata instead would take a tenth of a second of every start.
    """
    found: dict[str, str] = {}
    for folder in reversed(sys.path):  # the first one counts
        with suppress(OSError):
            for entry in Path(folder).glob("*.dist-info"):
                name, _, version = entry.name.removesuffix(".dist-info").partition("-")
                found[_plain(name)] = version
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _environment(requirements: Path) -> Path:
    """Name the environment by interpreter and pins, so that neither can change under it."""
    text = repr((sys.base_prefix, sorted(pins(requirements))))
    version = ".".join(str(part) for part in sys.version_info[:3])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return cache_directory() / f"env-{version}-{key}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; say so when another process makes us wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"waiting for another process that prepares {path.with_suffix('')}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(target: Path, requirements: Path) -> None:
    _say(f"preparing Python libraries in {target} (once, about half a minute)")
    shutil.rmtree(target, ignore_errors=True)
    _ensure_venv()
    _run([sys.executable, "-m", "venv", str(target)])
    # Bytecode is left to the first import of each module: compiling all of it takes as long again.
    pip = [str(target / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    _run([*pip, "--no-input", "--no-compile", "--quiet", "--requirement", str(requirements)])
    (target / READY).write_text(requirements.name + "\n")
    _say("Python libraries are ready")


def _ensure_venv() -> None:
    """Have Debian's package of `venv`, which its Python comes without."""
    if importlib.util.find_spec("ensurepip"):
        return
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    install = ["apt-get", "install", "-y", "--no-install-recommends", package]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        _stop(f"Python's venv module is missing; run once: sudo {' '.join(install)}")
    _say(f"installing {package}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update"], environment)
    _run(install, environment)


def _write_launcher(target: Path) -> None:
    """Put `atoll` beside the environment's Python; it runs the checkout that entered last."""
    launcher = target / "bin" / "atoll"
    text = LAUNCHER.format(python=target / "bin" / "python", root=str(ROOT))
    if launcher.exists() and launcher.read_text("utf-8") == text:
        return
    draft = launcher.with_name(f"atoll.{os.getpid()}")
    draft.write_text(text, "utf-8")
    draft.chmod(0o755)
    draft.replace(launcher)


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Run a command that must succeed; its output is shown only if it does not."""
    finished = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        check=False,
    )
    if finished.returncode:
        lines = finished.stdout.decode(errors="replace").splitlines()
        sys.stderr.write("\n".join([*lines[-OUTPUT_TAIL_LINES_MAX:], ""]))
        _stop(f"`{' '.join(command)}` failed with status {finished.returncode}")


def _say(text: str) -> None:
    sys.stderr.write(f"atoll: {text}\n")
    sys.stderr.flush()


def _stop(text: str) -> NoReturn:
    sys.exit(f"atoll: {text}")
