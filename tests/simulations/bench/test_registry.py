"""How a run is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.bench import registry
from simulations.bench.client import AnswerError
from simulations.bench.figures import Bench, Sizes
from simulations.bench.summary import Sample

SAMPLES = [
    Sample("R1", "index", "atoll", 0, {"requests_per_second": 1500.0, "p99": 0.02}, 0.0),
    Sample("R1", "index", "peer", 0, {"requests_per_second": 1000.0, "p99": 0.01}, 0.0),
]
SERVERS = {"peer": {"version": "1.2.3"}}


def test_every_figure_has_what_it_needs() -> None:
    assert registry.NEEDED.keys() == registry.ROUND.keys()
    assert registry.SETUP.keys() <= registry.ROUND.keys()
    assert all("atoll" in names for names in registry.NEEDED.values())


@pytest.mark.parametrize("error", [ConnectionResetError("hung up"), AnswerError("500")])
def test_what_a_peer_breaks_off_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def breaks(bench: Bench, round_: int) -> Iterator[Sample]:
        yield SAMPLES[round_]
        raise error

    monkeypatch.setitem(registry.ROUND, "R3", breaks)
    notes: list[str] = []
    bench = Bench({}, Path(), Sizes(), notes.append)
    assert registry._measure(bench, ["R3"], 2) == SAMPLES
    assert sum("broke off" in note for note in notes) == 2


def test_a_measurement_is_told_in_units_for_people() -> None:
    told = registry.told(SAMPLES[0], 5)
    assert told.startswith("R1 1/5 index · atoll: requests/s 1,500, p99 ms 20.0")


def test_a_report_names_versions_and_warns_of_load() -> None:
    text = registry.report(SAMPLES, SERVERS)
    assert "- peer: 1.2.3" in text
    assert "1.50 (1.50–1.50) | ours |" in text
    assert "UNDER LOAD" not in text
    busy = [Sample(s.figure, s.case, s.server, s.round, s.values, 1.5) for s in SAMPLES]
    assert "UNDER LOAD" in registry.report(busy, SERVERS)


def test_the_machine_is_described() -> None:
    assert {"cpus", "kernel", "python", "load_average"} <= registry.described().keys()
