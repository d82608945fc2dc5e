"""Run the registry figures: every server up, rounds interleaved, a table and the raw samples."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.environment import cache_directory
from simulations.bench import figures, growth, installs, plots, remote, summary, uploads, usage
from simulations.bench.client import AnswerError
from simulations.bench.figures import Bench, Notes, Sizes
from simulations.bench.servers import SERVERS, Server
from simulations.bench.summary import Sample
from simulations.bench.wrk import LoadError

SETUP = {
    "R1": figures.publish_indexes,
    "R2": figures.publish_files,
    "R4": installs.prepare,
    "R8": remote.prepare,
}
ROUND = {
    "R1": figures.indexes,
    "R2": figures.downloads,
    "R3": figures.uploads,
    "R4": installs.installs,
    "R5": growth.growth,
    "R6": figures.starts,
    "R7": uploads.storms,
    "R8": remote.crowds,
}
NEEDED = {
    "R1": ("atoll", "devpi", "pypiserver", "verdaccio", "docker-registry", "nginx"),
    "R2": ("atoll", "devpi", "verdaccio", "docker-registry", "nginx"),
    "R3": ("atoll", "devpi", "docker-registry"),
    "R4": ("atoll", "devpi", "verdaccio", "docker-registry", "nginx"),
    "R5": ("atoll",),
    "R6": tuple(SERVERS),
    "R7": ("atoll", "docker-registry"),
    "R8": ("atoll",),  # and what stands before an origin of its own
}

ONCE = ("R5",)  # one size after the other, compared with itself: a round would take an hour


def run(
    wanted: Sequence[str], rounds: int, sizes: Sizes, note: Notes
) -> tuple[list[Sample], dict[str, dict[str, Any]], dict[str, Any]]:
    """Measure; returns the samples, what the servers were, and what the machine was.

    A peer that cannot be had is noted and left out; its lines are then missing from the table.
    """
    (cache_directory() / "bench").mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=cache_directory() / "bench"))
    servers: dict[str, Server] = {}
    machine = described()
    bench = Bench(servers, work, sizes, note)
    try:
        for name in dict.fromkeys(name for figure in wanted for name in NEEDED[figure]):
            start = bench.start if name == summary.OURS else bench.try_start
            start(name, SERVERS[name])
        samples = _measure(bench, wanted, rounds)
        machine["load_average_after"] = usage.load()
        return samples, {s.name: _told(s) for s in servers.values()}, machine
    finally:
        for server in servers.values():
            server.stop()
        shutil.rmtree(work, ignore_errors=True)


def _measure(bench: Bench, wanted: Sequence[str], rounds: int) -> list[Sample]:
    samples: list[Sample] = []
    for figure in wanted:
        if figure in SETUP:
            bench.urls.clear()
            SETUP[figure](bench)
        for round_ in range(1 if figure in ONCE else rounds):
            try:
                for each in ROUND[figure](bench, round_):
                    samples.append(each)
                    bench.note(told(each, rounds))
            except (AnswerError, LoadError, OSError) as error:
                bench.note(f"{figure}, round {round_ + 1} broke off: {error}")
    return samples


def told(each: Sample, rounds: int) -> str:
    """One line for one measurement, as it comes."""
    shown = ", ".join(
        f"{summary.METRICS[metric][0]} {summary.number(value * summary.SCALE.get(metric, 1.0))}"
        for metric, value in each.values.items()
        if metric in summary.METRICS
    )
    busy = f"; others kept {each.foreign_cpus:.2f} CPUs busy"
    return f"{each.figure} {each.round + 1}/{rounds} {each.case} · {each.server}: {shown}{busy}"


def _told(server: Server) -> dict[str, Any]:
    return {"version": server.version, "config": server.config, "installed_bytes": server.size}


def described() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": usage.load(),
    }


def report(samples: Sequence[Sample], servers: dict[str, dict[str, Any]]) -> str:
    """The table, the versions, and whether to believe it."""
    found = summary.rows(samples)
    lines = [summary.table(found), "", *growth.table(samples), *summary.failures(samples)]
    lines += [f"- {name}: {each['version']}" for name, each in servers.items()]
    if summary.loaded(samples):
        lines += ["", "TAKEN UNDER LOAD: others used the machine; do not quote these figures."]
    return "\n".join(lines)


def draw(samples: Sequence[Sample], folder: Path, note: Notes) -> None:
    """Draw the ratios, or say why not."""
    made = plots.draw(summary.rows(samples), folder)
    note(f"plots: {', '.join(map(str, made))}" if made else "no plots: matplotlib is not here")
