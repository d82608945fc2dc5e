"""R5: what a node's work costs as one repository grows, a thousandfold."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from urllib.parse import quote

from simulations.bench import growing, payloads, publishing, upkeep, usage
from simulations.bench.client import Client, call
from simulations.bench.figures import IDLE_SECONDS, Bench
from simulations.bench.growing import Grown
from simulations.bench.measuring import sample
from simulations.bench.publishing import ADMIN, BINARY
from simulations.bench.servers import Server
from simulations.bench.summary import Sample, number

GROWN, BESIDE = "pypi", "generic"  # the repository in question, and one that grows along
BESIDE_MAX = 100_000  # versions of the latter
TIMES = 30  # that each small thing is done
PAGE = 1000  # artifacts a page of the walk
COLLECTED = re.compile(rb"collected garbage")
COLLECT_SECONDS_MAX = 900.0
SETTLE_SECONDS_MAX = 1200.0
QUIET = 0.03  # CPUs
QUIET_SECONDS = 3
SLOPE_MAX = 0.25  # of a line through logarithms: less is as good as flat, or logarithmic
# What is told of each size, what it is called, and its scale; growing with the size or not.
TOLD: dict[str, tuple[str, float]] = {
    "start_seconds": ("start, s", 1.0),
    "start_cpu_seconds": ("start, CPU s", 1.0),
    "settled_cpu_seconds": ("start and what follows by itself, CPU s", 1.0),
    "idle_bytes": ("memory when idle, MB", 1e-6),
    "publish generic": ("publish a generic file, CPU ms", 1e3),
    "publish pypi": ("publish a wheel, CPU ms", 1e3),
    "look up": ("look one artifact up, CPU ms", 1e3),
    "download": ("download a small file, CPU ms", 1e3),
    "project page": ("project page never asked for before, CPU ms", 1e3),
    "folder": ("generic folder never asked for before, CPU ms", 1e3),
    "page": ("page of 100 artifacts anywhere, CPU ms", 1e3),
    "packages": ("page of 100 packages anywhere, CPU ms", 1e3),
    "repository": ("the repository's description, CPU ms", 1e3),
    "all projects": ("PyPI's list of all projects, a first time, CPU ms", 1e3),
    "all projects again": ("the same, kept, CPU ms", 1e3),
    "search": ("search for a name, CPU ms", 1e3),
    "search part": ("search for a part of a name, CPU ms", 1e3),
    "search much": ("search that finds everything, CPU ms", 1e3),
    "long_grown_bytes": ("all these: memory beyond before, MB", 1e-6),
    "walk_seconds_per_page": ("walk: a page of 1,000 artifacts, ms", 1e3),
    "walk_grown_bytes": ("walk: memory beyond before, MB", 1e-6),
    **upkeep.TOLD,
    "collect_seconds": ("collect garbage, s", 1.0),
    "collect_grown_bytes": ("collect: memory beyond before, MB", 1e-6),
}
Request = tuple[str, str, bytes | None]  # method, path, body


def growth(bench: Bench, _: int) -> Iterator[Sample]:
    """R5: every size once, on one node that grows; its slope is the figure."""
    server = bench.servers["atoll"]
    server.wipe()
    _patterns(server)
    held = 0
    for size in bench.sizes.growth:
        server.stop()
        began = time.monotonic()
        growing.grow(server.data, [GROWN], held, size)
        growing.grow(server.data, [BESIDE], min(held, BESIDE_MAX), min(size, BESIDE_MAX))
        bench.note(f"R5: {size:,} versions after {time.monotonic() - began:.0f} s")
        held = size
        values: dict[str, float] = {}
        steps: Sequence[Callable[[], None]] = (
            partial(_start, server, values),
            partial(_small, server, size, values),
            partial(_long, server, size, values),
            partial(_walk, server, values),
            partial(upkeep.verify, server, values),
            partial(upkeep.retain, server, GROWN, values),
            partial(_collect, server, values),
        )
        yield sample(
            "R5", f"{size:,} versions", server.name, 0, server, partial(_all, steps, values)
        )
    server.wipe()


def _all(steps: Iterable[Callable[[], None]], values: dict[str, float]) -> dict[str, float]:
    for step in steps:
        step()
    return values


def _patterns(server: Server) -> None:
    """Publish what is repeated."""
    version = Grown(growing.PROJECT, growing.VERSION)
    with Client(server.url) as client:
        client.call("PUT", server.url + _generic(version), b"pattern", {**ADMIN, **BINARY})
    publishing.wheels(server, [payloads.wheel(growing.VERSION, 0, growing.PROJECT)])


def _generic(version: Grown) -> str:
    return f"/general/generic/{_path(version)}"


def _path(version: Grown) -> str:
    return f"{version.project}/{version.version}/{version.project}.bin"


def _wheel(version: Grown) -> str:
    return f"{version.project}/{version.project}-{version.version}-py3-none-any.whl"


# --- what is measured ---------------------------------------------------------------------------
def _start(server: Server, values: dict[str, float]) -> None:
    values["start_seconds"] = server.start()
    values["start_cpu_seconds"] = usage.cpu_seconds(server.pid)
    time.sleep(IDLE_SECONDS)
    _settle(server)
    values["settled_cpu_seconds"] = usage.cpu_seconds(server.pid)
    values["idle_bytes"] = float(usage.resident(server.pid))


def _settle(server: Server) -> None:
    """Wait until it does nothing by itself, or what is measured next would include that."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    quiet = 0
    while quiet < QUIET_SECONDS and time.monotonic() < deadline:
        before = usage.cpu_nanoseconds(server.pid)
        time.sleep(1.0)
        busy = (usage.cpu_nanoseconds(server.pid) - before) * 1e-9
        quiet = quiet + 1 if busy <= QUIET and not _indexing(server) else 0


