"""What documents say is tested is tested: every test that they name is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from cli.environment import ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py|…)(?:::(\w+))?(?:\[[^`\]]*\])?`")


def named() -> Iterator[tuple[str, str, str]]:
    """Iterate over (document, test module, test or "") as they are named."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        module = ""
        for found in NAMED.finditer(page.read_text("utf-8")):
            module = module if found[1] == "…" else found[1]
            yield page.name, module, found[2] or ""


def functions_of(module: str) -> set[str]:
    """Return the functions that a module defines."""
    path = ROOT / module
    if not path.exists():
        return set()
    parsed = ast.walk(ast.parse(path.read_text("utf-8")))
    return {
        each.name for each in parsed if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_that_a_document_names_is_there() -> None:
    found = list(named())
    assert len(found) > 40
    known = {module: functions_of(module) for _, module, _ in found}
    missing = [each for each in found if not known[each[1]] or each[2] not in {"", *known[each[1]]}]
    assert not missing
