"""R4: what pip, npm, skopeo and apt need for their work, with empty caches and then full ones."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from simulations.bench import payloads, publishing
from simulations.bench.client import AnswerError, Client, call
from simulations.bench.figures import Bench, turned
from simulations.bench.measuring import sample
from simulations.bench.publishing import ADMIN, BINARY
from simulations.bench.servers import Server
from simulations.bench.summary import Sample
from tests.conformance import clients
from tests.conformance.machine import Machine

VERSION = "1.0.0"
FILE_SIZE = 20_000  # bytes of noise in a package
LAYERS = 8
TAG = "large"
PUBLISHERS = 8  # at a time
SUITE = "dists/stable"
SECONDS_MAX = 1800.0
LISTED = re.compile(r"^ ([0-9a-f]{64}) +(\d+) (\S+)$", re.MULTILINE)
Run = Callable[[Path, Server], None]  # in a folder of one client and one server


@dataclass(frozen=True, slots=True)
class Work:
    """One client's work: who serves it, and how it is done in a folder that has caches."""

    case: str
    servers: tuple[str, ...]
    publish: Callable[[Bench, Server], None]
    run: Callable[[Bench, Path, Server], None]
    client: str


def prepare(bench: Bench) -> None:
    """Publish what the clients are going to ask for."""
    for work in works(bench):
        for server in bench.has(*work.servers):
            began = time.monotonic()
            work.publish(bench, server)
            took = time.monotonic() - began
            bench.note(f"R4 {work.case}: {server.name} has it after {took:.0f} s")


def installs(bench: Bench, round_: int) -> Iterator[Sample]:
    """R4: every client before every server that speaks its protocol, cold and then warm."""
    found = clients.available()
    for work in works(bench):
        client = found.get(work.client)
        if isinstance(client, clients.MissingClient):
            bench.note(f"R4 {work.case} is left out: no {work.client}: {client.reason}")
            continue
        for server in turned(bench.has(*work.servers), round_):
            folder = bench.work / f"{work.client}-{server.name}-{round_}"
            folder.mkdir()
            for state in ("cold", "warm"):
                do = partial(_timed, partial(work.run, bench, folder, server))
                each = sample("R4", f"{work.case}, {state}", server.name, round_, server, do)
                each.values["spent_seconds"] = each.values["server_cpu_seconds"]
                yield each
            shutil.rmtree(folder)


def _timed(do: Callable[[], None]) -> dict[str, float]:
    began = time.monotonic()
    do()
    return {"seconds": time.monotonic() - began}


def works(bench: Bench) -> list[Work]:
    """Everything, at the sizes of this run."""
    sizes = bench.sizes
    return [
        Work(f"pip install, {sizes.wheels} wheels", ("devpi", "atoll"), wheels, pip, "pip"),
        Work(f"npm ci, {sizes.modules} packages", ("verdaccio", "atoll"), modules, npm, "npm"),
        Work(
            f"skopeo copy, {bench.label(sizes.large)}",
            ("docker-registry", "atoll"),
            image,
            skopeo,
            "skopeo",
        ),
        Work(f"apt-get update, {sizes.debs:,} packages", ("atoll", "nginx"), debs, apt, "apt-get"),
    ]


