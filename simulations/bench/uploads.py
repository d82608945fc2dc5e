"""R7: a hundred uploads at once, every one read back and its digest compared."""

from __future__ import annotations

import hashlib
import http.client
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from simulations.bench import payloads, publishing
from simulations.bench.client import AnswerError, call, sha256_of
from simulations.bench.figures import Bench, turned
from simulations.bench.measuring import sample
from simulations.bench.publishing import ADMIN, BINARY
from simulations.bench.servers import Server
from simulations.bench.summary import Sample

CUT = 4 << 20  # bytes of a PATCH
KINDS = 6  # of packages
READERS = 8  # that read back at a time
WRONG = (AnswerError, OSError, http.client.HTTPException, LookupError)
Send = Callable[[], str]  # upload, and say where the bytes are to be found


@dataclass(frozen=True, slots=True)
class Job:
    """One upload, made up beforehand."""

    size: int
    sha256: str
    send: Send


def storms(bench: Bench, round_: int) -> Iterator[Sample]:
    """R7: OCI blobs in one piece and in several, then six formats at once, on empty servers."""
    for size, count in bench.sizes.uploads:
        for how, cut in (("PUT", 0), ("PATCH", CUT)):
            case = f"{count} uploads of {bench.label(size)} at once, {how}"
            make = partial(blobs, size=size, count=count, cut=cut)
            yield from _case(bench, round_, case, make)
    for size, count in bench.sizes.mixed:
        case = f"{count} uploads of {bench.label(size)} at once, six formats (theirs: PUT)"
        yield from _case(bench, round_, case, partial(mixture, size=size, count=count))


def _case(bench: Bench, round_: int, case: str, make: Callable[..., list[Job]]) -> Iterator[Sample]:
    for server in turned(bench.has("atoll", "docker-registry"), round_):
        for job in make(server, -1, count=KINDS):  # what is done once only is not measured
            job.send()
        jobs = make(server, round_)
        urls: list[str] = []
        found = sample("R7", case, server.name, round_, server, partial(_sent, jobs, urls))
        found.values["failed"] += wrong(jobs, urls)
        yield found
        server.wipe()


def _sent(jobs: Sequence[Job], urls: list[str]) -> dict[str, float]:
    """Send everything at once; where it went is left in ``urls``, "" for what failed."""
    began = time.monotonic()

    def one(job: Job) -> tuple[str, float]:
        try:
            url = job.send()
        except WRONG:
            url = ""
        return url, time.monotonic() - began

    with ThreadPoolExecutor(len(jobs)) as pool:
        done = list(pool.map(one, jobs))
    urls += [url for url, _ in done]
    took = [seconds for url, seconds in done if url]
    size = sum(job.size for job, (url, _) in zip(jobs, done, strict=True) if url)
    return {
        "seconds": time.monotonic() - began,
        "p50": statistics.median(took) if took else 0.0,
        "bytes": float(size),
        "requests": float(len(took)),
        "bytes_per_second": size / (time.monotonic() - began),
        "failed": float(len(jobs) - len(took)),
    }


def wrong(jobs: Sequence[Job], urls: Sequence[str]) -> int:
    """How many of the uploads that were accepted do not come back as they were sent."""

    def differs(job: Job, url: str) -> bool:
        try:
            return bool(url) and sha256_of(url) != (job.size, job.sha256)
        except WRONG:
            return True

    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(differs, jobs, urls))


# --- what is sent -------------------------------------------------------------------------------
def blobs(server: Server, round_: int, *, size: int, count: int, cut: int) -> list[Job]:
    """OCI blobs of bytes that nobody has seen."""
    return [blob(server, size, f"{round_} {number} {cut}", cut) for number in range(count)]


def blob(server: Server, size: int, seed: str, cut: int = 0) -> Job:
    """One of them."""
    found = hashlib.sha256()
    for data in payloads.stream(size, seed):
        found.update(data)

    def send() -> str:
        source = payloads.stream(size, seed)
        digest = f"sha256:{found.hexdigest()}"
        return publishing.oci_stream(server, source, size, digest, cut)

    return Job(size, found.hexdigest(), send)


def mixture(server: Server, round_: int, *, size: int, count: int) -> list[Job]:
    """Packages of every format in turn; as many blobs where there is but one format."""
    if server.name != "atoll":
        return blobs(server, round_, size=size, count=count, cut=0)
    kinds = (generic, wheel, tarball, blob_of, jar, deb)
    start = KINDS + round_ * count  # of numbers that nobody had
    return [kinds[n % len(kinds)](server, size, n) for n in range(start, start + count)]


def blob_of(server: Server, size: int, number: int) -> Job:
    """An OCI blob."""
    return blob(server, size, f"mixed {number}")


def _put(url: str, data: bytes) -> Job:
    """An upload that is found where it was put."""

    def send() -> str:
        call("PUT", url, data, {**ADMIN, **BINARY})
        return url

    return Job(len(data), hashlib.sha256(data).hexdigest(), send)


def generic(server: Server, size: int, number: int) -> Job:
    """A plain file."""
    data = payloads.noise(size, f"generic {number}")
    return _put(f"{server.url}/general/generic/mixed/{number}.bin", data)


def jar(server: Server, size: int, number: int) -> Job:
    """A Maven artifact; any zip will do."""
    data = payloads.wheel("1.0", size, f"mixed{number}").data
    folder = f"{server.url}/maven/maven/org/example/mixed{number}/1.0"
    return _put(f"{folder}/mixed{number}-1.0.jar", data)


def deb(server: Server, size: int, number: int) -> Job:
    """A Debian package."""
    name = f"mixed{number}"
    folder = f"{server.url}/debian/debian/pool/main/m/{name}"
    return _put(f"{folder}/{name}_1.0_all.deb", payloads.deb(name, "1.0", size))


def wheel(server: Server, size: int, number: int) -> Job:
    """A wheel of a project of its own, uploaded as twine does."""
    made = payloads.wheel("1.0", size, f"mixed{number}")

    def send() -> str:
        publishing.wheels(server, [made])
        return f"{server.url}/pypi/pypi/simple/{made.project}/{made.filename}"

    return Job(len(made.data), hashlib.sha256(made.data).hexdigest(), send)


def tarball(server: Server, size: int, number: int) -> Job:
    """An npm package, which travels as base64 in JSON."""
    name = f"mixed{number}"
    data = payloads.tarball(name, "1.0.0", size)
    base = publishing.npm_base(server)
    document = payloads.npm_document(base, name, "1.0.0", data)

    def send() -> str:
        call("PUT", f"{base}/{name}", document, {**ADMIN, **publishing.JSON})
        return f"{base}/{name}/-/{name}-1.0.0.tgz"

    return Job(len(data), hashlib.sha256(data).hexdigest(), send)