def _indexing(server: Server) -> bool:
    """Whether search has not seen everything yet: a slow disk looks like rest."""
    body, _ = call("GET", f"{server.url}/api/v1/admin/search", headers=ADMIN)
    told = json.loads(body)
    return bool(told["pending"] or told["rebuilding"])


def _small(server: Server, size: int, values: dict[str, float]) -> None:
    """CPU time a request of everything that should not notice how much there is."""
    chance = random.Random(size)
    some = [_some(chance, size) for _ in range(TIMES)]
    held = [_some(chance, min(size, growing.BLOBS_MAX)) for _ in range(TIMES)]
    beside = [growing.grown(chance.randrange(min(size, BESIDE_MAX))) for _ in range(TIMES)]
    api = f"/api/v1/repositories/{GROWN}"
    kinds: dict[str, list[Request]] = {
        "publish generic": [
            ("PUT", f"/general/generic/new{size}/{n}.bin", b"%d %d" % (size, n))
            for n in range(TIMES)
        ],
        "look up": [("GET", f"{api}/artifacts/{quote(_wheel(each))}", None) for each in some],
        "download": [("GET", f"/pypi/pypi/simple/{_wheel(each)}", None) for each in held],
        "project page": [("GET", f"/pypi/pypi/simple/{each.project}/", None) for each in some],
        "folder": [("GET", f"/general/generic/{each.project}/?list", None) for each in beside],
        "page": [("GET", f"{api}/artifacts?after={quote(_wheel(each))}", None) for each in some],
        "packages": [("GET", f"{api}/packages?after={each.project}", None) for each in some],
        "repository": [("GET", api, None)] * TIMES,
    }
    for key, requests in kinds.items():
        values[key] = _cost(server, requests)
    values["publish pypi"] = _publishing(server, size)


def _some(chance: random.Random, size: int) -> Grown:
    """Any version but a project's oldest, which retention has removed at a smaller size."""
    number = chance.randrange(size)
    return growing.grown(number + (number % growing.VERSIONS == 0))


def _cost(server: Server, requests: Sequence[Request]) -> float:
    """CPU seconds of the server for one of the requests."""
    with Client(server.url) as client:
        before = usage.cpu_nanoseconds(server.pid)
        for method, path, body in requests:
            client.call(method, server.url + path, body, ADMIN)
        return max(0, usage.cpu_nanoseconds(server.pid) - before) / len(requests) * 1e-9


def _publishing(server: Server, size: int) -> float:
    found = [payloads.wheel(f"{size}.{n}", 0, "growing") for n in range(TIMES)]
    before = usage.cpu_nanoseconds(server.pid)
    publishing.wheels(server, found)
    return max(0, usage.cpu_nanoseconds(server.pid) - before) / len(found) * 1e-9


