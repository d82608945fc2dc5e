"""Ratios are taken round by round, and nothing is claimed that the range does not hold."""

from __future__ import annotations

import json

from simulations.bench import summary
from simulations.bench.summary import Sample


def sample(server: str, round_: int, rate: float, *, foreign: float = 0.0) -> Sample:
    return Sample("R1", "index", server, round_, {"requests_per_second": rate}, foreign)


def start(server: str, round_: int, seconds: float) -> Sample:
    return Sample("R6", "start", server, round_, {"start_seconds": seconds})


def test_the_ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians() -> None:
    theirs = [sample("peer", n, rate) for n, rate in enumerate((100, 200, 400))]
    ours = [sample("atoll", n, rate) for n, rate in enumerate((200, 200, 1200))]
    (row,) = summary.rows([*theirs, *ours])
    assert (row.peer, row.theirs, row.ours, row.rounds) == ("peer", 200, 200, 3)
    assert (row.ratio, row.lowest, row.highest) == (2, 1, 3)


def test_only_rounds_that_both_finished_count() -> None:
    samples = [sample("peer", 0, 100), sample("peer", 1, 100), sample("atoll", 1, 50)]
    (row,) = summary.rows(samples)
    assert (row.rounds, row.ratio) == (1, 0.5)
    assert summary.rows([sample("peer", 0, 100)]) == []
    assert summary.rows([sample("peer", 0, 0), sample("atoll", 0, 1)]) == []


def test_a_range_around_one_is_no_win() -> None:
    def verdict(*pairs: tuple[float, float]) -> str:
        ours = [sample("atoll", n, pair[0]) for n, pair in enumerate(pairs)]
        theirs = [sample("peer", n, pair[1]) for n, pair in enumerate(pairs)]
        return summary.verdict(summary.rows([*ours, *theirs])[0])

    assert verdict((3, 1), (2, 1)) == "ours"
    assert verdict((1, 3), (1, 2)) == "theirs"
    assert verdict((3, 1), (1, 2), (3, 1)) == "equal"


def test_less_is_better_for_seconds_and_memory() -> None:
    (row,) = summary.rows([start("atoll", 0, 1.0), start("peer", 0, 2.0)])
    assert row.ratio == 0.5
    assert summary.verdict(row) == "ours"


def test_a_busy_machine_is_named() -> None:
    assert not summary.loaded([])
    quiet = [sample("atoll", n, 1, foreign=0.01) for n in range(4)]
    assert not summary.loaded([*quiet, sample("atoll", 5, 1, foreign=1.9)])
    assert summary.loaded([sample("atoll", 0, 1, foreign=0.5)])


def test_the_table_shows_losses_as_plainly_as_wins() -> None:
    samples = [sample("atoll", 0, 50), sample("peer", 0, 100), start("atoll", 0, 1.0)]
    text = summary.table(summary.rows([*samples, start("peer", 0, 4.0)]))
    assert "| R1 | index | requests/s | peer | 100 | 50.0 | 0.50 (0.50–0.50) | theirs |" in text
    assert "| R6 | start | start s | peer | 4 | 1 | 0.25 (0.25–0.25) | ours |" in text


def test_the_document_holds_what_the_table_was_made_of() -> None:
    samples = [sample("atoll", 0, 50, foreign=1.0), sample("peer", 0, 100)]
    document = json.loads(summary.document(samples, {"peer": {"version": "1"}}, {"cpus": 2}))
    assert [each["server"] for each in document["samples"]] == ["atoll", "peer"]
    assert document["rows"][0]["ratio"] == 0.5
    assert document["loaded"] is True
    assert document["servers"]["peer"]["version"] == "1"


def test_numbers_have_three_digits() -> None:
    shown = [summary.number(value) for value in (12345.6, 123.4, 12.34, 1.234, 0.01234)]
    assert shown == ["12,346", "123", "12.3", "1.23", "0.0123"]


def test_failures_stand_beside_the_figures() -> None:
    broken = Sample("R8", "crowd", "peer", 1, {"failed": 3.0})
    assert summary.failures([broken, sample("atoll", 0, 1)]) == [
        "FAILED: R8 crowd · peer, round 2: 3 of the requests"
    ]
