"""One run: make links, calibrate them, let a system bring the blob, write down what it took.

Spec: docs/benchmarks.md, "How a run goes".
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from simulations.bench.mesh.calibrate import calibrate
from simulations.bench.mesh.model import Case, Run
from simulations.bench.mesh.stage import Stage, digest_of
from simulations.bench.mesh.systems.base import System
from simulations.lab.hub import Counts
from simulations.lab.net import LabError, Net

LOOK = 0.02  # seconds between looks at whether somebody is done
TICK = 0.05  # between looks at the links
HUB_CPU_MAX = 0.6  # of a core
LATE_MS_MAX = 3.0
Event = tuple[float, Callable[[], None]]  # seconds after the beginning, and what happens then


@contextmanager
def staged(case: Case, kind: type[System]) -> Generator[tuple[Stage, System, list[str]]]:
    """Make links and a system on them, ready to begin; the list has what is doubtful so far."""
    with tempfile.TemporaryDirectory(prefix="atoll-lab-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        folder.chmod(0o755)
        with Net(case.links, folder) as net, Stage(net, folder, case) as stage:
            far = case.receivers[-1] if case.receivers else 1
            doubts = calibrate(net, case.sources[0], far).doubts()
            system = kind(stage)
            try:
                system.prepare()
                yield stage, system, [doubts] if doubts else []
            finally:
                system.close()


class Watch:
    """Looks at the links and the receivers while a system works."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.before = stage.net.counts()
        self._cpu = stage.usage.cpu()
        self.timeline: list[tuple[float, float]] = []
        self.had: list[int] = []  # payload that each receiver got, once it is finished
        stage.net.go()
        self.began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def wait(
        self,
        done: Callable[[int], bool],
        receivers: Sequence[int],
        patience: float,
        events: Sequence[Event] = (),
    ) -> dict[int, float]:
        """Return when each receiver was done, those that were not left out.

        Lets the events happen at their times.
        """
        times: dict[int, float] = {}
        waiting = sorted(events, key=lambda event: -event[0])
        ticked = 0.0
        while len(times) < len(receivers) and self.elapsed < patience:
            while waiting and self.elapsed >= waiting[-1][0]:
                waiting.pop()[1]()
            for receiver in receivers:
                if receiver not in times and done(receiver):
                    times[receiver] = self.elapsed
            if self.elapsed - ticked >= TICK:
                ticked = self.elapsed
                self.tick()
            time.sleep(LOOK)
        self.tick()
        return times

    def tick(self) -> None:
        """Note what the receivers have had so far."""
        counts = self._stage.net.counts()
        self.timeline.append((self.elapsed, float(self._received(counts))))

    def _received(self, counts: Counts) -> int:
        moved = difference(counts.payload, self.before.payload)
        return sum(row[each] for row in moved for each in self._stage.case.receivers)

    def finish(self, run: Run) -> None:
        """Put what was seen into the record."""
        stage, case, after = self._stage, self._stage.case, self._stage.net.counts()
        run.carried = difference(after.carried, self.before.carried)
        payload = difference(after.payload, self.before.payload)
        run.timeline = thinned(self.timeline)
        elapsed = max(1e-9, after.elapsed - self.before.elapsed)
        run.hub_cpu = (after.cpu - self.before.cpu) / elapsed
        run.hub_late_ms = after.late_ms
        run.load = os.getloadavg()[0]
        into = sum(payload[a][b] for a in range(len(payload)) for b in case.receivers)
        out = sum(sum(payload[each]) for each in case.sources)
        self.had = [sum(row[each] for row in payload) for each in case.receivers]
        run.values |= {
            "source_copies": out / case.size,
            "overhead": into / (case.size * max(1, len(case.receivers))) - 1,
            "cpu_seconds": stage.usage.cpu() - self._cpu,
            "peak_bytes": float(stage.usage.peak()),
        }
        if case.links.sites:
            across = sum(
                run.carried[a][b]
                for a in range(case.links.count)
                for b in range(case.links.count)
                if case.links.apart(a, b)
            )
            run.values["wan_copies"] = across / case.size
        if run.hub_cpu > HUB_CPU_MAX:
            reject(run, f"the hub used {run.hub_cpu:.0%} of a core")
        if run.hub_late_ms > LATE_MS_MAX:
            reject(run, f"the hub was late by {run.hub_late_ms:.1f} ms")


def reject(run: Run, reason: str) -> None:
    """Say why a run says little."""
    run.rejected = f"{run.rejected}, {reason}" if run.rejected else reason


def difference(late: list[list[int]], early: list[list[int]]) -> list[list[int]]:
    """Subtract a matrix from a later one."""
    return [
        [now - then for now, then in zip(*rows, strict=True)]
        for rows in zip(late, early, strict=True)
    ]


def thinned(timeline: Sequence[tuple[float, float]], most: int = 300) -> list[tuple[float, float]]:
    """Return at most about ``most`` points of a timeline, its last one included."""
    step = max(1, len(timeline) // most)
    points = [(round(at, 3), amount) for at, amount in timeline[::-1][::step]]
    return points[::-1]


Measure = Callable[[Run, "Watch", Case], None]


def distribute(
    key: str,
    case: Case,
    kind: type[System],
    round_: int,
    *,
    events: Callable[[System, Case], Sequence[Event]] = lambda _system, _case: (),
    measure: Measure = lambda _run, _watch, _case: None,
    ready: Callable[[System], None] = lambda _system: None,
    whole: bool = True,
) -> Run:
    """Run one system in one case: all receivers begin at once, and the last one counts.

    ``ready`` is called before the clock runs, ``events`` has what happens while it does.  A run
    that must not be ``whole`` may leave receivers without the blob.
    """
    run = Run(key, case.name, kind.name, round_, case.bound, [], {})
    with staged(case, kind) as (stage, system, doubts):
        for doubt in doubts:
            reject(run, doubt)
        ready(system)
        watch = Watch(stage)
        for receiver in case.receivers:
            system.begin(receiver)
        planned = events(system, case)
        times = watch.wait(system.done, case.receivers, case.patience, planned)
        watch.finish(run)
        run.times = [round(at, 2) for at in times.values()]
        missing = [each for each in case.receivers if each not in times]
        if missing and whole:
            run.failed = f"{len(missing)} of {len(case.receivers)} had nothing whole after "
            run.failed += f"{case.patience:.0f} s"
        elif not missing:
            check(system, stage)
            run.values["share"] = case.bound / max(times.values())
            run.values["seconds"] = max(times.values())
        measure(run, watch, case)
    return run


def check(system: System, stage: Stage) -> None:
    """Look whether every receiver has the very bytes.  Raises LabError."""
    for receiver in stage.case.receivers:
        with suppress(FileNotFoundError):
            if digest_of(system.result(receiver)) == stage.digest:
                continue
        raise LabError(f"{system.name}: n{receiver} has other bytes")
