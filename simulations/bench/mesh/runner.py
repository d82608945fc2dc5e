"""Every system of every case by turns, round after round; the records go to a file at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from simulations.bench.install import PeerMissingError
from simulations.bench.mesh.catalog import EXPERIMENTS, SYSTEMS
from simulations.bench.mesh.model import Case, Experiment, Options, Run
from simulations.bench.mesh.report import METRICS, told
from simulations.bench.registry import described
from simulations.lab.net import LabError

Notes = Callable[[str], None]


class Ledger(msgspec.Struct):
    """What one command found out: all runs, and what the systems and the machine were."""

    machine: dict[str, Any] = {}
    systems: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    runs: list[Run] = []


def run(
    keys: Sequence[str], rounds: int, options: Options, note: Notes, file: Path | None = None
) -> Ledger:
    """Run the experiments.  A peer that cannot be had is noted and left out.

    What ``file`` has already is kept, so that a long series may be taken in pieces.
    """
    before = msgspec.json.decode(file.read_bytes(), type=Ledger) if file and file.exists() else None
    ledger = before or Ledger()
    ledger.machine |= described()
    for key in keys:
        experiment = EXPERIMENTS[key]
        names = [name for name in experiment.systems if wanted(name, options)]
        available = [name for name in names if has(name, ledger, note)]
        for round_ in range(rounds):
            for case in asked_for(experiment.cases(options), options):
                for name in rotated([n for n in available if takes(case, n)], round_):
                    one = play(experiment, case, name, round_, note, options.again)
                    one.values = without_nan(one.values)
                    ledger.runs = [each for each in ledger.runs if not same(each, one)] + [one]
                    compare(ledger.runs, experiment)
                    note(told(one, experiment))
                    if file:
                        file.write_bytes(msgspec.json.format(msgspec.json.encode(ledger), indent=1))
    return ledger


def without_nan(values: dict[str, float]) -> dict[str, float]:
    """Leave out what is no number: JSON has no word for it."""
    return {name: value for name, value in values.items() if not math.isnan(value)}


def wanted(name: str, options: Options) -> bool:
    """Tell whether the command line asks for a system."""
    return not options.systems or name in options.systems


def asked_for(cases: Sequence[Case], options: Options) -> list[Case]:
    """Return the cases that the command line asks for."""
    parts = options.cases
    return [case for case in cases if not parts or any(part in case.name for part in parts)]


def takes(case: Case, name: str) -> bool:
    """Tell whether a case is for a system."""
    return not case.systems or name in case.systems


def has(name: str, ledger: Ledger, note: Notes) -> bool:
    """Tell whether a system can be had; put what it is on record."""
    if name in ledger.systems:
        return True
    kind = SYSTEMS[name]
    try:
        ledger.systems[name] = {"version": kind.version(), "config": kind.config}
    except (PeerMissingError, LabError, OSError) as error:
        ledger.missing[name] = str(error)
        note(f"{name} is left out: {error}")
        return False
    ledger.missing.pop(name, None)
    return True


def rotated(names: Sequence[str], round_: int) -> list[str]:
    """Begin each round with another system."""
    start = round_ % len(names) if names else 0
    return [*names[start:], *names[:start]]


def same(one: Run, two: Run) -> bool:
    """Tell whether two records are of the same cell and round."""
    return (one.experiment, one.case, one.system, one.round) == (
        two.experiment,
        two.case,
        two.system,
        two.round,
    )


def compare(runs: Sequence[Run], experiment: Experiment) -> None:
    """Divide by what the experiment compares with, in the same round of the same command.

    The same system without a fault gives ``slowdown``, a named other system ``versus_socket``, the
    best of the others ``versus_best``.
    """
    for one in runs:
        if one.experiment != experiment.key:
            continue
        without = found(runs, one, "seconds", case=experiment.baseline)
        if experiment.baseline and without and "seconds" in one.values:
            one.values["slowdown"] = one.values["seconds"] / without
        bare = found(runs, one, "rate", system=experiment.reference)
        if experiment.reference and bare and "rate" in one.values:
            one.values["versus_socket"] = one.values["rate"] / bare
        best = best_other(runs, one, experiment.rivalry)
        if best and experiment.rivalry in one.values:
            one.values["versus_best"] = one.values[experiment.rivalry] / best


def best_other(runs: Sequence[Run], like: Run, metric: str) -> float:
    """Return the best figure that another system has in the same case and round; 0.0 without."""
    values = [
        each.values[metric]
        for each in runs
        if same(each, msgspec.structs.replace(like, system=each.system))
        and each.system.partition("-")[0] != like.system.partition("-")[0]
        and metric in each.values
    ]
    if not values:
        return 0.0
    return max(values) if METRICS[metric][2] else min(values)


def found(runs: Sequence[Run], like: Run, metric: str, **changed: str) -> float:
    """Return a metric of a run that is like another but for what is changed; 0.0 without one."""
    wanted_run = msgspec.structs.replace(like, **changed)
    return next((each.values.get(metric, 0.0) for each in runs if same(each, wanted_run)), 0.0)


def play(
    experiment: Experiment, case: Case, name: str, round_: int, note: Notes, again: int = 1
) -> Run:
    """Run one system once; repeat it if the machine was too noisy, and keep the better record."""
    kept: Run | None = None
    for _ in range(1 + again):
        try:
            kept = experiment.play(case, SYSTEMS[name], round_)
        except (LabError, OSError) as error:
            kept = Run(experiment.key, case.name, name, round_, case.bound, [], {})
            kept.failed = f"{type(error).__name__}: {str(error)[-600:]}"
            return kept
        if not kept.rejected:
            break
        note(f"{experiment.key} {case.name} · {name}: rejected: {kept.rejected}")
    assert kept is not None
    return kept
