"""The order of runs, repeats of noisy ones, and what becomes of a missing peer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulations.bench.install import PeerMissingError
from simulations.bench.mesh import runner
from simulations.bench.mesh.calibrate import Calibration
from simulations.bench.mesh.catalog import EXPERIMENTS, SYSTEMS
from simulations.bench.mesh.drawing import data
from simulations.bench.mesh.model import Case, Experiment, Options, Run, Target
from simulations.bench.mesh.play import difference, reject, thinned
from simulations.bench.mesh.report import METRICS
from simulations.lab.net import LabError
from simulations.lab.shaping import uniform

CASE = Case("case", uniform(2, rate=1e6, rtt=0.0), 1000, 1.0)
KINDS: dict[str, Any] = {}


class Ours:
    name = "atoll"
    config = "ours"

    @classmethod
    def version(cls) -> str:
        return "1"


class Theirs(Ours):
    name = "curl"


class Missing(Ours):
    name = "aria2"

    @classmethod
    def version(cls) -> str:
        raise PeerMissingError("not here")


def experiment(play: Any) -> Experiment:
    return Experiment(
        key="B1",
        title="",
        cases=lambda _options: [CASE],
        systems=("atoll", "curl", "aria2"),
        play=play,
        target=Target("share", 0.9, more_is_better=True),
    )


def made(kind: type[Any], round_: int, share: float = 0.5) -> Run:
    return Run("B1", "case", kind.name, round_, 1.0, [1.0], {"share": share})


@pytest.fixture(autouse=True)
def _systems(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Ours, Theirs, Missing):
        monkeypatch.setitem(SYSTEMS, kind.name, kind)


def test_systems_take_turns_and_a_missing_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[str] = []

    def play(_case: Case, kind: type[Any], round_: int) -> Run:
        order.append(kind.name)
        found = made(kind, round_)
        found.values["lag"] = math.nan  # JSON has no such number
        return found

    monkeypatch.setitem(EXPERIMENTS, "B1", experiment(play))
    file, notes = tmp_path / "raw.json", []
    found = runner.run(["B1"], 2, Options(), notes.append, file)
    assert order == ["atoll", "curl", "curl", "atoll"]
    assert found.missing == {"aria2": "not here"}
    assert found.systems["atoll"] == {"version": "1", "config": "ours"}
    again = runner.run(["B1"], 1, Options(systems=("atoll",)), notes.append, file)
    assert len(again.runs) == 4  # the first round of ours was taken again


def test_some_cases_may_be_asked_for() -> None:
    cases = EXPERIMENTS["B6"].cases(Options())
    names = [case.name for case in runner.asked_for(cases, Options(cases=("1.0% loss, 50 ms",)))]
    assert names == ["cubic, 1.0% loss, 50 ms", "bbr, 1.0% loss, 50 ms"]
    assert runner.asked_for(cases, Options()) == cases


def test_a_noisy_run_is_repeated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def play(_case: Case, kind: type[Any], round_: int) -> Run:
        tried.append(round_)
        found = made(kind, round_)
        if len(tried) == 1:
            reject(found, "a ping took long")
        return found

    found = runner.play(experiment(play), CASE, "atoll", 3, lambda _: None)
    assert (tried, found.rejected) == ([3, 3], "")


def test_figures_are_compared_within_a_round() -> None:
    def of(system: str, case: str, round_: int, **values: float) -> Run:
        return Run("B1", case, system, round_, 1.0, [], values)

    one = of("atoll", "ill", 0, seconds=12.0, rate=4.0, goodput=0.5)
    runs = [
        one,
        of("atoll", "well", 0, seconds=8.0, rate=9.0),
        of("atoll", "well", 1, seconds=1.0),
        of("curl", "ill", 0, rate=8.0, goodput=0.25),
        of("rsync", "ill", 0, goodput=0.4),
        of("atoll-policy", "ill", 0, goodput=0.9),
        of("rsync", "ill", 1, goodput=5.0),
    ]
    plan = replace(experiment(lambda: None), baseline="well", reference="curl", rivalry="goodput")
    runner.compare(runs, plan)
    assert one.values["slowdown"] == 1.5
    assert one.values["versus_socket"] == 0.5
    assert one.values["versus_best"] == pytest.approx(1.25)  # our own variants are no rivals
    assert runs[3].values["versus_best"] == pytest.approx(0.25 / 0.9)


def test_what_breaks_is_a_failed_run() -> None:
    def play(*_: object) -> Run:
        raise LabError("nobody is linked")

    found = runner.play(experiment(play), CASE, "atoll", 0, lambda _: None)
    assert found.failed == "LabError: nobody is linked"


@pytest.mark.parametrize(
    ("calibration", "doubt"),
    [
        (Calibration(0.051, 0.05, 2.45e6, 2.5e6), ""),
        (Calibration(0.051, 0.05, 0.0, 2.5e6), ""),
        (Calibration(0.054, 0.05, 2.5e6, 2.5e6), "a ping took 54.0 ms, not 50.0"),
        (Calibration(0.05, 0.05, 2.3e6, 2.5e6), "one flow had 92% of the rate"),
        (Calibration(0.05, 0.05, 2.7e6, 2.5e6), "one flow had 108% of the rate"),
    ],
)
def test_links_that_are_not_what_they_should_be(calibration: Calibration, doubt: str) -> None:
    assert calibration.doubts() == doubt


def test_reasons_add_up() -> None:
    run = made(Ours, 0)
    reject(run, "one")
    reject(run, "two")
    assert run.rejected == "one, two"


def test_matrices_and_timelines() -> None:
    assert difference([[0, 5], [7, 0]], [[0, 2], [3, 0]]) == [[0, 3], [4, 0]]
    points = [(n / 10, float(n)) for n in range(1000)]
    short = thinned(points, 100)
    assert len(short) == 100
    assert short[-1] == points[-1]
    assert thinned([], 100) == []


def test_every_experiment_names_what_it_shows() -> None:
    for key, each in EXPERIMENTS.items():
        assert each.key == key
        shown = [*each.metrics, *([each.target.metric] if each.target else [])]
        assert set(shown) <= METRICS.keys()
        assert set(each.systems) <= SYSTEMS.keys()
        for options in (Options(), Options(quick=True)):
            cases = each.cases(options)
            assert len({case.name for case in cases}) == len(cases) > 0
            assert all(case.bound > 0 for case in cases)


def test_pictures_have_the_range_and_the_target() -> None:
    ledger = runner.Ledger(runs=[made(Ours, 0, 0.5), made(Ours, 1, 0.7), made(Theirs, 0, 0.2)])
    (picture,) = data(ledger, {"B1": experiment(lambda: None)})
    assert picture["target"] == 90
    assert [(bar["system"], bar["lowest"], bar["highest"]) for bar in picture["bars"]] == [
        ("atoll", 50, 70),
        ("curl", 20, 20),
    ]
