"""Measure one server for a moment: what it did, what it cost, and who else was busy."""

from __future__ import annotations

import time
from collections.abc import Callable

from simulations.bench import usage
from simulations.bench.servers import Server
from simulations.bench.summary import Sample

GIB = 1 << 30
SETTLE_SECONDS = 0.3  # the last run's sockets and buffers go before the next one begins
Work = Callable[[], dict[str, float]]


def spent_by(server: Server | None) -> float:
    """CPU seconds of a server so far, 0.0 while it does not run."""
    return sum(usage.cpu_seconds(each.pid) for each in server.running) if server else 0.0


def peak_of(server: Server) -> float:
    """The most memory that one process of a server had since the measurement began."""
    return float(max((usage.peak(each.pid) for each in server.running), default=0))


def sample(
    figure: str, case: str, name: str, round_: int, server: Server | None, work: Work
) -> Sample:
    """Run a piece of work against a server and put its figures together.

    Time of CPUs that went neither to the server nor to this process and its children is foreign.
    """
    time.sleep(SETTLE_SECONDS)
    for each in server.running if server else ():
        usage.forget_peak(each.pid)
    load = usage.load()
    began, busy = time.monotonic(), usage.machine_busy()
    own, before = usage.own_seconds(), spent_by(server)
    values = work()
    elapsed = max(time.monotonic() - began, 1e-3)
    spent = spent_by(server) - before
    others = usage.machine_busy() - busy - (usage.own_seconds() - own) - spent
    if server is not None:
        values["server_cpu_seconds"] = spent
        values["peak_bytes"] = peak_of(server)
    if spent and values.get("requests"):
        values["cpu_us_per_request"] = spent / values["requests"] * 1e6
    if spent and values.get("bytes"):
        values["cpu_seconds_per_gib"] = spent / values["bytes"] * GIB
    cpus = max(0.0, others / elapsed)
    return Sample(figure, case, name, round_, values, foreign_cpus=cpus, load_average=load)
