"""What came of many histories, for people and for machines."""

from __future__ import annotations

import statistics
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulations.history import Result


@dataclass(frozen=True)
class Report:
    """What failed, what was done, how long it took.  Times are seconds."""

    commit: str
    histories: int
    first: int
    last: int
    failures: dict[int, str]
    recovered_median: float  # from the last fault until all was right
    recovered_worst: float
    seconds: float
    processor_seconds: float
    events: int
    bytes_carried: int
    seen: dict[str, int]  # steps that were done, and what came of them

    def __str__(self) -> str:
        failed = f"{len(self.failures)} failed"
        if self.failures:
            failed += f": {' '.join(map(str, self.failures))}"
        return (
            f"{self.histories} histories in {self.seconds:.1f} s "
            f"({self.processor_seconds:.1f} s of processors) at commit {self.commit}: {failed}; "
            f"all was right again after {self.recovered_median:.1f} s (median), "
            f"{self.recovered_worst:.1f} s (worst)"
        )


def commit() -> str:
    """Return the commit that is checked out, marked if files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def line(result: Result) -> str:
    """Return one history in one line."""
    verdict = "FAILED" if result.failure else "ok"
    return (
        f"seed {result.seed:6d} {verdict:6s} {result.steps:7d} events, "
        f"{result.bytes_carried / 1e6:6.1f} MB, right after {result.recovered:5.1f} s, "
        f"history {result.digest}, {result.seconds:5.2f} s"
    )


def summarise(played: Sequence[Result], seconds: float) -> Report:
    """Return the report of histories that took ``seconds`` in all."""
    recovered = [result.recovered for result in played if not result.failure] or [0.0]
    seen = Counter[str]()
    for result in played:
        seen.update(result.seen)
    return Report(
        commit(),
        len(played),
        min((result.seed for result in played), default=0),
        max((result.seed for result in played), default=0),
        {result.seed: result.failure for result in played if result.failure},
        statistics.median(recovered),
        max(recovered),
        seconds,
        sum(result.seconds for result in played),
        sum(result.steps for result in played),
        sum(result.bytes_carried for result in played),
        dict(sorted(seen.items())),
    )