def _long(server: Server, size: int, values: dict[str, float]) -> None:
    """What has to do with everything there is: CPU time, and memory beyond before."""
    chance = random.Random(-size)
    some = [_some(chance, size).project for _ in range(TIMES)]
    search = "/api/v1/search/quick?q="
    kinds: dict[str, list[Request]] = {
        "all projects": [("GET", "/pypi/pypi/simple/", None)],
        "all projects again": [("GET", "/pypi/pypi/simple/", None)] * TIMES,
        "search": [("GET", f"{search}{each}", None) for each in some],
        "search part": [("GET", f"{search}{each[3:]}", None) for each in some],
        "search much": [("GET", f"{search}grown", None)] * 3,
    }
    before = _quiet(server)
    for key, requests in kinds.items():
        values[key] = _cost(server, requests)
    values["long_grown_bytes"] = max(0.0, usage.peak(server.pid) - before)


def _walk(server: Server, values: dict[str, float]) -> None:
    """Ask for every page of the artifacts, one after the other."""
    before = _quiet(server)
    base = f"{server.url}/api/v1/repositories/{GROWN}/artifacts?limit={PAGE}"
    after, seconds = "", list[float]()
    with Client(server.url) as client:
        while True:
            began = time.monotonic()
            body, _ = client.call("GET", f"{base}&after={quote(after)}", None, ADMIN)
            seconds.append(time.monotonic() - began)
            after = json.loads(body)["next"]
            if not after:
                break
    values["walk_pages"] = float(len(seconds))
    values["walk_seconds_per_page"] = statistics.median(seconds)
    values["walk_grown_bytes"] = max(0.0, usage.peak(server.pid) - before)


def _quiet(server: Server) -> float:
    """Memory now, from which on the peak is counted."""
    usage.forget_peak(server.pid)
    return float(usage.peak(server.pid))


def _collect(server: Server, values: dict[str, float]) -> None:
    """Start it once more so that it collects garbage soon, and see what that takes."""
    usual = server.environment
    server.stop()
    soon = {"ATOLL_BLOBS_GC_INTERVAL": f"{2 * IDLE_SECONDS}", "ATOLL_BLOBS_GC_GRACE": "0"}
    server.environment = {**usual, **soon}
    try:
        server.start()
        time.sleep(IDLE_SECONDS)
        before = _quiet(server)
        began = time.monotonic() + IDLE_SECONDS
        while not COLLECTED.search((server.work / "output").read_bytes()):
            if time.monotonic() - began > COLLECT_SECONDS_MAX:
                break
            time.sleep(0.05)
        values["collect_seconds"] = max(0.0, time.monotonic() - began)
        values["collect_grown_bytes"] = max(0.0, usage.peak(server.pid) - before)
    finally:
        server.environment = usual


# --- telling ------------------------------------------------------------------------------------
def table(samples: Sequence[Sample]) -> list[str]:
    """Lines of Markdown: what each size costs, and how that grows; none without R5."""
    mine = [each for each in samples if each.figure == "R5"]
    if not mine:
        return []
    cases = [each.case for each in mine]
    sizes = [float(case.split()[0].replace(",", "")) for case in cases]
    lines = [
        "| R5, one repository of | " + " | ".join(cases) + " | slope |",
        "|---" * (len(cases) + 2) + "|",
    ]
    for key, (name, scale) in TOLD.items():
        found = [each.values[key] for each in mine if key in each.values]
        if len(found) == len(mine):
            cells = [number(value * scale) for value in found]
            lines.append(f"| {name} | " + " | ".join([*cells, told(slope(sizes, found))]) + " |")
    return [*lines, ""]


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent that a power of the size would have: 0 is flat, 1 is proportional."""
    if len(sizes) < 2 or not all(value > 0 for value in values):
        return 0.0
    xs, ys = [math.log(each) for each in sizes], [math.log(each) for each in values]
    return statistics.linear_regression(xs, ys).slope


def told(exponent: float) -> str:
    """The exponent, and a word where it says that something grows."""
    return f"{exponent:.2f}" + (" grows" if exponent > SLOPE_MAX else "")
