"""What a table says, and what it leaves out."""

from __future__ import annotations

import math

from simulations.bench.mesh.model import Experiment, Run, Target
from simulations.bench.mesh.report import cells, number, report, table, told

EXPERIMENT = Experiment(
    key="B1",
    title="a title",
    cases=lambda _options: [],
    systems=("atoll", "curl"),
    play=lambda: None,  # type: ignore[arg-type,return-value]  # never played
    target=Target("share", 0.9, more_is_better=True),
    metrics=("seconds", "lag"),
)


def run(system: str, round_: int, share: float, *, rejected: str = "", failed: str = "") -> Run:
    values = {} if failed else {"share": share, "seconds": 1 / share, "lag": math.nan}
    found = Run("B1", "32 MiB", system, round_, 13.4, [], values)
    found.rejected, found.failed = rejected, failed
    return found


def test_a_cell_has_the_median_and_the_range() -> None:
    (cell,) = cells([run("atoll", n, share) for n, share in enumerate((0.9, 0.5, 0.8))], "B1")
    found = (cell.middles["share"], cell.lowest["share"], cell.highest["share"], cell.rounds)
    assert found == (0.8, 0.5, 0.9, 3)
    assert "lag" not in cell.middles


def test_a_noisy_run_counts_only_where_there_is_no_other() -> None:
    noisy = run("atoll", 0, 0.1, rejected="the hub was late")
    (cell,) = cells([noisy, run("atoll", 1, 0.8)], "B1")
    assert (cell.middles["share"], cell.rounds, cell.rejected) == (0.8, 1, 1)
    (cell,) = cells([noisy], "B1")
    assert (cell.middles["share"], cell.rounds, cell.rejected) == (0.1, 1, 1)


def test_failures_are_told_and_not_averaged() -> None:
    runs = [run("curl", 0, 0.2), run("curl", 1, 0.0, failed="gave up")]
    (cell,) = cells(runs, "B1")
    assert (cell.rounds, cell.failed, cell.middles["share"]) == (1, 1, 0.2)
    text = report(runs, {"B1": EXPERIMENT}, {"desync": "not to be had"})
    assert "1, 1 failed" in text
    assert "- curl, 32 MiB: gave up" in text
    assert "desync is missing: not to be had" in text


def test_a_table_shows_the_target_and_each_range() -> None:
    found = cells([run("atoll", 0, 0.5), run("atoll", 1, 0.8), run("curl", 0, 0.25)], "B1")
    head, _, ours, theirs = table(found, EXPERIMENT).splitlines()
    assert "target ≥ 90.0" in head
    assert "lag" not in head
    assert ours.startswith("| 32 MiB | atoll | 65.0 (50.0–80.0) | 1.62 | 2 |")
    assert theirs == "| 32 MiB | curl | 25.0 | 4 | 1 |"


def test_a_line_for_each_run() -> None:
    assert "share of the bound, % 50.0" in told(run("atoll", 0, 0.5), EXPERIMENT)
    assert told(run("atoll", 0, 0.5, failed="no"), EXPERIMENT).endswith("failed: no")
    assert [number(value) for value in (1234.5, 12.34, 1.234)] == ["1,234", "12.3", "1.23"]


def test_targets_know_their_direction() -> None:
    assert Target("share", 0.9, more_is_better=True).met(0.95)
    assert not Target("lag", 1.05).met(1.2)
    assert (str(Target("lag", 1.05)), str(Target("share", 0.9, more_is_better=True))) == (
        "≤ 1.05",
        "≥ 0.9",
    )
