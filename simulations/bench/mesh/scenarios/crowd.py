"""B14, B18: what clients see: time to the first byte, to the last one, and failures."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from simulations.bench.mesh.bounds import finish, fluid_bound, others, percentile
from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import Watch, reject, staged
from simulations.bench.mesh.stage import Stage
from simulations.bench.mesh.systems.base import System
from simulations.lab.net import LabError
from simulations.lab.shaping import MBIT, Scenario, flapping, two_sites, uniform

MIB = 1 << 20
CLIENTS = 200
SHOWN = "%{http_code} %{time_starttransfer} %{time_total} %{size_download}\\n"
PATIENCE = 240.0


class Served(Protocol):
    """A system whose blob has a URL."""

    def url_for(self, receiver: int) -> str:
        """Return where a client beside a receiver asks."""
        ...


def crowd(stage: Stage, node: int, url: str, count: int) -> subprocess.Popen[bytes]:
    """Start many clients for one URL at a node, all at once; they keep nothing."""
    options = ["-sS", "-Z", "--parallel-immediate", "--parallel-max", str(count), "-w", SHOWN]
    lines = "".join(f'url = "{url}"\noutput = "/dev/null"\n' for _ in range(count))
    config = stage.place(node) / "crowd.conf"
    config.write_text(lines, "utf-8")
    with (stage.place(node) / "crowd.out").open("wb") as out:
        return stage.net.inside(
            node,
            ["curl", *options, "--max-time", str(PATIENCE), "-K", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def answers(file: Path, size: int) -> tuple[list[tuple[float, float]], int]:
    """Return (first byte, total) of each client that had everything, and how many had not."""
    found, failed = [], 0
    for line in file.read_text("utf-8", "replace").splitlines():
        code, first, total, got = line.split()
        if code in {"200", "206"} and int(float(got)) == size:
            found.append((float(first), float(total)))
        else:
            failed += 1
    return found, failed


def seen(run: Run, times: Sequence[tuple[float, float]], failed: int) -> None:
    """Put what clients saw into the record."""
    firsts, totals = [first for first, _ in times], [total for _, total in times]
    run.times = [round(max(totals, default=0.0), 2)]
    run.values |= {
        "first_byte": percentile(firsts, 0.5),
        "first_byte_p99": percentile(firsts, 0.99),
        "total": percentile(totals, 0.5),
        "total_p99": percentile(totals, 0.99),
        "failures": float(failed),
    }


def play(key: str, case: Case, kind: type[System], round_: int) -> Run:
    """Let clients beside each receiver ask at once."""
    run = Run(key, case.name, kind.name, round_, case.bound, [], {})
    clients = int(case.extra["clients"])
    with staged(case, kind) as (stage, system, doubts):
        for doubt in doubts:
            reject(run, doubt)
        watch = Watch(stage)
        running = {
            node: crowd(stage, node, url_of(system, node), clients) for node in case.receivers
        }
        for process in running.values():
            stage.adopt(process, counted=False)
        watch.wait(lambda node: running[node].poll() is not None, case.receivers, case.patience)
        watch.finish(run)
        times, failed = [], 0
        for node in case.receivers:
            good, bad = answers(stage.place(node) / "crowd.out", case.size)
            times += good
            failed += max(bad, clients - len(good))
        seen(run, times, failed)
        run.values["wan_copies"] = run.carried[0][case.receivers[-1]] / case.size
        if not times:
            run.failed = "no client had the blob"
    return run


def url_of(system: System, receiver: int) -> str:
    """Return where a client asks.  Raises LabError for a system that serves none."""
    served = getattr(system, "url_for", None)
    if served is None:
        raise LabError(f"{system.name} serves no clients")
    return str(served(receiver))


# --- B18 ----------------------------------------------------------------------------------------
def cold(options: Options) -> list[Case]:
    """One site, 200 clients, nothing there yet."""
    size = options.sizes[0] if options.sizes else (4 if options.quick else 200) * MIB
    links = uniform(2, rate=100 * MBIT, rtt=0.05, congestion=options.congestion)
    name = f"{CLIENTS} clients, {size // MIB} MiB, 100 Mbit/s"
    extra = {"clients": CLIENTS}
    return [Case(name, links, size, size / (100 * MBIT), extra=extra, patience=PATIENCE)]


def play_cold(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system for a crowd."""
    return play("B18", case, kind, round_)


B18 = Experiment(
    key="B18",
    title="200 clients of one site ask for the same cold blob",
    cases=cold,
    systems=("atoll", "nginx-cache", "docker-registry"),
    play=play_cold,
    target=Target("wan_copies", 1.05),
    metrics=("total", "total_p99", "first_byte", "first_byte_p99", "failures", "peak_bytes"),
)


# --- B14 ----------------------------------------------------------------------------------------
def views(options: Options) -> list[Case]:
    """One client at each receiver, over the links of B1, B4 and B7."""
    size = options.sizes[0] if options.sizes else (4 if options.quick else 16) * MIB
    rate = 20 * MBIT
    four = uniform(5, rate=rate, rtt=0.05, congestion=options.congestion)
    sites = two_sites(
        3, lan=100 * MBIT, wan=5 * MBIT, lan_rtt=0.001, wan_rtt=0.1, congestion=options.congestion
    )
    flaps = flapping(5.0, 5.0, 5.0, PATIENCE)
    pair = uniform(2, rate=rate, rtt=0.05, outages=flaps, congestion=options.congestion)
    plans: dict[str, tuple[Scenario, float]] = {
        "B1's links": (four, fluid_bound(size, four)),
        "B4's links": (sites, size / (5 * MBIT)),
        "B7's links, 5 s on and off": (pair, finish(size / rate, flaps)),
    }
    return [
        Case(
            name,
            links,
            size,
            bound,
            receivers=others(links.count, (0,)),
            patience=PATIENCE,
            extra={"clients": 1},
        )
        for name, (links, bound) in plans.items()
    ]


def play_view(case: Case, kind: type[System], round_: int) -> Run:
    """Run one system for single clients."""
    return play("B14", case, kind, round_)


B14 = Experiment(
    key="B14",
    title="what one plain client at each receiver sees, over the links of B1, B4 and B7",
    cases=views,
    systems=("atoll", "nginx-cache", "docker-registry"),
    play=play_view,
    metrics=("total", "total_p99", "first_byte", "first_byte_p99", "failures"),
)
