"""The registry figures R1, R2, R3 and R6: what is set up, and what one round of each does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from simulations.bench import payloads, publishing, usage, wrk
from simulations.bench.client import call, drain
from simulations.bench.install import PeerMissingError
from simulations.bench.measuring import sample
from simulations.bench.servers import SERVERS, Server
from simulations.bench.summary import Sample

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CONNECTIONS = 32
FLOOR = "sha256sum + cp"
MANIFEST = "OCI manifest by digest"
IDLE_SECONDS = 3.0  # after the first answer, until memory is read
Notes = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work a run is."""

    seconds: float = 4.0  # of load, for each small request figure
    versions: int = 60
    small: int = KIB
    medium: int = MIB
    large: int = GIB
    wheels: int = 100  # that pip installs
    modules: int = 300  # that npm installs
    debs: int = 5_000  # that apt reads of
    clients: int = 200  # that ask a remote repository at once
    remote: int = 256 * MIB  # of the file that they ask for
    uploads: tuple[tuple[int, int], ...] = ((100 * KIB, 100), (10 * MIB, 100), (100 * MIB, 20))
    mixed: tuple[tuple[int, int], ...] = ((100 * KIB, 100), (10 * MIB, 100))  # size, how many
    growth: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)  # versions


QUICK = Sizes(
    1.0,
    20,
    large=16 * MIB,
    wheels=5,
    modules=10,
    debs=50,
    clients=20,
    remote=8 * MIB,
    uploads=((100 * KIB, 20), (MIB, 10)),
    mixed=((100 * KIB, 12),),
    growth=(300, 3_000),
)


@dataclass(slots=True)
class Bench:
    """The servers of a run, and where its files are."""

    servers: dict[str, Server]
    work: Path
    sizes: Sizes
    note: Notes
    urls: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def has(self, *names: str) -> list[Server]:
        """Those of the named servers that could be had."""
        return [self.servers[name] for name in names if name in self.servers]

    def start(self, name: str, make: Callable[[Path], Server]) -> Server:
        """Start a server in a folder of its own.  Raises PeerMissingError, OSError."""
        place = self.work / name
        place.mkdir()
        server = make(place)
        server.start()
        self.servers[name] = server
        self.note(f"{name} {server.version} answers at {server.url}")
        return server

    def try_start(self, name: str, make: Callable[[Path], Server]) -> None:
        """Start a server, or name it and leave it out."""
        try:
            self.start(name, make)
        except (PeerMissingError, OSError) as error:
            self.note(f"{name} is left out: {error}")

    def label(self, size: int) -> str:
        """A size for people."""
        for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if size >= unit:
                return f"{size / unit:g} {name}"
        return f"{size} B"

    def noise(self, name: str, size: int) -> Path:
        """A new file of random bytes, in the page cache."""
        file = self.work / name
        with file.open("wb") as target:
            left = size
            while left:
                left -= target.write(os.urandom(min(left, 8 * MIB)))
        return file


# --- R1: index documents ------------------------------------------------------------------------
def publish_indexes(bench: Bench) -> None:
    """The same packages everywhere; nginx gets our rendering as a file."""
    numbers = payloads.versions(bench.sizes.versions)
    simple = f"simple index, {len(numbers)} files"
    packument = f"packument, {len(numbers)} versions"
    found = [payloads.wheel(number) for number in numbers]
    for server in bench.has("devpi", "pypiserver", "atoll"):
        publishing.wheels(server, found)
        bench.urls[simple, server.name] = publishing.simple_page(server)
    for server in bench.has("verdaccio", "atoll"):
        publishing.npm(server, payloads.PROJECT, numbers)
        bench.urls[packument, server.name] = f"{publishing.npm_base(server)}/{payloads.PROJECT}"
    for server in bench.has("docker-registry", "atoll"):
        bench.urls[MANIFEST, server.name] = publishing.oci_manifest(server)
    for server in bench.has("nginx"):
        for case in (simple, packument, MANIFEST):
            body, _ = call("GET", bench.urls[case, "atoll"])
            file = server.data / case.replace(" ", "-").replace(",", "")
            file.write_bytes(body)
            bench.urls[case, server.name] = f"{server.url}/{file.name}"
            bench.note(f"R1 {case}: {len(body)} bytes")


def indexes(bench: Bench, round_: int) -> Iterator[Sample]:
    """R1: requests a second for one document over 32 kept connections."""
    for (case, name), url in rotated(bench.urls, round_):
        if not case.startswith("file "):
            # Docker's registry gives an OCI manifest only to those who ask for one.
            accept = payloads.MANIFEST_TYPE if case == MANIFEST else ""
            load = partial(_loaded, url, bench.sizes.seconds, CONNECTIONS, accept)
            yield sample("R1", case, name, round_, bench.servers[name], load)


# --- R2: downloads ------------------------------------------------------------------------------
def publish_files(bench: Bench) -> None:
    """One file of each size everywhere it can be."""
    for size in (bench.sizes.small, bench.sizes.medium, bench.sizes.large):
        case = f"file of {bench.label(size)}"
        content = bench.noise(f"download-{size}", size)
        digest = digest_of(content)
        for server in bench.has("atoll", "nginx"):
            bench.urls[case, server.name] = publishing.file(server, content.name, content)
        for server in bench.has("docker-registry"):
            publishing.oci_blob(server, content, digest)
            bench.urls[case, server.name] = f"{publishing.oci_image(server)}/blobs/{digest}"
        if size < bench.sizes.large:
            publish_package_files(bench, case, size)


