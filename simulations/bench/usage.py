"""CPU time and memory of a process and its children, and how busy the rest of the machine is."""

from __future__ import annotations

import os
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


def cpu_of(pid: int) -> float:
    """CPU time of one process without its children; 0.0 if it is gone."""
    fields = stat_of(pid)
    return sum(int(value) for value in fields[11:13]) / TICK if fields else 0.0


def peak_of(pid: int) -> int:
    """The largest resident memory that one process ever had, in bytes."""
    return _kilobytes(pid, "status", "VmHWM:") * 1024


def resident(pid: int) -> int:
    """Resident memory of a process tree in bytes; shared pages are shared out (PSS)."""
    return sum(_kilobytes(each, "smaps_rollup", "Pss:") for each in tree(pid)) * 1024


def peak(pid: int) -> int:
    """The largest resident memory that any process of the tree ever had, in bytes."""
    return max((peak_of(each) for each in tree(pid)), default=0)


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
