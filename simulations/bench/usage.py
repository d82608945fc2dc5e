"""CPU time and memory of a process and its children, and how busy the rest of the machine is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")  # clock ticks a second
PROC = Path("/proc")


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    parents: dict[int, list[int]] = {}
    for each in PROC.iterdir():
        if each.name.isdigit() and (fields := stat_of(int(each.name))):
            parents.setdefault(int(fields[1]), []).append(int(each.name))
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += parents.get(one, [])
    return found


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name; none if the process is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """CPU time of a process tree so far, waited-for children included."""
    return sum(
        sum(int(value) for value in fields[11:15]) / TICK
        for each in tree(pid)
        if (fields := stat_of(each))
    )


def cpu_nanoseconds(pid: int) -> int:
    """CPU time of the threads that one process has now: for what takes less than a clock tick."""
    total = 0
    with suppress(OSError):
        for thread in (PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                total += int((thread / "schedstat").read_text("ascii").split()[0])
    return total


def cpu_of(pid: int) -> float:
    """CPU time of one process without its children; 0.0 if it is gone."""
    fields = stat_of(pid)
    return sum(int(value) for value in fields[11:13]) / TICK if fields else 0.0


def peak_of(pid: int) -> int:
    """The largest resident memory of one process, ever or since forget_peak, in bytes."""
    return _kilobytes(pid, "status", "VmHWM:") * 1024


def resident(pid: int) -> int:
    """Resident memory of a process tree in bytes; shared pages are shared out (PSS)."""
    return sum(_kilobytes(each, "smaps_rollup", "Pss:") for each in tree(pid)) * 1024


def peak(pid: int) -> int:
    """The largest resident memory of any process of the tree, ever or since forget_peak."""
    return max((peak_of(each) for each in tree(pid)), default=0)


def forget_peak(pid: int) -> None:
    """Let the peaks of a process tree begin anew, where the kernel allows it."""
    for each in tree(pid):
        with suppress(OSError):
            (PROC / str(each) / "clear_refs").write_text("5", "ascii")


def _kilobytes(pid: int, file: str, key: str) -> int:
    try:
        text = (PROC / str(pid) / file).read_text("utf-8", "replace")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(key)), 0)


def machine_busy() -> float:
    """CPU seconds that the whole machine has spent working."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        fields = [int(each) for each in file.readline().split()[1:]]
    idle, waiting = fields[3], fields[4]
    return (sum(fields[:8]) - idle - waiting) / TICK


def own_seconds() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def load() -> float:
    """The one-minute load average."""
    return os.getloadavg()[0]
