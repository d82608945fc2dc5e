"""Judging the scheduler: the figures of a run, the command line, and that it replays."""

from __future__ import annotations

import argparse
import dataclasses
import json

import pytest

from simulations import swarm
from simulations.scenes import MIB, SCENES


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    swarm.add_arguments(parser)
    return parser.parse_args(arguments)


def test_a_scene_replays_to_the_same_figures():
    one, two = (swarm.play(SCENES["b4"](MIB, 5)) for _ in range(2))
    assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(two, seconds=0.0)
    assert one != dataclasses.replace(swarm.play(SCENES["b4"](MIB, 6)), seconds=one.seconds)


def test_nothing_is_faster_than_the_bound():
    outcome = swarm.play(SCENES["b1"](2 * MIB, 0))
    assert not outcome.failure
    assert 0.3 < outcome.share < 1
    assert outcome.source_copies > 1
    assert outcome.median <= outcome.makespan
    assert 0 < outcome.control < 100_000


def test_a_swarm_that_does_not_finish_is_a_failure(capsys, monkeypatch):
    monkeypatch.setattr(swarm, "PATIENCE", -11.5)
    outcome = swarm.play(SCENES["b1"](2 * MIB, 0))
    assert "of 4 have it" in outcome.failure
    assert "FAILED" in swarm.line(outcome)


def test_scenes_are_chosen_by_name_or_by_number():
    assert [s.name for s in swarm.chosen(options("b1", "b4", "--runs", "1"))] == ["b1", "b4"]
    assert len(swarm.chosen(options("--runs", "2"))) == 2 * len(SCENES)
    wide = swarm.chosen(options("--nodes", "10,100", "--runs", "1", "--mib", "1"))
    assert [(s.name, len(s.seats), s.size) for s in wide] == [
        ("b19-10", 10, MIB),
        ("b19-100", 100, MIB),
    ]
    with pytest.raises(SystemExit, match="no such scene: b99"):
        swarm.chosen(options("b99"))


def test_the_figures_are_written_down(tmp_path, capsys):
    path = tmp_path / "figures.json"
    assert (
        swarm.run(options("b1", "--mib", "1", "--runs", "1", "--jobs", "1", "--json", str(path)))
        == 0
    )
    (row,) = json.loads(path.read_text())
    assert row["scene"] == "b1"
    assert 0 < row["share"] < 1
    assert "of the bound" in capsys.readouterr().out
