"""What a start must not load: each of these costs every node time that few ever need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cli.environment import ROOT

LATE = (
    "alembic",
    "boto3",
    "gnupg",
    "h2",
    "httpx",
    "jwt",
    "libp2p",
    "quart",
    "rich.console",
    "sqlalchemy.dialects.postgresql",
    "zeroconf",
)


@pytest.mark.parametrize("module", ["cli.up", "node.run", "node.service"])
def test_heavy_libraries_come_when_they_are_needed(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{*{LATE!r}}} & {{*sys.modules}}))"
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
