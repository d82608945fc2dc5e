"""What an experiment is, declared: cases, what each measures, and the record of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from simulations.lab.shaping import Scenario


@dataclass(frozen=True)
class Case:
    """One cell of an experiment: links, who has what, and what happens.

    ``size`` is of the blob, ``bound`` the least seconds, ``patience`` how long to wait for it.
    ``extra`` is whatever the experiment's own play wants to know.
    """

    name: str
    links: Scenario
    size: int
    bound: float
    sources: tuple[int, ...] = (0,)
    receivers: tuple[int, ...] = (1,)
    patience: float = 300.0
    systems: tuple[str, ...] = ()  # empty: those of the experiment
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Run(msgspec.Struct):
    """One system in one round of one case.  Times are seconds, sizes bytes."""

    experiment: str
    case: str
    system: str
    round: int
    bound: float
    times: list[float]  # of each receiver
    values: dict[str, float]
    carried: list[list[int]] = []  # bytes by source and target, headers included
    timeline: list[tuple[float, float]] = []  # payload that the receivers have had, by time
    hub_cpu: float = 0.0
    hub_late_ms: float = 0.0
    load: float = 0.0
    rejected: str = ""  # why it says little
    failed: str = ""  # why it has no figures


@dataclass(frozen=True)
class Target:
    """The figure that an experiment is about, and what it should be."""

    metric: str
    limit: float
    more_is_better: bool = False

    def met(self, value: float) -> bool:
        """Tell whether a figure is good enough."""
        return value >= self.limit if self.more_is_better else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.more_is_better else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Options:
    """What the command line may change."""

    sizes: tuple[int, ...] = ()  # bytes; empty: the experiment's own
    congestion: str = "bbr"
    systems: tuple[str, ...] = ()  # empty: all
    quick: bool = False  # a small case of each, to see that the harness works
    again: int = 1  # times that a noisy run is repeated
    cases: tuple[str, ...] = ()  # parts of their names; empty: all


@dataclass(frozen=True)
class Experiment:
    """One of B1 to B19.

    ``play`` runs one system in one case and returns the record of it; ``metrics`` names what the
    table shows besides the target's figure.
    """

    key: str
    title: str
    cases: Callable[[Options], list[Case]]
    systems: tuple[str, ...]
    play: Callable[..., Run]
    target: Target | None = None
    metrics: tuple[str, ...] = ()
    baseline: str = ""  # the case whose seconds the others' are divided by: ``slowdown``
    rivalry: str = ""  # the metric that is divided by the best other system's: ``versus_best``
    reference: str = ""  # the system whose rate the others' are divided by: ``versus_socket``
