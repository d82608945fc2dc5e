"""Real pairs of versions for B11, from their own registries by their own clients.

They are kept in the cache of the benchmarks.  The layers are a tar of what an installed wheel is,
packed by Go's gzip as Docker and BuildKit do, and by zlib's.
"""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from simulations.bench import install
from simulations.lab.net import LabError

STEP_MAX = 600.0  # seconds for a registry's client
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
GO_PACK = """package main

import (
	"compress/gzip"
	"io"
	"log"
	"os"
)

func main() {
	out := gzip.NewWriter(os.Stdout)
	if _, err := io.Copy(out, os.Stdin); err != nil {
		log.Fatal(err)
	}
	if err := out.Close(); err != nil {
		log.Fatal(err)
	}
}
"""
Pair = tuple[Path, Path]


def wheels(folder: Path, old: str, new: str) -> Pair:
    """Two wheels of one platform, by pip."""
    options = ["--no-deps", "--only-binary=:all:", "--platform=manylinux2014_x86_64"]
    options += ["--python-version=3.11", "--quiet", "--disable-pip-version-check"]
    for each in (old, new):
        place = folder / each
        pip = [sys.executable, "-m", "pip", "download", *options, "-d", str(place), each]
        step(pip, folder)
    return only(folder / old), only(folder / new)


def tarballs(folder: Path, old: str, new: str) -> Pair:
    """Two npm tarballs, by npm."""
    for each in (old, new):
        (folder / each).mkdir(parents=True, exist_ok=True)
        step(["npm", "pack", "--silent", each], folder / each)
    return only(folder / old), only(folder / new)


def packages(folder: Path, old: str, new: str) -> Pair:
    """Two Debian packages, by apt."""
    for each in (old, new):
        place = folder / each.replace(":", "-")
        place.mkdir(parents=True, exist_ok=True)
        step(["apt-get", "download", each], place)
    return only(folder / old.replace(":", "-")), only(folder / new.replace(":", "-"))


def jars(folder: Path, old: str, new: str) -> Pair:
    """Two jars of one artifact, by Maven."""
    for each in (old, new):
        place = folder / each.replace(":", "-")
        maven = ["mvn", "-B", "-q", f"-Dmaven.repo.local={folder.parent / 'maven'}", MAVEN_COPY]
        step([*maven, f"-Dartifact={each}", f"-DoutputDirectory={place}"], place)
    return only(folder / old.replace(":", "-")), only(folder / new.replace(":", "-"))


def layers(folder: Path, old: str, new: str) -> Pair:
    """Two image layers: what the wheels install, sorted, as tar and gzip by zlib."""
    return _layers(folder, old, new, ".tar.gz", zlib_packed)


def go_layers(folder: Path, old: str, new: str) -> Pair:
    """Two image layers, packed by Go."""
    return _layers(folder, old, new, ".go.tar.gz", go_packed)


def _layers(
    folder: Path, old: str, new: str, suffix: str, packed: Callable[[Path, Path], None]
) -> Pair:
    found = []
    for wheel in wheels(folder, old, new):
        layer = wheel.with_suffix(suffix)
        if not layer.exists():
            bare, part = wheel.with_suffix(".tar"), wheel.with_suffix(".part")
            pack(wheel, bare)
            packed(bare, part)
            bare.unlink()
            part.rename(layer)
        found.append(layer)
    return found[0], found[1]


def zlib_packed(bare: Path, layer: Path) -> None:
    """Pack a tar by zlib, as builders in Python do."""
    with bare.open("rb") as source, gzip.GzipFile(layer, "wb", compresslevel=6, mtime=0) as out:
        shutil.copyfileobj(source, out)


def go_packed(bare: Path, layer: Path) -> None:
    """Pack a tar by Go's compress/gzip.  Raises LabError."""
    program = shutil.which("go")
    if not program:
        raise LabError("no Go on this machine")
    root = install.folder() / "gopack"
    if not (root / "gopack").exists():
        root.mkdir(parents=True, exist_ok=True)
        (root / "go.mod").write_text("module gopack\n\ngo 1.24\n", "utf-8")
        (root / "main.go").write_text(GO_PACK, "utf-8")
        subprocess.run(
            [program, "build", "-buildvcs=false", "-o", "gopack", "."],
            cwd=root,
            check=True,
            timeout=STEP_MAX,
        )
    with bare.open("rb") as source, layer.open("wb") as out:
        subprocess.run([root / "gopack"], stdin=source, stdout=out, check=True, timeout=STEP_MAX)


def pack(wheel: Path, layer: Path) -> None:
    """Make a tar of a wheel's files."""
    with zipfile.ZipFile(wheel) as files, tarfile.open(layer, "w") as archive:
        for name in sorted(files.namelist()):
            data = files.read(name)
            entry = tarfile.TarInfo(f"usr/lib/python3/site-packages/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def step(command: list[str], place: Path) -> None:
    """Run a registry's client.  Raises LabError."""
    place.mkdir(parents=True, exist_ok=True)
    if any(each.is_file() for each in place.iterdir()):
        return
    try:
        subprocess.run(
            command, cwd=place, check=True, capture_output=True, text=True, timeout=STEP_MAX
        )
    except (OSError, subprocess.SubprocessError) as error:
        told = str(getattr(error, "stderr", "") or error).strip()[-300:]
        raise LabError(f"{command[0]}: {told}") from error


def only(folder: Path) -> Path:
    """Return the one archive of a folder.  Raises LabError."""
    made = (".tar.gz", ".tar", ".part")
    found = sorted(each for each in folder.iterdir() if not each.name.endswith(made))
    if not found:
        raise LabError(f"nothing in {folder.name}")
    return found[0]


PAIRS: dict[str, tuple[Callable[[Path, str, str], Pair], str, str]] = {
    "wheel numpy 2.2.0 → 2.2.1": (wheels, "numpy==2.2.0", "numpy==2.2.1"),
    "wheel botocore 1.35.0 → 1.35.5": (wheels, "botocore==1.35.0", "botocore==1.35.5"),
    "npm typescript 5.6.2 → 5.6.3": (tarballs, "typescript@5.6.2", "typescript@5.6.3"),
    ".deb git deb12u2 → deb12u3": (
        packages,
        "git=1:2.39.5-0+deb12u2",
        "git=1:2.39.5-0+deb12u3",
    ),
    "jar commons-lang3 3.15.0 → 3.16.0": (
        jars,
        "org.apache.commons:commons-lang3:3.15.0",
        "org.apache.commons:commons-lang3:3.16.0",
    ),
    "jar spring-core 6.1.10 → 6.1.11": (
        jars,
        "org.springframework:spring-core:6.1.10",
        "org.springframework:spring-core:6.1.11",
    ),
    "layer by Go with numpy 2.2.0 → 2.2.1": (go_layers, "numpy==2.2.0", "numpy==2.2.1"),
    "layer by zlib with numpy 2.2.0 → 2.2.1": (layers, "numpy==2.2.0", "numpy==2.2.1"),
}