def finish(folder: Path, name: str, *arguments: str | Path, **environment: str) -> str:
    """Run a client with a home of its own.  Raises AnswerError with the end of what it said."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    world = {
        "HOME": str(home),
        "PATH": f"{clients.search_path()}:{os.environ.get('PATH', '')}",
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1",
        **environment,
    }
    done = subprocess.run(
        [name, *map(str, arguments)],
        cwd=folder,
        env=world,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS_MAX,
        check=False,
    )
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        raise AnswerError(f"{name} ended with {done.returncode}: {text[-600:]}")
    return text


def _fresh(place: Path) -> Path:
    """A folder that holds nothing: the result of a client that shall work anew."""
    shutil.rmtree(place, ignore_errors=True)
    return place


# --- pip ----------------------------------------------------------------------------------------
def _project(number: int) -> str:
    return f"many{number:04d}"


def wheels(bench: Bench, server: Server) -> None:
    """Wheels of as many projects."""
    names = [_project(number) for number in range(bench.sizes.wheels)]
    publishing.wheels(server, [payloads.wheel(VERSION, FILE_SIZE, name) for name in names])


def pip(bench: Bench, folder: Path, server: Server) -> None:
    """Install them all into an empty folder."""
    index = publishing.simple_page(server).removesuffix(f"/{payloads.PROJECT}/")
    names = [_project(number) for number in range(bench.sizes.wheels)]
    options = ["--no-deps", "--no-input", "--disable-pip-version-check", "--no-compile"]
    places: list[str | Path] = [
        "--target",
        _fresh(folder / "target"),
        "--cache-dir",
        folder / "cache",
    ]
    settings = {"PIP_CONFIG_FILE": os.devnull}
    finish(folder, "pip", "install", *options, *places, "-i", f"{index}/", *names, **settings)
    if len(list((folder / "target").glob("many*.bin"))) != len(names):
        raise AnswerError("pip did not install everything")


# --- npm ----------------------------------------------------------------------------------------
def modules(bench: Bench, server: Server) -> None:
    """One version of many packages."""
    for number in range(bench.sizes.modules):
        publishing.npm(server, _project(number), [VERSION], FILE_SIZE)


def npm(bench: Bench, folder: Path, server: Server) -> None:
    """Install a lock file into a folder without ``node_modules``."""
    base = publishing.npm_base(server)
    project = folder / "project"
    if not project.exists():
        project.mkdir()
        names = [_project(number) for number in range(bench.sizes.modules)]
        (project / "package.json").write_text(json.dumps(_manifest(names)), "utf-8")
        (project / "package-lock.json").write_text(json.dumps(_lock(names, base)), "utf-8")
    _fresh(project / "node_modules")
    options: list[str | Path] = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", project]
    places: list[str | Path] = ["--registry", f"{base}/", "--cache", folder / "cache"]
    finish(folder, "npm", "ci", *options, *places, npm_config_update_notifier="false")
    if len(list((project / "node_modules").glob("many*/noise.bin"))) != bench.sizes.modules:
        raise AnswerError("npm did not install everything")


def _manifest(names: list[str]) -> dict[str, object]:
    return {"name": "consumer", "version": VERSION, "dependencies": dict.fromkeys(names, VERSION)}


def _lock(names: list[str], base: str) -> dict[str, object]:
    packages: dict[str, object] = {"": _manifest(names)}
    for name in names:
        data = payloads.tarball(name, VERSION, FILE_SIZE)
        packages[f"node_modules/{name}"] = {
            "version": VERSION,
            "resolved": f"{base}/{name}/-/{name}-{VERSION}.tgz",
            "integrity": "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode(),
        }
    return {**_manifest(names), "lockfileVersion": 3, "requires": True, "packages": packages}


# --- skopeo -------------------------------------------------------------------------------------
def image(bench: Bench, server: Server) -> None:
    """An image of a few layers that are as large together as a large file."""
    size = bench.sizes.large // LAYERS
    layers: list[payloads.Described] = []
    for number in range(LAYERS):
        digest = hashlib.sha256()
        for data in payloads.stream(size, f"layer {number}"):
            digest.update(data)
        name = f"sha256:{digest.hexdigest()}"
        publishing.oci_stream(server, payloads.stream(size, f"layer {number}"), size, name, 0)
        layers.append(payloads.Described(name, size))
    publishing.oci_blob(server, payloads.CONFIG, payloads.digest_of(payloads.CONFIG))
    publishing.oci_tag(server, TAG, payloads.manifest_of(layers))


def skopeo(_: Bench, folder: Path, server: Server) -> None:
    """Copy the image into an OCI layout; layers that are there already stay."""
    source = f"{publishing.oci_image(server).replace('/v2/', '/')}:{TAG}".replace(
        "http:", "docker:"
    )
    options = ["--insecure-policy", "copy", "--src-tls-verify=false", "--preserve-digests"]
    finish(folder, "skopeo", *options, source, f"oci:{folder / 'image'}:{TAG}")
    if len(list((folder / "image" / "blobs" / "sha256").iterdir())) != LAYERS + 2:
        raise AnswerError("skopeo did not copy everything")


# --- apt ----------------------------------------------------------------------------------------
def debs(bench: Bench, server: Server) -> None:
    """Many packages on our node; on nginx the tree that our node makes of them."""
    if server.name == "nginx":
        if ours := bench.has("atoll"):
            copy_suite(ours[0], server)
        return

    def publish(numbers: range) -> None:
        with Client(server.url) as client:
            for number in numbers:
                name = _project(number)
                url = f"{_debian(server)}/pool/main/m/{name}/{name}_{VERSION}_all.deb"
                client.call("PUT", url, payloads.deb(name, VERSION), {**ADMIN, **BINARY})

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        parts = [range(n, bench.sizes.debs, PUBLISHERS) for n in range(PUBLISHERS)]
        list(pool.map(publish, parts))


def _debian(server: Server) -> str:
    return f"{server.url}/debian{'/debian' if server.name == 'atoll' else ''}"


def copy_suite(ours: Server, server: Server) -> None:
    """Lay a suite's documents out as files, by name and by hash."""
    root = server.data / "debian"
    release = _copied(ours, root, f"{SUITE}/InRelease").decode()
    _copied(ours, root, "gpg-key.asc")
    for digest, size, path in LISTED.findall(release):
        try:
            data = _copied(ours, root, f"{SUITE}/{path}")
        except AnswerError:
            continue  # listed for another form of it
        if (len(data), hashlib.sha256(data).hexdigest()) != (int(size), digest):
            raise AnswerError(f"{path} is not what the Release says")
        place = (root / SUITE / path).parent / "by-hash" / "SHA256"
        place.mkdir(parents=True, exist_ok=True)
        (place / digest).write_bytes(data)
    for each in (root, *root.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)


def _copied(ours: Server, root: Path, path: str) -> bytes:
    data, _ = call("GET", f"{_debian(ours)}/{path}")
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return data


def apt(_: Bench, folder: Path, server: Server) -> None:
    """Fetch the lists of a suite, and check their signature."""
    root = folder / "root"
    if not root.exists():
        Machine(root, _nothing, _nothing)  # its folders and settings
        key = call("GET", f"{_debian(server)}/gpg-key.asc")[0]
        (root / "etc/apt/keyrings/bench.asc").write_bytes(key)
        line = f"deb [signed-by={root}/etc/apt/keyrings/bench.asc] {_debian(server)} stable main\n"
        (root / "etc/apt/sources.list.d/bench.list").write_text(line, "utf-8")
    strict = ["-o", "APT::Update::Error-Mode=any"]
    finish(folder, "apt-get", "update", *strict, APT_CONFIG=str(root / "apt.conf"))
    if not list((root / "var/lib/apt/lists").glob("*Packages*")):
        raise AnswerError("apt-get has no list of packages")


def _nothing(*_: object) -> str:
    raise AnswerError("nothing is run this way")