def publish_package_files(bench: Bench, case: str, size: int) -> None:
    """A wheel and a tarball of about this size, where files can only be packages."""
    for server in bench.has("devpi"):
        wheel = payloads.wheel(f"{size}.0", size)
        publishing.wheels(server, [wheel])
        bench.urls[case, server.name] = publishing.wheel_link(server, wheel.filename)
    for server in bench.has("verdaccio"):
        name = f"file{size}"
        publishing.npm(server, name, ["1.0.0"], size)
        bench.urls[case, server.name] = f"{server.url}/{name}/-/{name}-1.0.0.tgz"


def downloads(bench: Bench, round_: int) -> Iterator[Sample]:
    """R2: small files by the request, large ones by the byte."""
    large = f"file of {bench.label(bench.sizes.large)}"
    medium = f"file of {bench.label(bench.sizes.medium)}"
    for (case, name), url in rotated(bench.urls, round_):
        if not case.startswith("file "):
            continue
        if case == large:
            work = partial(_drained, url)
        else:
            connections = 4 if case == medium else CONNECTIONS
            work = partial(_loaded, url, bench.sizes.seconds, connections)
        yield sample("R2", case, name, round_, bench.servers[name], work)


def _loaded(url: str, seconds: float, connections: int, accept: str = "") -> dict[str, float]:
    return wrk.run(url, seconds=seconds, connections=connections, accept=accept)


def _drained(url: str) -> dict[str, float]:
    size, seconds = drain(url)
    return {"bytes": float(size), "bytes_per_second": size / seconds}


# --- R3: uploads --------------------------------------------------------------------------------
def uploads(bench: Bench, round_: int) -> Iterator[Sample]:
    """R3: one large upload of bytes that nobody has seen, hashed and stored."""
    case = f"upload of {bench.label(bench.sizes.large)}"
    names: list[str] = [s.name for s in bench.has("atoll", "docker-registry", "devpi")]
    names.append(FLOOR)
    for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
        content = bench.noise("upload", bench.sizes.large)
        server = bench.servers.get(name)
        upload = _upload(server, round_, content) if server else partial(_floor, content)
        os.sync()  # nobody writes out what another has left behind
        yield sample("R3", case, name, round_, server, partial(_timed, upload, content))
        content.unlink()


def _timed(upload: Callable[[], object], content: Path) -> dict[str, float]:
    size, began = content.stat().st_size, time.monotonic()
    upload()
    return {"bytes": float(size), "bytes_per_second": size / (time.monotonic() - began)}


def _upload(server: Server, round_: int, content: Path) -> Callable[[], object]:
    """What a client sends, everything that it may know beforehand being known."""
    if server.name == "devpi":
        publishing.devpi_index(server)
        version = f"1000.{round_}"
        filename = f"{payloads.PROJECT}-{version}-py3-none-any.whl"
        return partial(publishing.upload_wheel, server, version, filename, content)
    if server.name == "docker-registry":
        return partial(publishing.oci_blob, server, content, digest_of(content))
    return partial(publishing.file, server, f"upload-{round_}", content)


def _floor(content: Path) -> None:
    copy = content.with_suffix(".copy")
    subprocess.run(["sha256sum", content], check=True, capture_output=True)
    subprocess.run(["cp", content, copy], check=True)
    copy.unlink()


def digest_of(content: Path) -> str:
    """The SHA-256 of a file."""
    command = ["sha256sum", str(content)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return f"sha256:{finished.stdout.split()[0]}"


# --- R6: starting -------------------------------------------------------------------------------
def starts(bench: Bench, round_: int) -> Iterator[Sample]:
    """R6: from exec to the first answer, on data that is there, and memory when idle."""
    for server in bench.has(*SERVERS):
        server.stop()

        work = partial(_started, server)
        yield sample("R6", "start on existing data", server.name, round_, server, work)


def _started(server: Server) -> dict[str, float]:
    seconds = server.start()
    spent = usage.cpu_seconds(server.pid)
    time.sleep(IDLE_SECONDS)
    return {
        "start_seconds": seconds,
        "start_cpu_seconds": spent,
        "idle_bytes": float(usage.resident(server.pid)),
        "installed_bytes": float(server.size),
    }


def rotated(
    urls: Mapping[tuple[str, str], str], round_: int
) -> Iterator[tuple[tuple[str, str], str]]:
    """Case by case, another server first in each round."""
    for case in dict.fromkeys(case for case, _ in urls):
        mine = [(key, url) for key, url in urls.items() if key[0] == case and url]
        turn = round_ % len(mine) if mine else 0
        yield from mine[turn:] + mine[:turn]


def turned(servers: Sequence[Server], round_: int) -> Sequence[Server]:
    """The same servers, another one first in each round."""
    turn = round_ % len(servers) if servers else 0
    return [*servers[turn:], *servers[:turn]]


def progress(text: str) -> None:
    """Tell people, on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
