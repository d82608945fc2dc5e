"""The one test command: `python3 -m tests` in a clean clone, `--fast` for about a minute.

Arguments it does not know go to pytest; with a path among them, pytest alone runs, on that path.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cli import environment
from tests import steps

WORKERS = ["-n", "2"]
FAST_MARKS = "not slow and not serial and not postgres"
LEFT_OUT = "conformance, PostgreSQL, simulator seeds, tests marked slow or serial"
COVERAGE = ["--cov", "--cov-branch", "--cov-append", "--cov-report="]
SIMULATION_SEEDS = 20
CHECKS_AT_ONCE = 3  # on two cores; installing clients mostly waits for the network

Arguments = list[str]


def run() -> int:
    """Prepare the environment, run every step, close with the counts.  Return the exit status."""
    options, rest = parse(sys.argv[1:])
    environment.enter(environment.DEVELOPMENT, "tests")
    if any(Path(argument.split("::")[0]).exists() for argument in rest):
        outcomes = [steps.pytest("selected tests", rest)]
    else:
        outcomes = whole(rest, fast=options.fast, coverage=options.coverage)
    text, good = steps.summary(outcomes, LEFT_OUT if options.fast else "")
    sys.stdout.write(text)
    return 0 if good else 1


def parse(arguments: Arguments) -> tuple[argparse.Namespace, Arguments]:
    """Split our own options from pytest's."""
    parser = argparse.ArgumentParser("python -m tests", description=__doc__, allow_abbrev=False)
    parser.add_argument("--fast", action="store_true", help=f"leave out {LEFT_OUT}")
    parser.add_argument("--coverage", action="store_true", help="measure branch coverage")
    return parser.parse_known_args(arguments)


def whole(rest: Arguments, *, fast: bool, coverage: bool) -> list[steps.Outcome]:
    """Run linters and installations side by side, then the tests, one pytest after another."""
    measured = [*rest, *(COVERAGE if coverage else [])]
    Path(".coverage").unlink(missing_ok=True)  # each pytest below appends to it
    outcomes = [each.result() for each in _start_checks(fast=fast)]
    unit = ["--ignore=tests/conformance", *WORKERS, "--dist", "loadgroup", *measured]
    if fast:
        outcomes.append(steps.pytest("tests", ["-m", FAST_MARKS, *unit]))
    else:
        conformance = ["tests/conformance", *WORKERS, "--dist", "loadfile", *measured]
        outcomes += [
            steps.pytest("tests", ["-m", "not serial", *unit]),
            _simulate(),
            steps.pytest("conformance", ["-m", "not serial", *conformance]),
            steps.pytest("serial tests", ["-m", "serial", *measured]),
        ]
    if coverage:
        outcomes.append(steps.check("coverage", [sys.executable, "-m", "coverage", "report"]))
    return outcomes


def _start_checks(*, fast: bool) -> list[Future[steps.Outcome]]:
    scripts = Path(sys.executable).parent
    checks = {
        "ruff format": [str(scripts / "ruff"), "format", "--check", "."],
        "ruff check": [str(scripts / "ruff"), "check", "."],
        "mypy": [sys.executable, "-m", "mypy"],
        "import-linter": [str(scripts / "lint-imports")],
    }
    if not fast:
        clients = {"install clients": [sys.executable, "-m", "tests.conformance.clients"]}
        checks = {**clients, **checks}  # first: it takes longest
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
        return [pool.submit(steps.check, name, command) for name, command in checks.items()]


def _simulate() -> steps.Outcome:
    """Replay histories of partitions, crashes and liars from the first seeds."""
    if importlib.util.find_spec("simulations.__main__") is None:
        reason = "simulations has no command to run seeds with"
        return steps.Outcome("simulator", skipped=[("simulator seeds", reason)])
    seeds = ["--seeds", str(SIMULATION_SEEDS)]
    return steps.check("simulator", [sys.executable, "-m", "simulations", *seeds])


if __name__ == "__main__":
    sys.exit(run())
