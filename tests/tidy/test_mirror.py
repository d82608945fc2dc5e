"""Tests lie where one looks for them: store/files.py in tests/store/test_files.py."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from cli.environment import ROOT
from formats import discover
from tests.tidy.tree import parsed, product_modules, tracked

EXEMPT_NAMES = {"__init__", "__main__"}
# The simulator is a test itself: whole histories drive it (tests/simulations).
EXEMPT_FOLDERS = ("store/migrations/", "simulations/")

# Tested through commands (tests/cli/test_commands.py), whole requests (tests/node/access/test_gate.py,
# tests/node/api) or the formats that use them.  Lines may only be taken away.
ELSEWHERE = {
    "cli/connection.py",
    "cli/output.py",
    "cli/tokens.py",
    "cli/transfer.py",
    "cli/up.py",
    "cli/users.py",
    "formats/parts.py",
    "formats/repository.py",
    "mesh/syncpeer.py",
    "node/api/artifacts.py",
    "node/api/nodes.py",
    "node/api/repositories.py",
    "node/api/users.py",
    "node/packages/caution.py",
    "node/packages/native.py",
}


def test_every_module_has_a_test_where_one_looks_for_it() -> None:
    """A test of its name, or of its folder's name; else a test of its layer that imports it."""
    tests = set(tracked())
    missing = set()
    for name in product_modules():
        path = Path(name)
        module = ".".join(path.with_suffix("").parts)
        of_its_name = str(Path("tests") / path.with_name(f"test_{path.stem}.py"))
        of_its_folder = str(Path("tests") / path.parent.with_name(f"test_{path.parent.name}.py"))
        exempt = path.stem in EXEMPT_NAMES or name.startswith(EXEMPT_FOLDERS)
        named = bool(tests & {of_its_name, of_its_folder})
        if not (exempt or named or module in _imported(path.parts[0])):
            missing.add(name)
    assert missing <= ELSEWHERE, "\n".join(["no test:", *sorted(missing - ELSEWHERE)])


@cache
def _imported(layer: str) -> frozenset[str]:
    """List what the tests of one layer import, as modules and as names in modules."""
    found: set[str] = set()
    for name in tracked():
        if name.startswith(f"tests/{layer}/") and name.endswith(".py"):
            for node in ast.walk(parsed(name)):
                if isinstance(node, ast.Import):
                    found |= {each.name for each in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return frozenset(found)


def test_every_format_has_its_test_and_its_page() -> None:
    formats = [each.name for each in discover()]
    assert formats
    for name in formats:
        tests = ROOT / "tests" / "formats" / f"test_{name}.py"
        assert tests.exists() or (tests.with_suffix("") / "__init__.py").exists(), name
        assert (ROOT / "docs" / "formats" / f"{name}.md").exists(), name
