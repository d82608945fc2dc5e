"""What a start must not load: each of these costs every node time that few ever need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.environment import ROOT

LATE = (
    "alembic",
    "argon2",
    "boto3",
    "cryptography",
    "gnupg",
    "h2",
    "httpcore",
    "httpx",
    "hypercorn",
    "jinja2",
    "jwt",
    "libp2p",
    "quart",
    "rich.console",
    "sqlalchemy.dialects.postgresql",
    "wasmtime",
    "werkzeug",
    "zeroconf",
)


@pytest.mark.parametrize("module", ["cli.up", "node.run", "node.service"])
def test_heavy_libraries_come_when_they_are_needed(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{*{LATE!r}}} & {{*sys.modules}}))"
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_a_later_start_loads_as_little(tmp_path: Path) -> None:
    """Also what the first start needed: a password's hash, and tables."""
    program = (
        "import sys, trio; from node.config import load; from node.run import run\n"
        "async def main():\n"
        "    stop = trio.Event()\n"
        "    flags = {'data': sys.argv[1], 'mesh.mdns': 'off'}\n"
        "    flags |= {'http.listen': '127.0.0.1:0', 'mesh.listen': '127.0.0.1:0'}\n"
        "    config, _ = load(file=None, environment={}, flags=flags)\n"
        "    await run(config, stop=stop, ready=lambda _: stop.set())\n"
        "trio.run(main)\n"
        f"print(*sorted({{*{LATE!r}}} & {{*sys.modules}}))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    first, later = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert set(first.stdout.split()) <= {"argon2"}
    assert later.stdout.split() == []
