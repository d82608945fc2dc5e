"""Samples become a table: the peer's figure, ours, and the ratio, as median and range.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

OURS = "atoll"
# Which metrics are compared, what they are called, and whether more is better.
METRICS: dict[str, tuple[str, bool]] = {
    "requests_per_second": ("requests/s", True),
    "p99": ("p99 ms", False),
    "bytes_per_second": ("GB/s", True),
    "cpu_us_per_request": ("CPU µs/request", False),
    "cpu_seconds_per_gib": ("CPU s/GiB", False),
    "peak_bytes": ("peak RSS MB", False),
    "start_seconds": ("start s", False),
    "start_cpu_seconds": ("start CPU s", False),
    "idle_bytes": ("idle MB", False),
    "installed_bytes": ("installed MB", False),
    "seconds": ("s", False),
    "spent_seconds": ("server's CPU s", False),
    "first_byte_seconds": ("s to the first byte, p50", False),
    "upstream_fetches": ("upstream GETs", False),
    "upstream_copies": ("upstream bytes / size", False),
}
SCALE = {"p99": 1e3, "bytes_per_second": 1e-9, "peak_bytes": 1e-6, "idle_bytes": 1e-6}
SCALE["installed_bytes"] = 1e-6
FOREIGN_MAX = 0.15  # CPUs that others may use before a run is called loaded


class Sample(msgspec.Struct, frozen=True):
    """One server in one round of one case."""

    figure: str
    case: str
    server: str
    round: int
    values: dict[str, float]
    foreign_cpus: float = 0.0  # CPUs kept busy by others meanwhile
    load_average: float = 0.0


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    figure: str
    case: str
    metric: str
    peer: str
    theirs: float
    ours: float
    ratio: float  # ours / theirs, median over rounds
    lowest: float
    highest: float
    rounds: int


def rows(samples: Iterable[Sample]) -> list[Row]:
    """Compare each peer with us, round by round."""
    cells: dict[tuple[str, str, str], dict[str, dict[int, float]]] = {}
    for sample in samples:
        for metric in METRICS:
            if metric in sample.values:
                cell = cells.setdefault((sample.figure, sample.case, metric), {})
                cell.setdefault(sample.server, {})[sample.round] = sample.values[metric]
    found: list[Row] = []
    for (figure, case, metric), servers in cells.items():
        ours = servers.get(OURS, {})
        for peer, theirs in servers.items():
            rounds = sorted(ours.keys() & theirs.keys())
            if peer == OURS or not rounds or not all(theirs[n] for n in rounds):
                continue
            ratios = [ours[n] / theirs[n] for n in rounds]
            found.append(
                Row(
                    figure,
                    case,
                    metric,
                    peer,
                    statistics.median(theirs[n] for n in rounds),
                    statistics.median(ours[n] for n in rounds),
                    statistics.median(ratios),
                    min(ratios),
                    max(ratios),
                    len(rounds),
                )
            )
    return found


def loaded(samples: Sequence[Sample]) -> bool:
    """Tell whether others used the machine in the typical run: its figures then mean little."""
    return bool(samples) and statistics.median(s.foreign_cpus for s in samples) > FOREIGN_MAX


def failures(samples: Iterable[Sample]) -> list[str]:
    """What went wrong, a line each: a figure beside failures is none."""
    return [
        f"FAILED: {each.figure} {each.case} · {each.server}, round {each.round + 1}: "
        f"{each.values['failed']:.0f} of the requests"
        for each in samples
        if each.values.get("failed")
    ]


def verdict(row: Row) -> str:
    """Say who is ahead; nothing is claimed where the ratios lie on both sides of one."""
    if row.lowest <= 1 <= row.highest:
        return "equal"
    more_is_better = METRICS[row.metric][1]
    return "ours" if (row.ratio > 1) == more_is_better else "theirs"


def table(found: Sequence[Row]) -> str:
    """Lines of Markdown."""
    lines = [
        "| figure | work | metric | peer | theirs | ours | ours / theirs (range) | ahead |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        scale, name = SCALE.get(row.metric, 1.0), METRICS[row.metric][0]
        ratio = f"{row.ratio:.2f} ({row.lowest:.2f}–{row.highest:.2f})"
        cells = (row.figure, row.case, name, row.peer)
        figures = (number(row.theirs * scale), number(row.ours * scale), ratio, verdict(row))
        lines.append("| " + " | ".join((*cells, *figures)) + " |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def document(
    samples: Sequence[Sample], servers: dict[str, dict[str, Any]], machine: dict[str, Any]
) -> bytes:
    """The raw figures, for others to judge."""
    content = {
        "machine": machine,
        "servers": servers,
        "loaded": loaded(samples),
        "rows": rows(samples),
        "samples": samples,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1)
