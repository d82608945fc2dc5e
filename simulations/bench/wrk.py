"""The load generator for small answers, and what its report says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from simulations.bench import install

RATE = re.compile(r"^Requests/sec:\s+([\d.]+)", re.MULTILINE)
DONE = re.compile(r"(\d+) requests in [\d.]+\w+, ([\d.]+)([KMGT]?)B read")
TRANSFER = re.compile(r"^Transfer/sec:\s+([\d.]+)([KMGT]?)B", re.MULTILINE)
LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)\s*$", re.MULTILINE)
FAILED = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
STATUS = re.compile(r"Non-2xx or 3xx responses: (\d+)")
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
BINARY = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class LoadError(Exception):
    """The run measured failures, so it measured nothing."""


def read_report(text: str) -> dict[str, float]:
    """Requests and bytes a second, latencies in seconds.  Raises LoadError."""
    wrong = STATUS.search(text)
    failed = FAILED.search(text)
    connects = int(failed[1]) if failed else 0
    rate, transfer = RATE.search(text), TRANSFER.search(text)
    if wrong or connects or rate is None or transfer is None:
        raise LoadError((wrong or failed or re.match("(?s).*", text))[0])  # type: ignore[index]  # it matches any text
    done = DONE.search(text)
    found = {
        "requests": float(done[1]) if done else 0.0,
        "requests_per_second": float(rate[1]),
        "bytes_per_second": float(transfer[1]) * BINARY[transfer[2]],
        "bytes": float(done[2]) * BINARY[done[3]] if done else 0.0,
        "errors": float(sum(int(each) for each in failed.groups()) if failed else 0),
    }
    for percentile, value, unit in LATENCY.findall(text):
        found[f"p{percentile}"] = float(value) * UNITS[unit]
    return found


def run(url: str, *, seconds: float, connections: int, accept: str = "") -> dict[str, float]:
    """Ask for one URL over keep-alive connections.  Raises LoadError, PeerMissingError."""
    program = install.debian("wrk")
    command: list[str | Path] = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    if accept:
        command += ["-H", f"Accept: {accept}"]
    finished = subprocess.run(
        [*command, "--latency", "--timeout", "30s", url],
        env=install.libraries(program) or None,
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        check=False,
    )
    if finished.returncode:
        raise LoadError(finished.stderr.strip())
    return read_report(finished.stdout)
