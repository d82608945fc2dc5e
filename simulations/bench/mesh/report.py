"""Runs become tables: each system's median and range, and how it stands to ours.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from simulations.bench.mesh.bounds import middle
from simulations.bench.mesh.model import Experiment, Run

OURS = ("atoll", "atoll-policy")
# Metric → what it is called, the factor of its unit, and whether more is better.
METRICS: dict[str, tuple[str, float, bool]] = {
    "share": ("share of the bound, %", 100.0, True),
    "seconds": ("seconds", 1.0, False),
    "source_copies": ("copies the source sent", 1.0, False),
    "overhead": ("payload beyond the blob, %", 100.0, False),
    "cpu_seconds": ("CPU s of all nodes", 1.0, False),
    "peak_bytes": ("peak RSS MB", 1e-6, False),
    "wan_copies": ("copies over the WAN", 1.0, False),
    "lag": ("lag after link-up, s", 1.0, False),
    "lag_worst": ("worst lag, s", 1.0, False),
    "whole": ("receivers that have all", 1.0, True),
    "second_hop": ("B–C / (F/rate)", 1.0, False),
    "slowdown": ("times slower than without", 1.0, False),
    "refetch_seconds": ("seconds of rate fetched twice", 1.0, False),
    "recoverable": ("share recoverable, %", 100.0, True),
    "goodput": ("goodput / rate, %", 100.0, True),
    "versus_oracle": ("times the oracle's seconds", 1.0, False),
    "makespan": ("makespan / (F/WAN)", 1.0, False),
    "hop_copies": ("copies over the worst hop", 1.0, False),
    "moved_share": ("bytes moved / size, %", 100.0, False),
    "first_byte": ("p50 to first byte, s", 1.0, False),
    "first_byte_p99": ("p99 to first byte, s", 1.0, False),
    "total": ("p50 total, s", 1.0, False),
    "total_p99": ("p99 total, s", 1.0, False),
    "failures": ("failed clients", 1.0, False),
    "rate": ("MB/s", 1e-6, True),
    "cpu_per_gb": ("CPU s/GB, both ends", 1.0, False),
    "versus_socket": ("of a bare TLS socket that hashes, %", 100.0, True),
    "files_per_second": ("files/s", 1.0, True),
    "bytes_overhead": ("bytes beyond the files, %", 100.0, False),
    "excess_bytes": ("bytes beyond the records, kB", 1e-3, False),
    "round_trips": ("round trips", 1.0, False),
    "moved": ("bytes moved, MB", 1e-6, False),
    "resident": ("RSS MB", 1e-6, False),
    "control_per_node": ("control kB per node", 1e-3, False),
    "bytes_per_record": ("bytes a record", 1.0, False),
    "records_per_second": ("records/s", 1.0, True),
    "size": ("size, MB", 1e-6, False),
    "versus_best": ("times the best other", 1.0, False),
    "outages": ("outages met", 1.0, False),
}


class Cell(msgspec.Struct, frozen=True):
    """One system in one case: the middle of each metric, and its range."""

    case: str
    system: str
    rounds: int
    rejected: int
    failed: int
    middles: dict[str, float]
    lowest: dict[str, float]
    highest: dict[str, float]
    reason: str = ""


def cells(runs: Sequence[Run], key: str) -> list[Cell]:
    """Sum up the runs of an experiment, in the order in which they came.

    A rejected run counts only where a cell has no other.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.experiment == key:
            groups.setdefault((run.case, run.system), []).append(run)
    return [_cell(case, system, mine) for (case, system), mine in groups.items()]


def _cell(case: str, system: str, runs: list[Run]) -> Cell:
    fine = [run for run in runs if not run.failed and not run.rejected]
    counted = fine or [run for run in runs if not run.failed]
    names = dict.fromkeys(name for run in counted for name in run.values)
    found = {
        name: [v for run in counted if not math.isnan(v := run.values.get(name, math.nan))]
        for name in names
    }
    found = {name: values for name, values in found.items() if values}
    return Cell(
        case,
        system,
        len(counted),
        sum(bool(run.rejected) for run in runs),
        sum(bool(run.failed) for run in runs),
        {name: middle(values) for name, values in found.items()},
        {name: min(values) for name, values in found.items()},
        {name: max(values) for name, values in found.items()},
        next((run.failed for run in runs if run.failed), ""),
    )


def table(found: Sequence[Cell], experiment: Experiment) -> str:
    """Lines of Markdown: the experiment's figure with its range, and the other metrics' medians."""
    target = experiment.target
    main = target.metric if target else ""
    metrics = [main] if main else []
    metrics += [name for name in experiment.metrics if any(name in c.middles for c in found)]
    heads = [METRICS[name][0] for name in metrics]
    if target:
        heads[0] += f" (target {_limit(experiment)})"
    lines = [f"| case | system | {' | '.join(heads)} | runs |"]
    lines.append("|---" * (len(heads) + 3) + "|")
    for cell in found:
        shown = [_shown(cell, name, ranged=name == main or not main) for name in metrics]
        runs = str(cell.rounds)
        runs += f", {cell.failed} failed" if cell.failed else ""
        runs += f", {cell.rejected} noisy" if cell.rejected else ""
        lines.append(f"| {cell.case} | {cell.system} | {' | '.join(shown)} | {runs} |")
    return "\n".join(lines)


def _limit(experiment: Experiment) -> str:
    target = experiment.target
    assert target is not None
    sign = "≥" if target.more_is_better else "≤"
    return f"{sign} {number(target.limit * METRICS[target.metric][1])}"


def _shown(cell: Cell, name: str, *, ranged: bool) -> str:
    if name not in cell.middles:
        return "–"
    scale = METRICS[name][1]
    text = number(cell.middles[name] * scale)
    if ranged and cell.rounds > 1:
        text += f" ({number(cell.lowest[name] * scale)}–{number(cell.highest[name] * scale)})"
    return text


def number(value: float) -> str:
    """Three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def told(run: Run, experiment: Experiment) -> str:
    """One line for one run, as it comes."""
    head = f"{run.experiment} {run.round + 1} {run.case} · {run.system}: "
    if run.failed:
        return head + f"failed: {run.failed}"
    names = ([experiment.target.metric] if experiment.target else []) + list(experiment.metrics)
    shown = [
        f"{METRICS[name][0]} {number(run.values[name] * METRICS[name][1])}"
        for name in names
        if name in run.values
    ]
    noisy = f"  [noisy: {run.rejected}]" if run.rejected else ""
    return f"{head}{'; '.join(shown)}; load {run.load:.1f}{noisy}"


def report(
    runs: Sequence[Run], experiments: Mapping[str, Experiment], missing: Mapping[str, str]
) -> str:
    """Return all tables."""
    parts = []
    for key, experiment in experiments.items():
        found = cells(runs, key)
        if found:
            reasons = {f"- {c.system}, {c.case}: {c.reason}" for c in found if c.reason}
            lines = [f"### {key}: {experiment.title}", "", table(found, experiment), ""]
            parts.append("\n".join([*lines, *sorted(reasons)]))
    parts += [f"- {name} is missing: {reason}" for name, reason in missing.items()]
    return "\n\n".join(parts)
