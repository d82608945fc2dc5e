"""Run an experiment of the lab: ``python -m simulations.lab B1 --runs 3``.  Needs root."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from simulations.lab.namespaces import why_not
from simulations.lab.scenarios import ACTS, EXPERIMENTS, MIB, Links, Report
from simulations.lab.shaping import MBIT

LATE_MS_MAX = 3.0  # of delivery error: a run beyond that says little
CPU_MAX = 0.6  # of a core that the hub may use


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m simulations.lab", description=__doc__)
    parser.add_argument("experiment", choices=sorted(EXPERIMENTS))
    parser.add_argument("--by", choices=sorted(ACTS), default="clients", help="who asks for it")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--mib", type=int, default=32, help="size of the blob")
    parser.add_argument("--mbit", type=float, default=20.0, help="rate of every link")
    parser.add_argument("--rtt", type=float, default=0.05, help="round trip, in seconds")
    parser.add_argument("--receivers", type=int, default=4, help="of B1")
    parser.add_argument("--congestion", default="", help="TCP congestion control to pin")
    parser.add_argument("--json", type=Path, help="write every run's figures there")
    return parser.parse_args(arguments)


def doubts(report: Report) -> str:
    """Return why a run may say more about the machine than about the mesh."""
    found = []
    if report.hub_late_ms > LATE_MS_MAX:
        found.append(f"the hub was late by {report.hub_late_ms:.1f} ms")
    if report.hub_cpu > CPU_MAX:
        found.append(f"the hub used {report.hub_cpu:.0%} of a core")
    return ", ".join(found)


def main() -> int:
    """Run what the command line asks for."""
    options = parse(sys.argv[1:])
    reason = why_not()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    links = Links(options.mbit * MBIT, options.rtt, options.congestion)
    act = ACTS[options.by]
    given = {"receivers": options.receivers} if options.experiment == "B1" else {}
    reports = []
    for _ in range(options.runs):
        report = EXPERIMENTS[options.experiment](links, options.mib * MIB, act, **given)
        reports.append(report)
        print(report)
        if doubts(report):
            print(f"  doubtful      {doubts(report)}")
        sys.stdout.flush()
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(reports)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
