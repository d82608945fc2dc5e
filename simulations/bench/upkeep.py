"""What R5 asks of everything a node has: retention and verification, and who waits meanwhile."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from simulations.bench import growing, usage
from simulations.bench.client import Client, call
from simulations.bench.publishing import ADMIN, BINARY, JSON
from simulations.bench.servers import Server

ASK_SECONDS = 0.25  # between two small requests beside the work
PUBLISH_EVERY = 4  # of those, one is a publish
POLICY = "growth"
LIFECYCLE = "/api/v1/admin/lifecycle"
# Each asks for something else of a version: its age, its rank, its name, its last use.
KEPT = growing.VERSIONS - 1  # of each project: one in ten goes
CRITERIA: dict[str, Any] = {
    "id": POLICY,
    "include": ["grown*@*"],
    "max_age": 0.001,
    "unused_for": 0.001,
    "keep_last": KEPT,
}
TOLD: dict[str, tuple[str, float]] = {
    "plan_cpu_seconds": ("retention plan, CPU s", 1.0),
    "plan_grown_bytes": ("plan: memory beyond before, MB", 1e-6),
    "plan_asked_median": ("a project page meanwhile (p50), ms", 1e3),
    "plan_asked_worst": ("a project page meanwhile (worst), ms", 1e3),
    "plan_published_median": ("a publish meanwhile (p50), ms", 1e3),
    "plan_published_worst": ("a publish meanwhile (worst), ms", 1e3),
    "apply_versions": ("retention removes, versions", 1.0),
    "apply_cpu_seconds_per_version": ("retention removes a version, CPU ms", 1e3),
    "apply_grown_bytes": ("apply: memory beyond before, MB", 1e-6),
    "apply_asked_median": ("a project page meanwhile (p50), ms", 1e3),
    "apply_asked_worst": ("a project page meanwhile (worst), ms", 1e3),
    "apply_published_median": ("a publish meanwhile (p50), ms", 1e3),
    "apply_published_worst": ("a publish meanwhile (worst), ms", 1e3),
    "verify_cpu_seconds": ("verify, CPU s", 1.0),
    "verify_grown_bytes": ("verify: memory beyond before, MB", 1e-6),
    "verify_asked_median": ("a project page meanwhile (p50), ms", 1e3),
    "verify_asked_worst": ("a project page meanwhile (worst), ms", 1e3),
    "verify_published_median": ("a publish meanwhile (p50), ms", 1e3),
    "verify_published_worst": ("a publish meanwhile (worst), ms", 1e3),
}


@dataclass
class Beside:
    """Small requests, one after the other, while something large goes on."""

    url: str
    asked: list[float] = field(default_factory=list[float])
    published: list[float] = field(default_factory=list[float])
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until told to stop; a page that was not asked for before, and a new file."""
        number = 0
        with Client(self.url) as client:
            while not self.stop.wait(ASK_SECONDS):
                number += 1
                began = time.monotonic()
                if number % PUBLISH_EVERY == 0:
                    place = f"{self.url}/general/generic/beside/{time.time_ns()}.bin"
                    client.call("PUT", place, b"%d" % number, {**ADMIN, **BINARY})
                    self.published.append(time.monotonic() - began)
                else:
                    page = f"{self.url}/pypi/pypi/simple/{growing.grown(number * 10).project}/"
                    client.call("GET", page, None, ADMIN)
                    self.asked.append(time.monotonic() - began)


@contextmanager
def beside(server: Server, work: str, values: dict[str, float]) -> Generator[None]:
    """Measure the server's CPU time and memory for a block, and what others wait meanwhile."""
    usage.forget_peak(server.pid)
    before, began = usage.peak(server.pid), time.monotonic()
    spent = usage.cpu_seconds(server.pid)
    others = Beside(server.url)
    thread = threading.Thread(target=others.run)
    thread.start()
    try:
        yield
    finally:
        values[f"{work}_seconds"] = time.monotonic() - began
        values[f"{work}_cpu_seconds"] = usage.cpu_seconds(server.pid) - spent
        values[f"{work}_grown_bytes"] = float(max(0, usage.peak(server.pid) - before))
        others.stop.set()
        thread.join()
    for name, found in (("asked", others.asked), ("published", others.published)):
        if found:
            values[f"{work}_{name}_median"] = statistics.median(found)
            values[f"{work}_{name}_worst"] = max(found)


def retain(server: Server, repository: str, values: dict[str, float]) -> None:
    """Plan the removal of one version in ten, and remove them."""
    policy = json.dumps({**CRITERIA, "repositories": [repository]}).encode()
    call("POST", server.url + LIFECYCLE, policy, {**ADMIN, **JSON})
    with beside(server, "plan", values):
        planned = _last(server, f"{LIFECYCLE}/plan", {"listed": 0})
    with beside(server, "apply", values):
        applied = _last(server, f"{LIFECYCLE}/apply", {})
    call("DELETE", f"{server.url}{LIFECYCLE}/{POLICY}", None, ADMIN)
    removed = float(applied["removed"])
    values["planned_versions"], values["apply_versions"] = float(planned["versions"]), removed
    values["apply_cpu_seconds_per_version"] = values["apply_cpu_seconds"] / max(1.0, removed)


def verify(server: Server, values: dict[str, float]) -> None:
    """Check everything.  Raises ValueError if anything is found wrong."""
    with beside(server, "verify", values):
        verdict = _last(server, "/api/v1/verify", {})
    if verdict["findings"]:
        raise ValueError(f"the node is damaged: {verdict}")
    values["verify_records"] = float(verdict["records"])


def _last(server: Server, path: str, wish: dict[str, Any]) -> dict[str, Any]:
    """The last line of a long answer."""
    body, _ = call("POST", server.url + path, json.dumps(wish).encode(), {**ADMIN, **JSON})
    found: dict[str, Any] = json.loads(body.splitlines()[-1])
    return found
